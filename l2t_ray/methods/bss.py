"""Batch spectral shrinkage (Chen et al., NeurIPS 2019): the smallest singular values of a batch's features shrink."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.methods.finetune import Finetune
from l2t_ray.methods.method import Batch, number, traced_alone, within
from l2t_ray.registry import Scalar

if TYPE_CHECKING:
    from torch import Tensor

    from l2t_ray.models import Backbone, TargetNetwork


@dataclass(frozen=True)
class SpectralShrinkage(Finetune):
    """Fine-tuning that adds the k smallest squared singular values of the batch's features (their eq. 3 and 4).

    L_org + eta (sigma_{-1}^2 + ... + sigma_{-k}^2), with

    | symbol | code | meaning |
    | --- | --- | --- |
    | F | `batch.target[-1]` | what the last layer takes, of a whole batch: [B, C] |
    | sigma_{-i} | | the i-th smallest of F's min(B, C) singular values |
    | eta, k | `eta`, `k` | 0.001 and 1, the paper's |
    """

    watches_source: bool = False

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """Checks also the bounds of the options, and what the passes cannot do."""
        yield from Finetune.laws(self, run)
        yield from traced_alone(run)
        yield from within(run, "eta", 0)
        yield from within(run, "k", 1)

    def target(self, run: Run, n_classes: int, source: Backbone | None) -> TargetNetwork:
        """Returns the network with its last features as a further level."""
        from l2t_ray.models import build
        from l2t_ray.models.headed import Headed

        target = run.target
        return Headed(build(target.arch, target.width, n_classes, run.data.image_size, target.levels))

    def loss(self, extra: Mapping[str, Tensor], batch: Batch, options: Mapping[str, Scalar]) -> Tensor:
        """Returns the sum of the k smallest squares, times eta."""
        import torch

        descending: Tensor = torch.linalg.svdvals(batch.target[-1].flatten(1))
        smallest = descending[-int(options["k"]) :]
        return number(options, "eta") * smallest.square().sum()


METHODS = (SpectralShrinkage("bss", uses=frozenset({"source"}), options={"rate": 1.0, "eta": 0.001, "k": 1}),)
