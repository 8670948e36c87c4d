"""L2-SP (Li, Grandvalet and Davoine, ICML 2018, arXiv 1802.01483): a decay towards the source's weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.methods.finetune import Finetune
from l2t_ray.methods.method import number, within
from l2t_ray.registry import Scalar

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class L2SP(Finetune):
    """Fine-tuning on L_org + alpha / 2 |w_S - w_S^0|^2 + beta / 2 |w_new|^2 (their eq. 4).

    | symbol | code | meaning |
    | --- | --- | --- |
    | w_S^0 | `start` | the source's parameters but for the classifier, those of batch norm included |
    | w_S | `theta` | the same parameters as they are trained |
    | w_new | `fc.weight`, `fc.bias` | the new classifier |

    `training.weight_decay` does not apply: the two terms take its place. The paper fixes beta at 0.01 and chooses alpha
    by validation; TLlib takes 0.01 for both.
    """

    decays: bool = False

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """Checks also that neither factor is negative."""
        yield from Finetune.laws(self, run)
        for name in ("alpha", "beta"):
            yield from within(run, name, 0)

    def penalty(
        self, theta: Mapping[str, Tensor], start: Mapping[str, Tensor], options: Mapping[str, Scalar]
    ) -> Mapping[str, Tensor]:
        """Returns the gradient of both terms."""
        return decay_towards(theta, start, number(options, "alpha"), number(options, "beta"))


def decay_towards(
    theta: Mapping[str, Tensor], start: Mapping[str, Tensor], alpha: float, beta: float
) -> dict[str, Tensor]:
    """Returns alpha (w - w^0) for the parameters that a run started with, and beta w for the classifier.

    Args:
        theta: all parameters.
        start: those that a run started with instead of random ones.
        alpha: factor of the first term; at 0 it is left out.
        beta: factor of the second.
    """
    copied = {name: alpha * (theta[name] - first) for name, first in start.items()} if alpha else {}
    return copied | {name: beta * p for name, p in theta.items() if name.startswith("fc.")}


METHODS = (L2SP("l2_sp", uses=frozenset({"source"}), options={"rate": 1.0, "alpha": 0.01, "beta": 0.01}),)
