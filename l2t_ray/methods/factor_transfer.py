"""Factor transfer (Kim, Park and Kwak, NeurIPS 2018, arXiv 1802.04977).

A paraphraser, an autoencoder of the source's last maps, is trained without labels and frozen; its code is the source's
factor. A translator, trained with the target, makes the target's factor, and the two factors are made alike.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from l2t_ray.config import Run
from l2t_ray.methods.method import Batch, Method, Shapes, number, within
from l2t_ray.registry import Scalar, resolve_pairs

SLOPE = 0.1  # of the leaky ReLU
KERNEL = 3
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # of the paraphraser's training, the authors' code's

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class FactorTransfer(Method):
    """beta times the mean over entries of |F_T / |F_T| - F_S / |F_S||^p (their eq. 3 and 4).

    p is 1 by default as in the paper's experiments, or 2. The paraphrase rate 0.5 gives the factor half the source's
    channels; beta 500 and the paraphraser's rate 0.1 are the authors' code's, whose six epochs of CIFAR-10 are 2,346
    steps.
    """

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """P is 1 or 2; steps and rates are positive."""
        if run.options["p"] not in {1, 2}:
            yield "options.p", f"must be 1 (L1) or 2 (L2), got {run.options['p']}; correct it"
        for name in ("paraphrase_rate", "paraphraser_lr", "paraphraser_steps"):
            yield from within(run, name, 0, or_equal=False)
        yield from within(run, "beta", 0)

    def extra_parameters(self, run: Run, shapes: Shapes, generator: torch.Generator) -> dict[str, Tensor]:
        """The translator: three convolutions from the target's channels to the factor's."""
        m, n = _levels(shapes.source_sizes, shapes.target_sizes)
        n_inputs, n_factors = shapes.target_channels[n], _n_factors(shapes.source_channels[m], run.options)
        return _draw("translator", [n_inputs, n_inputs, n_factors, n_factors], generator)

    def prepare(
        self,
        run: Run,
        shapes: Shapes,
        images: Tensor,
        features: Callable[[Tensor], list[Tensor]],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Trains the paraphraser on the run's images; its encoder is kept."""
        m, _ = _levels(shapes.source_sizes, shapes.target_sizes)
        n_channels = shapes.source_channels[m]
        n_factors = _n_factors(n_channels, run.options)
        drawn = _draw("encoder", [n_channels, n_channels, n_factors, n_factors], generator)
        drawn |= _draw("decoder", [n_factors, n_factors, n_channels, n_channels], generator)
        batches = [features(some)[m] for some in images.split(run.training.batch_size)]
        weights = {name: p.to(images.device, images.dtype) for name, p in drawn.items()}
        trained = train_paraphraser(weights, torch.cat(batches), run.training.batch_size, run.options, generator)
        return {name: p for name, p in trained.items() if name.startswith("encoder.")}

    def loss(self, extra: Tensors, batch: Batch, options: Mapping[str, Scalar]) -> Tensor | None:
        """The distance of the normalised factors."""
        sizes = [[f.shape[-1] for f in features] for features in (batch.source, batch.target)]
        m, n = _levels(*sizes)
        with torch.no_grad():
            theirs = factor(encode("encoder", batch.frozen, batch.source[m]))
        ours = factor(encode("translator", extra, batch.target[n]))
        return number(options, "beta") * (ours - theirs).abs().pow(number(options, "p")).mean()


def factor(maps: Tensor) -> Tensor:
    """Maps [B, C, H, W] as vectors [B, C H W] of norm 1."""
    return F.normalize(maps.flatten(1), dim=1)


def encode(name: str, weights: Tensors, x: Tensor) -> Tensor:
    """Three 3 x 3 convolutions, each with a leaky ReLU."""
    for layer in range(3):
        z = F.conv2d(x, weights[f"{name}.{layer}.weight"], weights[f"{name}.{layer}.bias"], padding=1)
        x = F.leaky_relu(z, SLOPE)
    return x


def train_paraphraser(
    weights: Tensors, maps: Tensor, batch_size: int, options: Mapping[str, Scalar], generator: torch.Generator
) -> dict[str, Tensor]:
    """Minimises the mean absolute error of the reconstruction by SGD, as the authors' code.

    Their eq. 2 has the square, which does not stay finite at their learning rate on a batch norm-free autoencoder.

    Args:
        weights: encoder and decoder; left untouched.
        maps: the source's, [N, C, H, W].
        batch_size: of a step; a batch is drawn from a permutation of all maps.
        options: `paraphraser_steps`, `paraphraser_lr`.
        generator: of the permutations.

    Returns:
        The trained weights; a run where they are not finite diverges (`Learner.finite`).
    """
    own = {name: p.clone() for name, p in weights.items()}
    buffers = {name: torch.zeros_like(p) for name, p in own.items()}
    order: list[Tensor] = []
    for _ in range(int(options["paraphraser_steps"])):
        order = order or list(torch.randperm(len(maps), generator=generator).to(maps.device).split(batch_size))
        x = maps[order.pop(0)]
        with torch.enable_grad():
            leaves = {name: p.detach().requires_grad_() for name, p in own.items()}
            loss = (encode("decoder", leaves, encode("encoder", leaves, x)) - x).abs().mean()
            gradients = torch.autograd.grad(loss, list(leaves.values()))
        for (name, p), gradient in zip(own.items(), gradients, strict=True):
            buffers[name].mul_(MOMENTUM).add_(gradient).add_(p, alpha=WEIGHT_DECAY)
            p.sub_(buffers[name], alpha=number(options, "paraphraser_lr"))
    return own


def _levels(source_sizes: Iterable[int], target_sizes: Iterable[int]) -> tuple[int, int]:
    """The last pair of levels of equal size."""
    return resolve_pairs("one_to_one", [*source_sizes], [*target_sizes])[-1]


def _n_factors(n_channels: int, options: Mapping[str, Scalar]) -> int:
    return max(1, round(n_channels * number(options, "paraphrase_rate")))


def _draw(name: str, channels: list[int], generator: torch.Generator) -> dict[str, Tensor]:
    """Convolutions as torch.nn.Conv2d draws them: uniform within 1 / sqrt(inputs)."""
    drawn = {}
    for layer, (n_inputs, n_outputs) in enumerate(itertools.pairwise(channels)):
        bound = (n_inputs * KERNEL**2) ** -0.5
        weight = torch.rand(n_outputs, n_inputs, KERNEL, KERNEL, generator=generator)
        drawn[f"{name}.{layer}.weight"] = weight.mul_(2 * bound).sub_(bound)
        drawn[f"{name}.{layer}.bias"] = torch.rand(n_outputs, generator=generator).mul_(2 * bound).sub_(bound)
    return drawn


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
