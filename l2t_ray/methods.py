"""The transfer methods of the thesis, and what a method of one's own has to provide (docs/methods.md).

A method is one small frozen object in the registry. `FeatureMatching` covers the thesis' methods, with or without
meta-networks; any other method states a loss on the two networks' features for one run, in plain torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from l2t_ray.architectures import resolve_pairs
from l2t_ray.config import Run
from l2t_ray.matching import Matching, initial_projections
from l2t_ray.registry import Scalar, register


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
    """

    source: Sequence[Tensor]
    target: Sequence[Tensor]
    logits: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Method:
    """Cross-entropy, and a further loss if `loss` is overridden: L_org + beta * loss.

    Attributes:
        name: what a sweep file calls it.
        uses: the optional settings that can change its result: "source", "transfer", or single ones ("transfer.beta").
        options: settings of its own, with defaults; a run's `options:` overrides them.
        capturable: whether a step may be recorded as a CUDA graph: `loss` then makes no tensor from Python numbers,
            draws nothing, and asks for no value on the host.
    """

    name: str
    uses: frozenset[str] = frozenset()
    options: Mapping[str, Scalar] = field(default_factory=dict)
    capturable: bool = False

    def extra_parameters(self, run: Run, shapes: Shapes, generator: torch.Generator) -> dict[str, Tensor]:
        """Parameters trained with the target, by name, for one run: none by default."""
        return {}

    def loss(self, extra: Mapping[str, Tensor], batch: Batch, options: Mapping[str, Scalar]) -> Tensor | None:
        """The loss to add, a scalar, or None: none by default.

        Args:
            extra: what `extra_parameters` gave, trained so far.
            batch: one run's features, logits and labels.
            options: the method's own settings.

        Returns:
            A scalar tensor; its gradients at features, logits and extra parameters are taken by autograd.
        """
        return None


@dataclass(frozen=True)
class FeatureMatching(Method):
    """L_org + beta L_wfm (thesis eq. 6), whose weights come from the meta-networks that are named.

    Attributes:
        networks: which of "what" (f), "where" (g), "which" (h) are learned by Algorithm 1; none for fixed weights.
    """

    networks: frozenset[str] = frozenset()
    capturable: bool = True

    def matching(self, run: Run, shapes: Shapes) -> Matching:
        """The pairs of a run and their channels."""
        pairs = resolve_pairs(run.transfer.pairs, shapes.source_sizes, shapes.target_sizes)
        return Matching(pairs, shapes.source_channels, shapes.target_channels)

    def extra_parameters(self, run: Run, shapes: Shapes, generator: torch.Generator) -> dict[str, Tensor]:
        """The projections r_theta."""
        return initial_projections(self.matching(run, shapes), generator)


_FIXED = frozenset({"source", "transfer.beta", "transfer.pairs"})

register(Method("scratch", capturable=True))
register(FeatureMatching("ufm", uses=_FIXED))
register(FeatureMatching("l2t_ww", uses=frozenset({"source", "transfer"}), networks=frozenset({"what", "where"})))
register(
    FeatureMatching("l2t_www", uses=frozenset({"source", "transfer"}), networks=frozenset({"what", "where", "which"}))
)
