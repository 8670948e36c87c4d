"""What a method provides (docs/howto/own_method.md): a small frozen object; everything has a default.

A sweep file's reader asks a method for its settings alone, so torch is imported where it computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.registry import Scalar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from l2t_ray.models import Backbone, TargetNetwork

    Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Shapes:
    """The sizes on which a method's parameters may depend."""

    source_channels: tuple[int, ...]  # of S^m(x); empty without a source
    source_sizes: tuple[int, ...]  # H = W of S^m(x)
    target_channels: tuple[int, ...]  # of T^n(x)
    target_sizes: tuple[int, ...]  # H = W of T^n(x)
    n_classes: int  # of the data set


@dataclass(frozen=True)
class Batch:
    """The inputs of a method's loss: one run, one mini-batch."""

    source: Sequence[Tensor]  # S^m(x), [B, C_m, H_m, W_m] each, without gradient
    target: Sequence[Tensor]  # T^n(x), [B, C_n, H_n, W_n] each
    logits: Tensor  # [B, N]
    labels: Tensor  # [B], or with `augment.mixup` shares of the classes [B, N]
    # the source's for the target's classes in their order, [B, N]; None where it has not learned them
    source_logits: Tensor | None = None
    frozen: Tensors = field(default_factory=dict)  # what `prepare` returned
    progress: float = 0.0  # the share of the epochs that is over, from 0 to less than 1


@dataclass(frozen=True)
class Stage:
    """What an epoch trains."""

    # factor of L_org; at 0, parameters that the method's own loss does not reach stay as they are
    classification: float = 1.0
    # factors of the learning rate by prefix of the parameters' names, the longest one first; 0 keeps a parameter
    rates: Mapping[str, float] = field(default_factory=dict)

    def rate(self, name: str) -> float:
        """Returns a parameter's factor; 1 where no prefix of its name is listed."""
        found = [prefix for prefix in self.rates if name.startswith(prefix)]
        return self.rates[max(found, key=len)] if found else 1.0


@dataclass(frozen=True)
class Method:
    """Cross-entropy, and a further loss if `loss` is overridden: L_org + beta * loss.

    beta is `transfer.beta` if the method names it in `uses`, else 1.
    """

    name: str  # in a sweep file
    # the optional settings that can change its result: "source", "transfer", or single ones ("transfer.beta")
    uses: frozenset[str] = frozenset()
    # its own settings, with defaults; a run's `options:` overrides them
    options: Mapping[str, Scalar] = field(default_factory=dict)
    # whether a step may be recorded as a CUDA graph: `loss` then creates no tensor from Python numbers, draws nothing,
    # and reads no value on the host, and every epoch has the same stage
    capturable: bool = False
    # whether `training.weight_decay` applies; not where `penalty` takes its place
    decays: bool = True
    # whether `loss` reads the source's features or logits of every batch
    watches_source: bool = True

    @property
    def penalizes(self) -> bool:
        """Whether the method overrides `penalty`."""
        return type(self).penalty is not Method.penalty

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """Yields what is wrong between a run's settings, before anything is read; nothing by default.

        Args:
            run: its settings.

        Returns:
            Pairs of a setting and its rule, value and remedy, as in ("target.arch", "must be ..., got vgg9; name ...").
        """
        return ()

    def refuse(self, run: Run, source: Backbone, classes: Sequence[str]) -> str | None:
        """Returns what is wrong with the source network, once its weights are read; None by default.

        Args:
            run: its settings.
            source: the network, with what its file says of it (`classes`, `history`).
            classes: the target's.

        Returns:
            Rule, value and remedy, or None.
        """
        return None

    def target(self, run: Run, n_classes: int, source: Backbone | None) -> TargetNetwork:
        """Returns the network that is trained; by default the one that the settings describe."""
        from l2t_ray.models import build_target
        from l2t_ray.models.precision import operand_type

        operands = operand_type(run.training.precision)
        size, again = run.data.image_size, run.training.recompute
        return build_target(run.target, n_classes, operands, image_size=size, recompute=again)

    def start(self, run: Run, network: TargetNetwork, source: Backbone | None) -> tuple[Tensors, Tensors]:
        """Returns parameters and running statistics with which a run starts instead of random ones.

        By default those of `target.weights` without the classifier, if the run names any.

        Args:
            run: its settings.
            network: what `target` returned.
            source: the frozen network, or None.

        Returns:
            theta and statistics by name.
        """
        if run.target.weights is None:
            return {}, {}
        from l2t_ray.models import load_source

        return without_classifier(network, load_source(run.target, run.data.image_size))

    def extra_parameters(self, run: Run, shapes: Shapes, generator: torch.Generator) -> dict[str, Tensor]:
        """Returns parameters trained with the target, by name, for one run; none by default."""
        return {}

    def prepare(
        self,
        run: Run,
        shapes: Shapes,
        images: Tensor,
        features: Callable[[Tensor], list[Tensor]],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Computes tensors before the first epoch, which then stay fixed and go into checkpoints; none by default.

        Args:
            run: its settings.
            shapes: of both networks.
            images: the run's training images without augmentation, [N, 3, H, W], normalised.
            features: returns S^m(x) of some of them.
            generator: a CPU generator, stream "prepare".

        Returns:
            By name; `loss` finds them in `batch.frozen`.
        """
        return {}

    def study(
        self,
        run: Run,
        source: Backbone,
        batches: Callable[[], Iterable[tuple[Tensor, Tensor]]],
        n_classes: int,
    ) -> dict[str, Tensor]:
        """Computes tensors as `prepare` does, from the whole source and the labels; none by default.

        Args:
            run: its settings.
            source: the frozen network, in eval mode.
            batches: returns the run's training images without augmentation, normalised, [B, 3, H, W], and labels [B].
            n_classes: of the data set.

        Returns:
            By name; `loss` finds them in `batch.frozen`.
        """
        return {}

    def stage(self, progress: float, options: Mapping[str, Scalar]) -> Stage:
        """Returns what an epoch trains; everything by default.

        Args:
            progress: the share of the epochs that is over.
            options: the method's own settings.

        Returns:
            The stage; equal for all runs of a pack.
        """
        return Stage()

    def loss(self, extra: Tensors, batch: Batch, options: Mapping[str, Scalar]) -> Tensor | None:
        """Returns the loss to add to L_org; None by default.

        Args:
            extra: what `extra_parameters` returned, as trained so far.
            batch: one run's features, logits and labels.
            options: the method's own settings.

        Returns:
            A scalar tensor, whose gradients at features, logits and extra parameters autograd computes; or None.
        """
        return None

    def penalty(self, theta: Tensors, start: Tensors, options: Mapping[str, Scalar]) -> Mapping[str, Tensor]:
        """Returns the gradient of a further loss of the parameters alone, such as a decay; none by default.

        Args:
            theta: the parameters, by name.
            start: those with which the run started instead of random ones (`start`).
            options: the method's own settings.

        Returns:
            By the parameters' names.
        """
        return {}


def without_classifier(network: TargetNetwork, given: Backbone) -> tuple[Tensors, Tensors]:
    """Returns a network's weights and running statistics, but for its last layer, under the target's names."""
    theta, statistics = network.values_of(given)
    return {name: p for name, p in theta.items() if not name.startswith("fc.")}, statistics


def number(options: Mapping[str, Scalar], name: str) -> float:
    """Returns an option that is a number."""
    return float(options[name])


def within(
    run: Run, name: str, low: float, high: float = math.inf, *, or_equal: bool = True
) -> Iterable[tuple[str, str]]:
    """Checks the bounds of an option.

    Args:
        run: its settings.
        name: of the option.
        low: the least value.
        high: the largest one.
        or_equal: whether `low` itself is allowed.

    Yields:
        As `Method.laws`.
    """
    value = number(run.options, name)
    if not (low < value <= high or (or_equal and value == low)):
        upper = "" if high == math.inf else f" and <= {high:g}"
        rule = f"must be {'>=' if or_equal else '>'} {low:g}{upper}"
        yield f"options.{name}", f"{rule}, got {run.options[name]}; correct it"


def same_architecture(run: Run) -> Iterable[tuple[str, str]]:
    """Yields, as `Method.laws`, where the target differs in architecture or width from a source that is copied."""
    for name in ("arch", "width"):
        ours, theirs = getattr(run.target, name), getattr(run.source, name)
        if ours != theirs:
            rule = f"must be the source's, {theirs}, for {run.method}, got {ours}"
            yield f"target.{name}", f"{rule}; set target.{name}, or name a source trained with source.{name} {ours}"
    if run.target.weights is not None:
        rule = f"must be left out for {run.method}, which starts from the source"
        yield "target.weights", f"{rule}, got {run.target.weights}; remove it, or take scratch"


def traced_alone(run: Run) -> Iterable[tuple[str, str]]:
    """Yields, as `Method.laws`, where a method's own network is asked for what only the usual passes can do."""
    if run.training.recompute:
        yield "training.recompute", f"must be false for {run.method}, got true; leave it out"
    if run.training.precision == "bf16":
        rule = f"must be float32, tf32 or float64 for {run.method}, got bf16"
        yield "training.precision", f"{rule}; leave it out"
