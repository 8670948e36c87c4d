"""Any module as a target: the passes of `target.Network` by `torch.func`.

The chain has its passes written out; here a gradient is a vjp, a tangent a jvp, and the tangent of a gradient a jvp of
a vjp, which computes the forward pass again. Batch norm uses the batch's statistics, which `forward` can record.
"""

import copy
import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from l2t_ray.errors import InputError
from l2t_ray.models.backbone import Backbone, BatchNorm
from l2t_ray.models.target import Adjoints, Tangents, Values

Tensors = Mapping[str, Tensor]
Outputs = tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]]  # maps, logits (none or one), batch norms'


@dataclass
class TracedValues(Values):
    """The results of a forward pass, with the images, the outputs' graph, and the parameters it starts from."""

    leaves: dict[str, Tensor] = field(default_factory=dict)
    outputs: list[Tensor] = field(default_factory=list)  # maps, then the logits


class Traced:
    """A module's passes as pure functions of its parameters.

    Args:
        module: the network; its own parameters are never read.
    """

    def __init__(self, module: Backbone) -> None:
        _check(module)
        _load_forward_mode()
        self.module = module
        self.names = [name for name, _ in module.named_parameters()]
        self._training, self._evaluating = Both(copy.deepcopy(module)).train(), Both(copy.deepcopy(module)).eval()
        self._norms = self._norms_of(self._training.network)
        for norm in self._norms.values():
            norm.is_pure = True

    @property
    def n_draws(self) -> int:
        """Random numbers that the network takes for every image in training."""
        return self.module.n_draws

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of T^n(x)."""
        return self.module.channels

    @property
    def feature_sizes(self) -> tuple[int, ...]:
        """H = W of T^n(x)."""
        return self.module.sizes

    def initial_theta(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws one run's initial parameters.

        Args:
            generator: a CPU generator, stream "init".

        Returns:
            float32 tensors under the module's names.
        """
        module = copy.deepcopy(self.module)
        module.redraw(generator)
        return {name: p.detach() for name, p in module.named_parameters()}

    def initial_statistics(self, like: Tensor) -> dict[str, Tensor]:
        """Returns running means (zero) and variances (one), [C] each, with `like`'s device and type."""
        means = {f"mean.{name}": like.new_zeros(norm.num_features) for name, norm in self._norms.items()}
        return means | {f"var.{name}": like.new_ones(norm.num_features) for name, norm in self._norms.items()}

    def values_of(self, module: Backbone) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns a module's parameters and statistics under this target's names.

        Args:
            module: of the same architecture.

        Returns:
            theta, and running means and variances.
        """
        norms = {name: norm for name, norm in module.named_modules() if isinstance(norm, BatchNorm)}
        means = {f"mean.{name}": norm.running_mean for name, norm in norms.items()}
        variances = {f"var.{name}": norm.running_var for name, norm in norms.items()}
        statistics = {name: s for name, s in (means | variances).items() if s is not None}
        return {name: p.detach() for name, p in module.named_parameters()}, statistics

    def forward(
        self,
        theta: Tensors,
        x: Tensor,
        *,
        statistics: Tensors | None = None,
        n_levels: int | None = None,
        draws: Tensor | None = None,
    ) -> Values:
        """Computes the network's values with batch statistics; see `Chain.forward`.

        Args:
            theta: parameters.
            x: images [B, 3, 32, 32].
            statistics: running mean and variance to update in place, or None.
            n_levels: stop after this many levels, without logits.
            draws: for a random network, uniform within [0, 1), [B, n_draws].

        Returns:
            The values; `backward` can use them once.
        """
        inputs = [x] if draws is None else [x, draws]
        with torch.enable_grad():
            leaves = {name: theta[name].detach().requires_grad_(self.trains(name)) for name in self.names}
            given = leaves if statistics is None else leaves | self._running(statistics)
            before = self._left_alone()
            maps, logits, noted = self._outputs(given, inputs, n_levels)
            self._check_left_alone(before)
        if statistics is not None:
            note_statistics({n: norm for n, norm in self._norms.items() if norm.training}, noted, statistics)
        return TracedValues(
            inputs=inputs,
            features=[m.detach() for m in maps],
            logits=logits[0].detach() if logits else None,
            leaves=leaves,
            outputs=[*maps, *logits],
        )

    def backward(
        self,
        theta: Tensors,
        values: Values,
        feature_gradients: Sequence[Tensor | None],
        logit_gradient: Tensor | None = None,
        adjoints: Adjoints | None = None,
    ) -> dict[str, Tensor]:
        """Returns the gradient at theta; see `Chain.backward`. A forward pass' values can be used once."""
        assert isinstance(values, TracedValues)
        assert values.outputs, "these values have been used"
        if adjoints is not None:
            adjoints.features, adjoints.logits = feature_gradients, logit_gradient
        given = [*feature_gradients[: len(values.features)], logit_gradient]
        reached = [(out, g) for out, g in zip(values.outputs, given, strict=False) if g is not None]
        if not reached:
            return {}
        leaves = {name: leaf for name, leaf in values.leaves.items() if leaf.requires_grad}
        reached = [(out, g) for out, g in reached if out.requires_grad]
        own = list(leaves.values())
        gradients = torch.autograd.grad([o for o, _ in reached], own, [g for _, g in reached], allow_unused=True)
        values.outputs.clear()  # their graph is gone
        return {name: g for name, g in zip(leaves, gradients, strict=True) if g is not None}

    def tangent(
        self,
        theta: Tensors,
        direction: Tensors,
        values: Values,
        *,
        adjoints: Adjoints | None = None,
        n_levels: int | None = None,
    ) -> Tangents:
        """Returns the derivatives of features and logits along a direction; see `Chain.tangent`."""
        with sdpa_kernel(SDPBackend.MATH):  # the fused attention has no forward-mode derivative
            maps, logits = torch.func.jvp(
                lambda own: self._outputs(own, values.inputs, n_levels)[:2],
                (self._own(theta),),
                (self._own(direction),),
            )[1]
        return Tangents(features=maps, logits=logits[0] if logits else None)

    def backward_tangent(
        self,
        theta: Tensors,
        direction: Tensors,
        values: Values,
        adjoints: Adjoints,
        tangents: Tangents,
        feature_tangents: Sequence[Tensor | None],
        logit_tangent: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Returns the derivative of `backward`'s result along a direction; see `Chain.backward_tangent`."""
        n_levels = len(values.features) if logit_tangent is None else None
        places = [n for n, gradient in enumerate(adjoints.features) if gradient is not None]
        gradients = [gradient for gradient in (*adjoints.features, adjoints.logits) if gradient is not None]
        moves = [tangent for tangent in (*feature_tangents, logit_tangent) if tangent is not None]

        def gradient(own: dict[str, Tensor], at_outputs: list[Tensor]) -> dict[str, Tensor]:
            def reached(own: dict[str, Tensor]) -> list[Tensor]:
                maps, logits, _ = self._outputs(own, values.inputs, n_levels)
                return [*(maps[n] for n in places), *logits]

            pull = torch.func.vjp(reached, own)[1]
            return dict(pull(at_outputs)[0])

        with sdpa_kernel(SDPBackend.MATH):
            return dict(torch.func.jvp(gradient, (self._own(theta), gradients), (self._own(direction), moves))[1])

    def predict(self, theta: Tensors, statistics: Tensors, x: Tensor) -> Tensor:
        """Returns logits [B, N] with running statistics; see `Chain.predict`."""
        return self._evaluating.outputs(self._own(theta) | self._all_running(statistics), None, x)[1][0]

    def trains(self, name: str) -> bool:
        """Whether a parameter gets a gradient."""
        return True

    def _left_alone(self) -> dict[str, object]:
        """Returns marks of what a pass must not change."""
        marks = {name: (id(buffer), buffer._version) for name, buffer in self._training.network.named_buffers()}
        return {**marks, "": torch.get_rng_state().numpy().tobytes()}

    def _check_left_alone(self, before: Mapping[str, object]) -> None:
        """Refuses a pass that has drawn, or changed a buffer: passes are repeated, and predictions use a copy."""
        changed = [name for name, mark in self._left_alone().items() if mark != before[name]]
        if "" in changed:
            raise InputError(f"{self.module.arch}: features must draw nothing; take `draws` (docs/methods.md)")
        if changed:
            rule = "must leave its buffers as they are, as predictions are made without what it changes"
            remedy = "leave that out, or use l2t_ray.models.BatchNorm for running statistics"
            raise InputError(f"{self.module.arch}: {rule}, got changed ones ({changed[0]}); {remedy}")

    def _running(self, statistics: Tensors) -> dict[str, Tensor]:
        """Returns the buffers that norms read in training; none by default."""
        return {}

    def _all_running(self, statistics: Tensors) -> dict[str, Tensor]:
        """Returns running means and variances under the buffers' names."""
        pairs = (("running_mean", "mean"), ("running_var", "var"))
        return {f"{name}.{ours}": statistics[f"{theirs}.{name}"] for name in self._norms for ours, theirs in pairs}

    @staticmethod
    def _norms_of(network: nn.Module) -> dict[str, BatchNorm]:
        return {name: norm for name, norm in network.named_modules() if isinstance(norm, BatchNorm)}

    def _own(self, tensors: Tensors) -> dict[str, Tensor]:
        return {name: tensors[name] for name in self.names}

    def _outputs(self, own: dict[str, Tensor], inputs: Sequence[Tensor], n_levels: int | None) -> Outputs:
        maps, logits = self._training.outputs(own, n_levels, *inputs)
        noted = [norm.noted for norm in self._norms.values() if norm.noted is not None]
        for norm in self._norms.values():
            norm.noted = None  # the next pass may have fewer levels
        return maps, logits, noted


def note_statistics(
    norms: Mapping[str, BatchNorm], noted: Sequence[tuple[Tensor, Tensor]], statistics: Tensors
) -> None:
    """Moves running means and variances towards a batch's, in place.

    Args:
        norms: by name.
        noted: the batch's mean and variance of each.
        statistics: `mean.NAME` and `var.NAME` of each.
    """
    for (name, norm), (mean, variance) in zip(norms.items(), noted, strict=True):
        assert norm.momentum is not None
        statistics[f"mean.{name}"].lerp_(mean.detach(), norm.momentum)
        statistics[f"var.{name}"].lerp_(variance.detach(), norm.momentum)


def _check(module: Backbone) -> None:
    """Refuses layers that change or draw in a forward pass: passes are repeated."""
    for name, part in module.named_modules():
        if isinstance(part, _NormBase) and part.track_running_stats and not isinstance(part, BatchNorm):
            rule = "must leave its running statistics to the target"
            raise InputError(f"{name}: {rule}, got {type(part).__name__}; use l2t_ray.models.BatchNorm")
        if isinstance(part, BatchNorm) and part.momentum is None:
            raise InputError(f"{name}: momentum must be a number, got None; leave it out")
        if isinstance(part, _DropoutNd) and part.p:
            raise InputError(f"{name}: must draw nothing, got {type(part).__name__}; take `draws` (docs/methods.md)")


class Both(nn.Module):
    """A network that returns maps and logits together, as `functional_call` needs it."""

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network = network

    def forward(self, n_levels: int | None, *inputs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Returns maps, and logits if all levels are asked for."""
        x, *draws = inputs
        maps, logits = self.network.outputs(x, n_levels, *draws)
        return maps, [] if logits is None else [logits]

    def outputs(self, state: Tensors, n_levels: int | None, *inputs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Returns what `forward` computes with these parameters and statistics."""
        named = {f"network.{name}": tensor for name, tensor in state.items()}
        maps, logits = torch.func.functional_call(self, named, (n_levels, *inputs))
        return maps, logits


@functools.cache
def _load_forward_mode() -> None:
    """Runs a first jvp, in which torch compiles its decompositions and warns of a function that it uses itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.script.*", FutureWarning)
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))
