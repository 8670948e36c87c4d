"""Attention transfer (Zagoruyko and Komodakis, ICLR 2017, arXiv 1612.03928)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.methods.method import Batch, Method, number, within
from l2t_ray.registry import Scalar, resolve_pairs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AttentionTransfer(Method):
    """Makes the activation-based attention maps of levels of equal size alike.

    beta / 2 times the sum over pairs of the mean over images and pixels of (Q_S / |Q_S| - Q_T / |Q_T|)^2, with
    Q = the mean over channels of |F|^power (their section 3.1, eq. 2; beta 1000 and power 2 are from their section 4).
    """

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """Checks that the weight is not negative and the power positive."""
        yield from within(run, "beta", 0)
        yield from within(run, "power", 0, or_equal=False)

    def loss(self, extra: Mapping[str, Tensor], batch: Batch, options: Mapping[str, Scalar]) -> Tensor | None:
        """Returns the weighted distance of the attention maps."""
        import torch

        power = number(options, "power")
        sizes = [[f.shape[-1] for f in features] for features in (batch.source, batch.target)]
        terms = [
            (attention(batch.source[m], power) - attention(batch.target[n], power)).square().mean()
            for m, n in resolve_pairs("one_to_one", *sizes)
        ]
        return number(options, "beta") / 2 * torch.stack(terms).sum()


def attention(features: Tensor, power: float) -> Tensor:
    """Returns attention maps [B, H W] of features [B, C, H, W], of norm 1."""
    from torch.nn import functional as F

    return F.normalize(features.abs().pow(power).mean(1).flatten(1), dim=1)


METHODS = (AttentionTransfer("attention_transfer", uses=frozenset({"source"}), options={"beta": 1000.0, "power": 2.0}),)
