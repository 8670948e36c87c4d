"""The learner of one pack of K runs: its state, one training step, and predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.data.streams import stream
from l2t_ray.methods import Batch as MethodBatch
from l2t_ray.methods import FeatureMatching, Method, Shapes, Stage, matching, meta
from l2t_ray.methods.custom_loss import check, check_names, has_own_loss, own_gradients
from l2t_ray.methods.hypergrad import Batch, Inner, distance_gradient, logit_gradient
from l2t_ray.models import Backbone, Traced
from l2t_ray.models.convolutions import per_channel
from l2t_ray.models.precision import parameter_type
from l2t_ray.models.target import Values
from l2t_ray.training.optimizers import adam_, sgd_, zero_moments

RunState = dict[str, Any]
_TENSORS = ("theta", "buffers", "phi", "moments")


class Learner:
    """K runs of one shape: parameters, optimizer states, and the step of Algorithm 1.

    Args:
        runs: settings; they may differ in seeds and scalars alone.
        n_classes: of the data set.
        source: the frozen network, or None; it is moved in place.
        device: of all tensors.
        classes: of the data set, by name, where they are known.

    Raises:
        InputError: if the method refuses a run's settings or the source, or gives parameters the target's names.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        n_classes: int,
        source: Backbone | None,
        device: torch.device,
        classes: Sequence[str] = (),
    ) -> None:
        first = runs[0]
        self.runs, self.source, self.device, self.n_runs = runs, source, device, len(runs)
        self.dtype = parameter_type(first.training.precision)
        method = registry.METHODS[first.method]
        assert isinstance(method, Method)
        self.method = method
        check(method, first, source, classes)
        if source is not None:
            source.to(device, self.dtype)
        self.network = method.target(first, n_classes, source)
        self.shapes = Shapes(
            source_channels=source.channels if source is not None else (),
            source_sizes=source.sizes if source is not None else (),
            target_channels=self.network.feature_channels,
            target_sizes=self.network.feature_sizes,
            n_classes=n_classes,
        )
        self.pairs = method.matching(first, self.shapes) if isinstance(method, FeatureMatching) else None
        self.networks = method.networks if isinstance(method, FeatureMatching) else frozenset()
        started = [method.start(run, self.network, source) for run in runs]
        drawn = [self.network.initial_theta(stream(run.seed, "init")) for run in runs]
        of_network = [{**one, **theta} for one, (theta, _) in zip(drawn, started, strict=True)]
        of_method = [method.extra_parameters(run, self.shapes, stream(run.seed, "init.transfer")) for run in runs]
        check_names(method, of_network[0], of_method[0])
        self.theta = self._stack([{**one, **other} for one, other in zip(of_network, of_method, strict=True)])
        self.extra_names = [*of_method[0]]
        self.buffers = {name: torch.zeros_like(p) for name, p in self.theta.items()}
        self.statistics = self.network.initial_statistics(self.n_runs, self.theta["fc.bias"])
        for name in started[0][1]:
            self.statistics[name].copy_(torch.cat([statistics[name] for _, statistics in started]))
        self.frozen: dict[str, Tensor] = {}
        self.columns = _columns(source, classes, device)
        self.phi = self._stack([self._initial_phi(run) for run in runs])
        self.moments = zero_moments(self.phi)
        self.meta_step = torch.zeros((), device=device, dtype=self.dtype)
        reads_beta = {"transfer", "transfer.beta"} & method.uses
        self.beta = self._scalars([run.transfer.beta if reads_beta else 1.0 for run in runs])
        self.momentum = self._scalars([run.training.momentum for run in runs])
        self.weight_decay = self._scalars([run.training.weight_decay for run in runs])
        self.meta_lr = self._scalars([run.transfer.meta_lr for run in runs])
        self.meta_weight_decay = self._scalars([run.transfer.meta_weight_decay for run in runs])
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Starts an epoch, counted from 0: the method decides what it trains, and at which rates."""
        first = self.runs[0]
        self.progress = epoch / first.training.epochs
        self.stage: Stage = self.method.stage(self.progress, {**self.method.options, **first.options})
        self.generators = [stream(run.seed, "draws", epoch) for run in self.runs]
        self.rates: dict[float, list[str]] = {}
        for name in self.theta:
            self.rates.setdefault(self.stage.rate(name), []).append(name)

    def prepare(self, images: Tensor) -> None:
        """Computes the tensors that the method freezes, before the first epoch of a run that is not restored.

        Args:
            images: each run's training images without augmentation, normalised, [K, N, 3, 32, 32].
        """
        made = [
            self.method.prepare(run, self.shapes, images[k], self._features, stream(run.seed, "prepare"))
            for k, run in enumerate(self.runs)
        ]
        self.frozen = self._stack(made)

    def step(self, images: Tensor, labels: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Takes one step of Algorithm 1 on a mini-batch of every run.

        Args:
            images: [B, K*3, 32, 32].
            labels: [K, B].
            lr: alpha, [K].

        Returns:
            L_org before the step, and the number of images classified correctly, [K] each.
        """
        source = self._source_features(images)
        if self.pairs is None:
            return self._descend(images, labels, lr, source, None)
        targets = matching.resize_sources(self.pairs, source, self.shapes.target_sizes)
        with torch.enable_grad():
            phi = {name: p.detach().requires_grad_() for name, p in self.phi.items()}
            weights = meta.weigh(self.pairs, phi, source)
        batch = Batch(images, labels, targets, meta.pixel_weights(weights, self.shapes.target_sizes))
        result = self._descend(images, labels, lr, source, batch)
        if self.networks:
            inner, n_steps = self._inner(lr), self.runs[0].transfer.look_ahead_steps
            at_distances = distance_gradient(self.network, self.pairs, self.theta, self.buffers, batch, inner, n_steps)
            gradients = meta.phi_gradient(phi, weights, at_distances, inner.scale)
            adam_(self.phi, self.moments, gradients, self.meta_step, self.meta_lr, self.meta_weight_decay)
        return result

    def predict(self, images: Tensor) -> Tensor:
        """Returns logits [K, B, N] with running statistics; images: common [B, 3, 32, 32] or own [B, K*3, 32, 32]."""
        n_repeats = 3 * self.n_runs // images.shape[1]
        return self.network.predict(self.theta, self.statistics, images.repeat(1, n_repeats, 1, 1))

    def finite(self) -> Tensor:
        """Returns whether every parameter of each run, trained or frozen, is finite, [K]."""
        held = (*self.theta.values(), *self.phi.values(), *self.frozen.values())
        sums = [p.reshape(self.n_runs, -1).sum(1) for p in held]
        return torch.stack(sums).isfinite().all(0)

    def tensors(self) -> list[Tensor]:
        """Returns every tensor that a step changes, in place."""
        groups = [getattr(self, group) for group in (*_TENSORS, "statistics")]
        return [*(tensor for group in groups for tensor in group.values()), self.meta_step]

    def state(self, run: int) -> RunState:
        """Returns one run's tensors, on the CPU, as `restore` takes them."""
        state: RunState = {
            group: {name: p[run].cpu().clone() for name, p in getattr(self, group).items()} for group in _TENSORS
        }
        state["frozen"] = {name: p[run].cpu().clone() for name, p in self.frozen.items()}
        state["statistics"] = {name: s.view(self.n_runs, -1)[run].cpu().clone() for name, s in self.statistics.items()}
        state["meta_step"] = float(self.meta_step)
        return state

    def restore(self, states: Sequence[RunState]) -> None:
        """Continues from the states that `state` gave, one for each run."""
        self.frozen = self._stack([state.get("frozen", {}) for state in states])
        for run, state in enumerate(states):
            for group in _TENSORS:
                for name, p in getattr(self, group).items():
                    p[run].copy_(state[group][name])
            for name, s in self.statistics.items():
                s.view(self.n_runs, -1)[run].copy_(state["statistics"][name])
            self.meta_step.fill_(state["meta_step"])

    def _descend(
        self, images: Tensor, labels: Tensor, lr: Tensor, source: Sequence[Tensor], batch: Batch | None
    ) -> tuple[Tensor, Tensor]:
        """Takes step 1 of Algorithm 1: SGD on L_total."""
        values = self._forward(images)
        assert values.logits is not None
        loss = F.cross_entropy(values.logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels).mean(1)
        n_right = (values.logits.argmax(-1) == labels).sum(1)
        at_logits: Tensor | None = None
        if self.stage.classification:
            at_logits = logit_gradient(values.logits, labels)
            at_logits = at_logits if self.stage.classification == 1 else at_logits * self.stage.classification
        at_features: Sequence[Tensor | None] = [None] * len(values.features)
        gradients: dict[str, Tensor] = {}
        if batch is not None and self.pairs is not None:
            scaled = {n: v * per_channel(self.beta, v) for n, v in batch.pixel_weights.items()}
            distances = matching.differences(self.pairs, self.theta, values.features, batch.targets)
            at_features, gradients = matching.backward(self.pairs, self.theta, values.features, distances, scaled)
        elif has_own_loss(self.method):
            extra, seen = {name: self.theta[name] for name in self.extra_names}, self._seen(labels, source)
            at_features, extra_at_logits, gradients = own_gradients(
                self.method, self.runs, self.beta, seen, extra, values.features, values.logits
            )
            both = [g for g in (at_logits, extra_at_logits) if g is not None]
            at_logits = sum(both[1:], both[0]) if both else None
        gradients |= self.network.backward(self.theta, values, at_features, at_logits)
        self._move(gradients, lr)
        return loss, n_right

    def _forward(self, images: Tensor) -> Values:
        """Runs step 1's forward pass, the only one that changes the running statistics."""
        if not isinstance(self.network, Traced) or not self.network.n_draws:
            return self.network.forward(self.theta, images, statistics=self.statistics)
        shape = images.shape[0], self.network.n_draws
        draws = torch.cat([torch.rand(shape, generator=generator) for generator in self.generators], 1)
        return self.network.forward(
            self.theta, images, statistics=self.statistics, draws=draws.to(self.device, self.dtype)
        )

    def _move(self, gradients: Mapping[str, Tensor], lr: Tensor) -> None:
        """Applies SGD to the parameters that the stage trains."""
        for rate, names in self.rates.items():
            moved = [n for n in names if self.stage.classification or n in gradients] if rate else []
            theta = {name: self.theta[name] for name in moved}
            sgd_(theta, self.buffers, gradients, lr if rate == 1 else lr * rate, self.momentum, self.weight_decay)

    def _seen(self, labels: Tensor, source: Sequence[Tensor]) -> list[MethodBatch]:
        """Returns each run's batch for the method's own loss, without the target's outputs."""
        source_logits = self._source_logits(source)
        return [
            MethodBatch(
                source=[s[:, k] for s in source],
                target=[],
                logits=labels.new_empty(0),
                labels=labels[k],
                source_logits=None if source_logits is None else source_logits[:, k],
                frozen={name: p[k] for name, p in self.frozen.items()},
                progress=self.progress,
            )
            for k in range(self.n_runs)
        ]

    def _source_features(self, images: Tensor) -> list[Tensor]:
        """Returns S^m(x), [B, K, C_m, H_m, W_m]."""
        if "source" not in self.method.uses or (self.pairs is None and not has_own_loss(self.method)):
            return []
        n_images = images.shape[0]
        flat = images.unflatten(1, (self.n_runs, 3)).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return [s.unflatten(0, (n_images, self.n_runs)) for s in self._features(flat)]

    def _features(self, images: Tensor) -> list[Tensor]:
        """Returns S^m(x) of images [B, 3, 32, 32]."""
        return [] if self.source is None else self.source.features(images)

    def _source_logits(self, features: Sequence[Tensor]) -> Tensor | None:
        """Returns the source's logits for the target's classes, [B, K, N]; None if it has not learned all of them."""
        if self.source is None or self.columns is None or not features:
            return None
        last = features[-1]
        with torch.no_grad():
            logits: Tensor = self.source.classify(last.flatten(0, 1))[:, self.columns]
        by_run: Tensor = logits.unflatten(0, last.shape[:2])
        return by_run

    def _inner(self, lr: Tensor) -> Inner:
        if self.runs[0].transfer.inner == "published":
            return Inner(lr, self.beta, self.momentum, self.weight_decay)
        return Inner(lr, torch.ones_like(self.beta))

    def _initial_phi(self, run: Run) -> dict[str, Tensor]:
        if self.pairs is None or not self.networks:
            return {}
        return meta.initial_phi(self.pairs, self.networks, self.shapes.source_sizes, stream(run.seed, "init.meta"))

    def _stack(self, by_run: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        names = by_run[0]
        return {n: torch.stack([run[n] for run in by_run]).to(self.device, self.dtype) for n in names}

    def _scalars(self, by_run: Sequence[float]) -> Tensor:
        return torch.tensor(by_run, dtype=self.dtype, device=self.device)


def _columns(source: Backbone | None, classes: Sequence[str], device: torch.device) -> Tensor | None:
    """Returns the places of the target's classes in the source's logits; None if it has not learned all of them."""
    known = source.classes if source is not None else None
    if not known or not classes or not set(classes) <= set(known):
        return None
    return torch.tensor([known.index(name) for name in classes], device=device)
