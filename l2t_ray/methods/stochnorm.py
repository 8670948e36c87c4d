"""Stochastic normalisation (Kou et al., NeurIPS 2020): a coin chooses between batch and running statistics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.methods.finetune import Finetune
from l2t_ray.methods.method import number, traced_alone, within

if TYPE_CHECKING:
    from l2t_ray.models import Backbone, TargetNetwork

WITHOUT_BATCH_NORM = ("vit", "vit_b_16", "convnext_tiny")


@dataclass(frozen=True)
class StochasticNormalization(Finetune):
    """Fine-tuning on L_org with batch norms that normalise each channel in one of two ways.

    In training, y = g ((1 - s) (z - m) / sqrt(v + e) + s (z - mean) / sqrt(var + e)) + b (their section 3.2), with

    | symbol | code | meaning |
    | --- | --- | --- |
    | z, y | | what the norm takes and gives, of one channel |
    | s | `StochNorm.by_batch` | 1 with probability p, else 0; drawn for each channel and batch |
    | m, v | `statistics` | the running mean and variance before the batch; they begin as the source's |
    | mean, var | | of the batch, which then moves m and v as usual |
    | g, b, e | | the norm's weight, bias and epsilon |
    | p | `p` | 0.5, as in TLlib; at 1 it is batch norm |

    Gradients do not pass through m and v. On test images m and v normalise all channels.
    """

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """Checks also that the network has batch norms, the bounds of p, and what the passes cannot do."""
        if run.target.arch in WITHOUT_BATCH_NORM:
            rule = f"must be a network with batch norm for {self.name}, got {run.target.arch}"
            yield "target.arch", f"{rule}; name another, or take finetune"
        yield from Finetune.laws(self, run)
        yield from traced_alone(run)
        yield from within(run, "p", 0, 1)

    def target(self, run: Run, n_classes: int, source: Backbone | None) -> TargetNetwork:
        """Returns the network whose norms toss coins."""
        from l2t_ray.models import build
        from l2t_ray.models.stochnorm import StochNormed

        target = run.target
        network = build(target.arch, target.width, n_classes, run.data.image_size, target.levels)
        return StochNormed(network, number(run.options, "p"))


METHODS = (StochasticNormalization("stochnorm", uses=frozenset({"source"}), options={"rate": 1.0, "p": 0.5}),)
