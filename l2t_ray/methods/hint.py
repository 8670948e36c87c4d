"""Hint training (FitNets: Romero et al., ICLR 2015, arXiv 1412.6550): one hint layer, two stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l2t_ray.config import Run, Source, Target
from l2t_ray.methods.distillation import classes_not_shared
from l2t_ray.methods.method import Batch, Method, Shapes, Stage, number, within
from l2t_ray.registry import Scalar, default_levels, has_places, level_sizes, n_levels, resolve_pairs

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from l2t_ray.models import Backbone

MIDDLE = -1  # stands for the middle pair of levels of equal size


@dataclass(frozen=True)
class Hint(Method):
    """Stage 1 trains the target up to its guided level to predict the source's hint through a convolutional regressor.

    |u_h - r(v_g)|^2 / 2 (their eq. 3), as a mean over the map's entries so that one learning rate serves both stages.
    Stage 2 trains everything on L_org and, with `distil`, on lambda H(source, target) at a temperature, lambda falling
    linearly (their eq. 4 and section 3.1: from 4 to 1, temperature 3).
    """

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """Checks that the guided level exists and is no smaller than the hint, and that stage 2 has an epoch."""
        yield from within(run, "hint_share", 0, 1 - 1 / run.training.epochs)  # at most the last epoch's beginning
        yield from within(run, "temperature", 0, or_equal=False)
        for name in ("lambda_first", "lambda_last"):
            yield from within(run, name, 0)
        m, n = run.options["source_level"], run.options["target_level"]
        for name, level, network in (("source_level", m, run.source), ("target_level", n, run.target)):
            last = n_levels(network.arch, network.levels) - 1
            if not MIDDLE <= int(level) <= last:
                rule = f"must be a level of {network.arch}, 0 to {last}, or -1 for the middle, got {level}"
                yield f"options.{name}", f"{rule}; correct it"
                return
        source_sizes, target_sizes = _sizes(run.source, run.data.image_size), _sizes(run.target, run.data.image_size)
        hint, guided = levels(run.options, source_sizes, target_sizes)
        sizes = source_sizes[hint], target_sizes[guided]
        if sizes[0] > sizes[1]:
            rule = f"must be a level of at least the hint's {sizes[0]} pixels, got level {guided} of {sizes[1]}"
            yield "options.target_level", f"{rule}; name a lower one, or a higher options.source_level"

    def refuse(self, run: Run, source: Backbone, classes: Sequence[str]) -> str | None:
        """Checks, with `distil`, that the source knows the target's classes."""
        return classes_not_shared("hint with options.distil", source, classes) if run.options["distil"] else None

    def extra_parameters(self, run: Run, shapes: Shapes, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws the regressor: a convolution without padding whose kernel brings the guided maps to the hint's size."""
        from l2t_ray.methods.paraphraser import draw_convolution

        hint, guided = levels(run.options, shapes.source_sizes, shapes.target_sizes)
        kernel = shapes.target_sizes[guided] - shapes.source_sizes[hint] + 1
        n_inputs, n_outputs = shapes.target_channels[guided], shapes.source_channels[hint]
        return draw_convolution("hint", n_inputs, n_outputs, kernel, generator)

    def stage(self, progress: float, options: Mapping[str, Scalar]) -> Stage:
        """Trains the hint alone at first, then everything but the regressor."""
        return Stage(classification=0.0) if is_first(progress, options) else Stage(rates={"hint.": 0.0})

    def loss(self, extra: Mapping[str, Tensor], batch: Batch, options: Mapping[str, Scalar]) -> Tensor | None:
        """Returns the regression in stage 1; in stage 2 the softened cross-entropy, or None."""
        from torch.nn import functional as F

        if is_first(batch.progress, options):
            sizes = [[f.shape[-1] for f in features] for features in (batch.source, batch.target)]
            hint, guided = levels(options, *sizes)
            predicted = F.conv2d(batch.target[guided], extra["hint.weight"], extra["hint.bias"])
            return (batch.source[hint] - predicted).square().mean() / 2
        if not options["distil"]:
            return None
        assert batch.source_logits is not None  # `refuse` has checked it
        t, share = number(options, "temperature"), number(options, "hint_share")
        over = (batch.progress - share) / (1 - share)
        lambda_ = number(options, "lambda_first") * (1 - over) + number(options, "lambda_last") * over
        soft = (batch.source_logits / t).softmax(1) * (batch.logits / t).log_softmax(1)
        return -lambda_ * soft.sum(1).mean()


def is_first(progress: float, options: Mapping[str, Scalar]) -> bool:
    """Whether an epoch belongs to stage 1."""
    return progress < number(options, "hint_share")


def levels(options: Mapping[str, Scalar], source_sizes: Sequence[int], target_sizes: Sequence[int]) -> tuple[int, int]:
    """Returns the hint's and the guided level: the middle pair of equal size, unless options name others."""
    pairs = resolve_pairs("one_to_one", source_sizes, target_sizes)
    hint, guided = pairs[len(pairs) // 2]
    m, n = int(options["source_level"]), int(options["target_level"])
    return hint if m == MIDDLE else m, guided if n == MIDDLE else n


def _sizes(network: Source | Target, image_size: int) -> tuple[int, ...]:
    """Returns H = W of every level's maps."""
    if not has_places(network.arch):
        return level_sizes(network.arch, image_size)
    from l2t_ray.models.zoo import plan  # needs torch

    return plan(network.arch, network.levels or default_levels(network.arch), image_size).sizes


METHODS = (
    Hint(
        "hint",
        uses=frozenset({"source"}),
        options={
            "hint_share": 0.5,
            "source_level": MIDDLE,
            "target_level": MIDDLE,
            "distil": False,
            "temperature": 3.0,
            "lambda_first": 4.0,
            "lambda_last": 1.0,
        },
    ),
)
