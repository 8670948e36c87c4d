"""Factor transfer (Kim, Park and Kwak, NeurIPS 2018, arXiv 1802.04977).

A paraphraser, an autoencoder of the source's last maps, is trained without labels and then frozen; its code is the
source's factor. A translator, trained with the target, computes the target's factor. The loss makes the two factors
alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.methods.method import Batch, Method, Shapes, number, within
from l2t_ray.registry import Scalar, resolve_pairs

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class FactorTransfer(Method):
    """beta times the mean over entries of |F_T / |F_T| - F_S / |F_S||^p (their eq. 3 and 4).

    p is 1 by default as in the paper's experiments, or 2. With the paraphrase rate 0.5 the factor has half the source's
    channels. beta 500 and the paraphraser's rate 0.1 come from the authors' code, which trains the paraphraser for six
    epochs of CIFAR-10, 2,346 steps.
    """

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """Checks that p is 1 or 2, and the bounds of steps and rates."""
        if run.options["p"] not in {1, 2}:
            yield "options.p", f"must be 1 (L1) or 2 (L2), got {run.options['p']}; correct it"
        for name in ("paraphrase_rate", "paraphraser_lr", "paraphraser_steps"):
            yield from within(run, name, 0, or_equal=False)
        yield from within(run, "beta", 0)

    def extra_parameters(self, run: Run, shapes: Shapes, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws the translator: three convolutions from the target's channels to the factor's."""
        from l2t_ray.methods.paraphraser import draw_convolutions

        m, n = _levels(shapes.source_sizes, shapes.target_sizes)
        n_inputs, n_factors = shapes.target_channels[n], _n_factors(shapes.source_channels[m], run.options)
        return draw_convolutions("translator", [n_inputs, n_inputs, n_factors, n_factors], generator)

    def prepare(
        self,
        run: Run,
        shapes: Shapes,
        images: Tensor,
        features: Callable[[Tensor], list[Tensor]],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Trains the paraphraser on the run's images and returns its encoder."""
        import torch

        from l2t_ray.methods.paraphraser import draw_convolutions, train_paraphraser

        m, _ = _levels(shapes.source_sizes, shapes.target_sizes)
        n_channels = shapes.source_channels[m]
        n_factors = _n_factors(n_channels, run.options)
        drawn = draw_convolutions("encoder", [n_channels, n_channels, n_factors, n_factors], generator)
        drawn |= draw_convolutions("decoder", [n_factors, n_factors, n_channels, n_channels], generator)
        batches = [features(part)[m] for part in images.split(run.training.batch_size)]
        weights = {name: p.to(images.device, images.dtype) for name, p in drawn.items()}
        trained = train_paraphraser(weights, torch.cat(batches), run.training.batch_size, run.options, generator)
        return {name: p for name, p in trained.items() if name.startswith("encoder.")}

    def loss(self, extra: Tensors, batch: Batch, options: Mapping[str, Scalar]) -> Tensor | None:
        """Returns the weighted distance of the normalised factors."""
        import torch

        from l2t_ray.methods.paraphraser import encode, factor

        sizes = [[f.shape[-1] for f in features] for features in (batch.source, batch.target)]
        m, n = _levels(*sizes)
        with torch.no_grad():
            theirs = factor(encode("encoder", batch.frozen, batch.source[m]))
        ours = factor(encode("translator", extra, batch.target[n]))
        return number(options, "beta") * (ours - theirs).abs().pow(number(options, "p")).mean()


def _levels(source_sizes: Iterable[int], target_sizes: Iterable[int]) -> tuple[int, int]:
    """Returns the last pair of levels of equal size."""
    return resolve_pairs("one_to_one", [*source_sizes], [*target_sizes])[-1]


def _n_factors(n_channels: int, options: Mapping[str, Scalar]) -> int:
    return max(1, round(n_channels * number(options, "paraphrase_rate")))


METHODS = (
    FactorTransfer(
        "factor_transfer",
        uses=frozenset({"source"}),
        options={
            "p": 1,
            "beta": 500.0,
            "paraphrase_rate": 0.5,
            "paraphraser_steps": 2000,
            "paraphraser_lr": 0.1,
        },
    ),
)
