"""The learner of one run: one training step, and predictions."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from l2t_ray import registry
from l2t_ray.config import Run, reads_source
from l2t_ray.data.augment import IMAGENET, normalize
from l2t_ray.data.streams import seed_torch, stream
from l2t_ray.methods import Batch as MethodBatch
from l2t_ray.methods import FeatureMatching, Method, Shapes, Stage, matching, meta
from l2t_ray.methods.custom_loss import (
    check,
    check_prefixes,
    has_own_loss,
    own_gradients,
    with_penalty,
)
from l2t_ray.methods.hypergrad import Batch, Inner, distance_gradient, logit_gradient
from l2t_ray.models import Backbone, Traced
from l2t_ray.models.precision import parameter_type
from l2t_ray.models.target import Values
from l2t_ray.training.optimizers import adam_, sgd_
from l2t_ray.training.run_tensors import RunTensors
from l2t_ray.training.start import Start, draw_start


class Learner(RunTensors):
    """One run: its tensors, and the step of Algorithm 1.

    Args:
        run: its settings.
        n_classes: of the data set.
        source: the frozen network, or None; it is moved in place.
        device: of all tensors.
        classes: of the data set, by name, where they are known.

    Raises:
        InputError: if the method refuses a run's settings or the source, gives parameters the target's names, or starts
            what the target has not.
    """

    def __init__(
        self,
        run: Run,
        n_classes: int,
        source: Backbone | None,
        device: torch.device,
        classes: Sequence[str] = (),
    ) -> None:
        self.source, dtype = source, parameter_type(run.training.precision)
        follows = run.data.normalize == "from_source" and reads_source(run)
        self.normalization = (source.normalization if follows and source is not None else None) or IMAGENET
        method = registry.METHODS[run.method]
        assert isinstance(method, Method)
        self.method = method
        check(method, run, source, classes)
        if source is not None:
            source.to(device, dtype)
        seed_torch(run.seed, "own.target")
        self.network = method.target(run, n_classes, source)
        self.shapes = Shapes(
            source_channels=source.channels if source is not None else (),
            source_sizes=source.sizes if source is not None else (),
            target_channels=self.network.feature_channels,
            target_sizes=self.network.feature_sizes,
            n_classes=n_classes,
        )
        self.pairs = method.matching(run, self.shapes) if isinstance(method, FeatureMatching) else None
        self.networks = method.networks if isinstance(method, FeatureMatching) else frozenset()
        self.columns = _columns(source, classes, device)
        start = self._draw_start(run)
        super().__init__(start, device, dtype)
        self.extra_names = start.extra_names
        scalars = (torch.zeros((), device=device, dtype=dtype) for _ in range(5))
        self.beta, self.momentum, self.weight_decay, self.meta_lr, self.meta_weight_decay = scalars
        self._begin(run, start)

    def load(self, run: Run) -> None:
        """Takes another run of the same shape in the place of this one, before its first step.

        Args:
            run: it differs in seed and scalar settings alone (`pack_shape`).
        """
        start = self._draw_start(run)
        self.take(start)
        self._begin(run, start)

    def _draw_start(self, run: Run) -> Start:
        return draw_start(run, self.method, self.network, self.source, self.shapes, self.pairs)

    def _begin(self, run: Run, start: Start) -> None:
        self.run = run
        self.started = self._own(start.given) if self.method.penalizes else {}
        reads_beta = {"transfer", "transfer.beta"} & self.method.uses
        self.beta.fill_(run.transfer.beta if reads_beta else 1.0)
        self.momentum.fill_(run.training.momentum)
        self.weight_decay.fill_(run.training.weight_decay if self.method.decays else 0.0)
        self.meta_lr.fill_(run.transfer.meta_lr)
        self.meta_weight_decay.fill_(run.transfer.meta_weight_decay)
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Starts an epoch, counted from 0: the method decides what it trains, and at which rates."""
        self.progress = epoch / self.run.training.epochs
        self.stage: Stage = self.method.stage(self.progress, {**self.method.options, **self.run.options})
        self.generator = stream(self.run.seed, "draws", epoch)
        draws = has_own_loss(self.method) and not self.method.capturable
        self.noise = stream(self.run.seed, "loss", epoch) if draws else None
        check_prefixes(self.method, self.stage.rates, self.theta)
        self.rates: dict[float, list[str]] = {}
        for name in self.theta:
            self.rates.setdefault(self.stage.rate(name), []).append(name)

    def normalized(self, images: Tensor) -> Tensor:
        """Returns bytes [B, 3, H, W] as the networks take them."""
        return normalize(images, self.dtype, self.normalization)

    def prepare(self, images: Tensor) -> None:
        """Computes the tensors that the method freezes, before the first epoch of a run that is not restored.

        Args:
            images: the training images without augmentation, normalised, [N, 3, H, W].
        """
        seed_torch(self.run.seed, "own.prepare")
        generator = stream(self.run.seed, "prepare")
        self.frozen = self._own(self.method.prepare(self.run, self.shapes, images, self._features, generator))

    def study(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        """Computes what the method freezes, too, from the source and labelled images; see `Method.study`."""
        if self.source is not None:
            seed_torch(self.run.seed, "own.study")
            found = self.method.study(self.run, self.source, batches, self.shapes.n_classes)
            self.frozen |= self._own(found)

    def step(self, images: Tensor, labels: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Takes one step of Algorithm 1 on a mini-batch.

        Args:
            images: [B, 3, H, W].
            labels: [B], or shares of the classes [B, N].
            lr: alpha, a scalar.

        Returns:
            L_org before the step, and the number of images classified correctly.
        """
        n_parts = min(self.run.training.accumulate, len(images) // 2)  # batch norm needs two images
        if n_parts > 1:
            return self._accumulate(images.tensor_split(n_parts), labels.tensor_split(n_parts), lr)
        source, source_logits = self._source_outputs(images)
        if self.pairs is None:
            return self._descend(images, labels, lr, source, None, source_logits)
        batch, weights, phi = self._weigh(images, labels, source)
        result = self._descend(images, labels, lr, source, batch)
        if self.networks:
            inner, n_steps = self._inner(lr), self.run.transfer.look_ahead_steps
            at_distances = distance_gradient(self.network, self.pairs, self.theta, self.buffers, batch, inner, n_steps)
            gradients = meta.phi_gradient(phi, weights, at_distances, inner.scale)
            found, moments = self.phi.gather(gradients), (self.first.flat, self.second.flat)
            adam_(self.phi.flat, *moments, found, self.meta_step, self.meta_lr, self.meta_weight_decay)
        return result

    def predict(self, images: Tensor) -> Tensor:
        """Returns logits [B, N] of images [B, 3, H, W] with running statistics."""
        return self.network.predict(self.theta, self.statistics, images)

    def _descend(
        self,
        images: Tensor,
        labels: Tensor,
        lr: Tensor,
        source: Sequence[Tensor],
        batch: Batch | None,
        source_logits: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Takes step 1 of Algorithm 1: SGD on L_total."""
        gradients, loss, n_right = self._gradients(images, labels, source, batch, source_logits)
        self._move(gradients, lr)
        return loss, n_right

    def _accumulate(self, images: Sequence[Tensor], labels: Sequence[Tensor], lr: Tensor) -> tuple[Tensor, Tensor]:
        """Takes step 1 on a batch whose parts are computed one after the other, each with its own batch statistics."""
        n_images = sum(map(len, images))
        total: dict[str, Tensor] = {}
        losses, right = [], []
        for x, y in zip(images, labels, strict=True):
            source, source_logits = self._source_outputs(x)
            batch = None if self.pairs is None else self._weigh(x, y, source)[0]
            gradients, loss, n_right = self._gradients(x, y, source, batch, source_logits)
            share = len(x) / n_images
            for name, gradient in gradients.items():
                total[name] = total[name].add_(gradient, alpha=share) if name in total else gradient * share
            losses.append(loss * share)
            right.append(n_right)
        self._move(total, lr)
        return torch.stack(losses).sum(), torch.stack(right).sum()

    def _weigh(
        self, images: Tensor, labels: Tensor, source: Sequence[Tensor]
    ) -> tuple[Batch, meta.Weights, dict[str, Tensor]]:
        """Returns a batch for the look-ahead, the weights of its distances, and the phi that they depend on."""
        assert self.pairs is not None
        targets = matching.resize_sources(self.pairs, source, self.shapes.target_sizes)
        with torch.enable_grad():
            phi = {name: p.detach().requires_grad_() for name, p in self.phi.items()}
            weights = meta.weigh(self.pairs, phi, source)
        return Batch(images, labels, targets, meta.pixel_weights(weights, self.shapes.target_sizes)), weights, phi

    def _gradients(
        self,
        images: Tensor,
        labels: Tensor,
        source: Sequence[Tensor],
        batch: Batch | None,
        source_logits: Tensor | None,
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Returns the gradient of L_total, L_org, and the number of images classified correctly."""
        values = self._forward(images)
        assert values.logits is not None
        loss = F.cross_entropy(values.logits, labels)
        n_right = (values.logits.argmax(-1) == (labels.argmax(-1) if labels.dim() > 1 else labels)).sum()
        at_logits: Tensor | None = None
        if self.stage.classification:
            at_logits = logit_gradient(values.logits, labels)
            at_logits = at_logits if self.stage.classification == 1 else at_logits * self.stage.classification
        at_features: Sequence[Tensor | None] = [None] * len(values.features)
        gradients: dict[str, Tensor] = {}
        if batch is not None and self.pairs is not None:
            scaled = {n: v * self.beta for n, v in batch.pixel_weights.items()}
            _, at_features, gradients = matching.backward(
                self.pairs, self.theta, values.features, batch.targets, scaled
            )
        elif has_own_loss(self.method):
            if self.noise is not None:  # what the loss draws comes from the run's seed, also after a kill
                torch.manual_seed(int(torch.randint(2**62, (), generator=self.noise)))
            extra, seen = (
                {name: self.theta[name] for name in self.extra_names},
                self._seen(labels, source, source_logits),
            )
            at_features, extra_at_logits, gradients = own_gradients(
                self.method, self.run, self.beta, seen, extra, values.features, values.logits
            )
            both = [g for g in (at_logits, extra_at_logits) if g is not None]
            at_logits = sum(both[1:], both[0]) if both else None
        gradients |= self.network.backward(self.theta, values, at_features, at_logits)
        return gradients, loss, n_right

    def _forward(self, images: Tensor) -> Values:
        """Runs step 1's forward pass, the only one that changes the running statistics."""
        if not isinstance(self.network, Traced) or not self.network.n_draws:
            return self.network.forward(self.theta, images, statistics=self.statistics)
        draws = torch.rand(len(images), self.network.n_draws, generator=self.generator)
        return self.network.forward(
            self.theta, images, statistics=self.statistics, draws=draws.to(self.device, self.dtype)
        )

    def _move(self, gradients: Mapping[str, Tensor], lr: Tensor) -> None:
        """Applies SGD to the parameters that the stage trains."""
        if self.method.penalizes:
            gradients = with_penalty(self.method, self.run, self.theta, self.started, gradients)
        found = self.theta.gather(gradients)
        for rate, names in self.rates.items():
            moved = [n for n in names if self.stage.classification or n in gradients] if rate else []
            own_lr = lr if rate == 1 else lr * rate
            for span in self.theta.spans(moved):
                theta, buffer = self.theta.flat[span], self.buffers.flat[span]
                sgd_(theta, buffer, found[span], own_lr, self.momentum, self.weight_decay)

    def _seen(self, labels: Tensor, source: Sequence[Tensor], source_logits: Tensor | None) -> MethodBatch:
        """Returns the batch for the method's own loss, without the target's outputs."""
        return MethodBatch(
            source=source,
            target=[],
            logits=labels.new_empty(0),
            labels=labels,
            source_logits=source_logits,
            frozen=self.frozen,
            progress=self.progress,
        )

    def _source_outputs(self, images: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Returns S^m(x), [B, C_m, H_m, W_m], where they are read, and the logits for the target's classes, [B, N].

        There are no logits if the source has not learned all of the target's classes.
        """
        watched = has_own_loss(self.method) and self.method.watches_source
        read = "source" in self.method.uses and (self.pairs is not None or watched)
        if not read or self.source is None:
            return [], None
        images = images.contiguous(memory_format=torch.channels_last)
        if self.columns is None or self.pairs is not None:
            return self._features(images), None
        with torch.no_grad():
            maps, logits = self.source.outputs(images)
        assert logits is not None
        return maps, logits[:, self.columns]

    def _features(self, images: Tensor) -> list[Tensor]:
        """Returns S^m(x) of images [B, 3, H, W]."""
        return [] if self.source is None else self.source.features(images)

    def _inner(self, lr: Tensor) -> Inner:
        if self.run.transfer.inner == "published":
            return Inner(lr, self.beta, self.momentum, self.weight_decay)
        return Inner(lr, torch.ones_like(self.beta))


def _columns(source: Backbone | None, classes: Sequence[str], device: torch.device) -> Tensor | None:
    """Returns the places of the target's classes in the source's logits; None if it has not learned all of them."""
    known = source.classes if source is not None else None
    if not known or not classes or not set(classes) <= set(known):
        return None
    return torch.tensor([known.index(name) for name in classes], device=device)
