"""What a method has to provide (docs/methods.md): a small frozen object, everything with a default.

Reading a sweep file asks a method for its settings alone, so torch is imported where it computes.
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
    """What a method may size its parameters by.

    Attributes:
        source_channels: channels of S^m(x); empty without a source.
        source_sizes: H = W of S^m(x).
        target_channels: channels of T^n(x).
        target_sizes: H = W of T^n(x).
        n_classes: classes of the data set.
    """

    source_channels: tuple[int, ...]
    source_sizes: tuple[int, ...]
    target_channels: tuple[int, ...]
    target_sizes: tuple[int, ...]
    n_classes: int


@dataclass(frozen=True)
class Batch:
    """What a method's loss sees: one run, one mini-batch.

    Attributes:
        source: S^m(x), [B, C_m, H_m, W_m] each, without gradient.
        target: T^n(x), [B, C_n, H_n, W_n] each.
        logits: [B, N].
        labels: [B].
        source_logits: the source's for the target's classes in their order, [B, N]; None where it has not learned them.
        frozen: what `prepare` gave.
        progress: the share of the epochs that is over, from 0 at the first to less than 1.
    """

    source: Sequence[Tensor]
    target: Sequence[Tensor]
    logits: Tensor
    labels: Tensor
    source_logits: Tensor | None = None
    frozen: Tensors = field(default_factory=dict)
    progress: float = 0.0


@dataclass(frozen=True)
class Stage:
    """What an epoch trains.

    Attributes:
        classification: factor of L_org; at 0, parameters that the method's own loss does not reach stay as they are.
        rates: factors of the learning rate by the beginning of parameters' names, of which the longest counts; at 0 a
            parameter stays as it is.
    """

    classification: float = 1.0
    rates: Mapping[str, float] = field(default_factory=dict)

    def rate(self, name: str) -> float:
        """A parameter's factor, 1 unless something else is said."""
        found = [prefix for prefix in self.rates if name.startswith(prefix)]
        return self.rates[max(found, key=len)] if found else 1.0


@dataclass(frozen=True)
class Method:
    """Cross-entropy, and a further loss if `loss` is overridden: L_org + beta * loss.

    beta is `transfer.beta` if the method names it in `uses`, else 1.

    Attributes:
        name: what a sweep file calls it.
        uses: the optional settings that can change its result: "source", "transfer", or single ones ("transfer.beta").
        options: settings of its own, with defaults; a run's `options:` overrides them.
        capturable: whether a step may be recorded as a CUDA graph: `loss` then makes no tensor from Python numbers,
            draws nothing, and asks for no value on the host, and every epoch has the same stage.
    """

    name: str
    uses: frozenset[str] = frozenset()
    options: Mapping[str, Scalar] = field(default_factory=dict)
    capturable: bool = False

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """What is wrong between a run's settings, as far as it can be told before anything is read: nothing by default.

        Args:
            run: its settings.

        Returns:
            (setting, law and value; remedy) for each: ("target.arch", "must be ..., got vgg9; name ...").
        """
        return ()

    def refuse(self, run: Run, source: Backbone, classes: Sequence[str]) -> str | None:
        """What is wrong with the source network, once its weights are read: nothing by default.

        Args:
            run: its settings.
            source: the network, with what its file tells (`classes`, `history`).
            classes: the target's.

        Returns:
            Law, value and remedy, or None.
        """
        return None

    def target(self, run: Run, n_classes: int, source: Backbone | None) -> TargetNetwork:
        """The network that is trained: the settings' own by default."""
        from l2t_ray.models import build_target
        from l2t_ray.models.precision import operand_type

        return build_target(run.target, n_classes, operand_type(run.training.precision))

    def start(self, run: Run, network: TargetNetwork, source: Backbone | None) -> tuple[Tensors, Tensors]:
        """Parameters and running statistics with which a run starts in the place of drawn ones: none by default.

        Args:
            run: its settings.
            network: what `target` gave.
            source: the frozen network, or None.

        Returns:
            theta and statistics by name, without the axis K.
        """
        return {}, {}

    def extra_parameters(self, run: Run, shapes: Shapes, generator: torch.Generator) -> dict[str, Tensor]:
        """Parameters trained with the target, by name, for one run: none by default."""
        return {}

    def prepare(
        self,
        run: Run,
        shapes: Shapes,
        images: Tensor,
        features: Callable[[Tensor], list[Tensor]],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Tensors made once before the first epoch, frozen then, kept in checkpoints: none by default.

        Args:
            run: its settings.
            shapes: of both networks.
            images: the run's training images without augmentation, [N, 3, 32, 32], normalised.
            features: gives S^m(x) of some of them.
            generator: a CPU generator, stream "prepare".

        Returns:
            By name, without the axis K; they reach `loss` as `batch.frozen`.
        """
        return {}

    def stage(self, progress: float, options: Mapping[str, Scalar]) -> Stage:
        """What an epoch trains: everything, by default.

        Args:
            progress: the share of the epochs that is over.
            options: the method's own settings.

        Returns:
            The stage; equal for all runs of a pack.
        """
        return Stage()

    def loss(self, extra: Tensors, batch: Batch, options: Mapping[str, Scalar]) -> Tensor | None:
        """The loss to add, a scalar, or None: none by default.

        Args:
            extra: what `extra_parameters` gave, trained so far.
            batch: one run's features, logits and labels.
            options: the method's own settings.

        Returns:
            A scalar tensor; its gradients at features, logits and extra parameters are taken by autograd.
        """
        return None


def number(options: Mapping[str, Scalar], name: str) -> float:
    """An option that is a number."""
    return float(options[name])


def within(
    run: Run, name: str, low: float, high: float = math.inf, *, or_equal: bool = True
) -> Iterable[tuple[str, str]]:
    """The law of an option that has bounds.

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
        law = f"must be {'>=' if or_equal else '>'} {low:g}{upper}"
        yield f"options.{name}", f"{law}, got {run.options[name]}; correct it"


def same_architecture(run: Run) -> Iterable[tuple[str, str]]:
    """The law of methods that copy the source: the target is of its architecture and width.

    Args:
        run: its settings.

    Yields:
        As `Method.laws`.
    """
    for name in ("arch", "width"):
        ours, theirs = getattr(run.target, name), getattr(run.source, name)
        if ours != theirs:
            law = f"must be the source's, {theirs}, for {run.method}, got {ours}"
            yield f"target.{name}", f"{law}; set target.{name}, or name a source trained with source.{name} {ours}"
