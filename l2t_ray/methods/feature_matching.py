"""The methods of the thesis: `scratch`, and feature matching with fixed or learned weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.methods.method import Method, Shapes
from l2t_ray.registry import resolve_pairs

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from l2t_ray.methods.matching import Matching

NETWORKS = frozenset({"what", "where", "which"})


@dataclass(frozen=True)
class FeatureMatching(Method):
    """L_org + beta L_wfm (thesis eq. 6), with weights that are fixed or learned by meta-networks."""

    capturable: bool = True
    # which of "what" (f), "where" (g), "which" (h) Algorithm 1 learns; none for fixed weights
    networks: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.networks <= NETWORKS or type(self).loss is not Method.loss:
            rule = f"{self.name}: a FeatureMatching must have networks of {', '.join(sorted(NETWORKS))} and no loss"
            raise TypeError(f"{rule} of its own; subclass Method for one")

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """Checks that a look-ahead has the whole batch."""
        if self.networks and run.training.accumulate > 1:
            rule = f"must be 1 for {self.name}, whose look-ahead takes the whole batch, got {run.training.accumulate}"
            yield "training.accumulate", f"{rule}; leave it out, or save memory by training.recompute"

    def matching(self, run: Run, shapes: Shapes) -> Matching:
        """Returns the pairs of a run and their channels."""
        from l2t_ray.methods.matching import Matching

        pairs = resolve_pairs(run.transfer.pairs, shapes.source_sizes, shapes.target_sizes)
        return Matching(pairs, shapes.source_channels, shapes.target_channels)

    def extra_parameters(self, run: Run, shapes: Shapes, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws the projections r_theta."""
        from l2t_ray.methods.matching import initial_projections

        return initial_projections(self.matching(run, shapes), generator)


_FIXED = frozenset({"source", "transfer.beta", "transfer.pairs"})

_LEARNED = frozenset({"source", "transfer"})

METHODS = (
    Method("scratch", capturable=True),
    FeatureMatching("ufm", uses=_FIXED),
    FeatureMatching("l2t_ww", uses=_LEARNED, networks=frozenset({"what", "where"})),
    FeatureMatching("l2t_www", uses=_LEARNED, networks=frozenset({"what", "where", "which"})),
)
