"""The networks of factor transfer, three convolutions each, and the paraphraser's training (arXiv 1802.04977)."""

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from l2t_ray.methods.method import number
from l2t_ray.registry import Scalar

SLOPE = 0.1  # of the leaky ReLU
KERNEL = 3
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # of the paraphraser's training, the authors' code's

Tensors = Mapping[str, Tensor]


def factor(maps: Tensor) -> Tensor:
    """Returns maps [B, C, H, W] as vectors [B, C H W] of norm 1."""
    return F.normalize(maps.flatten(1), dim=1)


def encode(name: str, weights: Tensors, x: Tensor) -> Tensor:
    """Applies three 3 x 3 convolutions, each with a leaky ReLU."""
    for layer in range(3):
        z = F.conv2d(x, weights[f"{name}.{layer}.weight"], weights[f"{name}.{layer}.bias"], padding=1)
        x = F.leaky_relu(z, SLOPE)
    return x


def train_paraphraser(
    weights: Tensors, maps: Tensor, batch_size: int, options: Mapping[str, Scalar], generator: torch.Generator
) -> dict[str, Tensor]:
    """Minimises the mean absolute error of the reconstruction by SGD, as the authors' code does.

    Their eq. 2 has the square, which does not stay finite at their learning rate in an autoencoder without batch norm.

    Args:
        weights: encoder and decoder; left untouched.
        maps: the source's, [N, C, H, W].
        batch_size: of a step; batches come from a permutation of all maps.
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


def draw_convolutions(name: str, channels: list[int], generator: torch.Generator) -> dict[str, Tensor]:
    """Draws 3 x 3 convolutions from each number of channels to the next."""
    drawn: dict[str, Tensor] = {}
    for layer, (n_inputs, n_outputs) in enumerate(itertools.pairwise(channels)):
        drawn |= draw_convolution(f"{name}.{layer}", n_inputs, n_outputs, KERNEL, generator)
    return drawn


def draw_convolution(
    name: str, n_inputs: int, n_outputs: int, kernel: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draws a convolution's weight and bias as torch.nn.Conv2d does: uniform within 1 / sqrt(inputs)."""
    bound = (n_inputs * kernel**2) ** -0.5
    weight = torch.rand(n_outputs, n_inputs, kernel, kernel, generator=generator)
    bias = torch.rand(n_outputs, generator=generator)
    return {f"{name}.weight": weight.mul_(2 * bound).sub_(bound), f"{name}.bias": bias.mul_(2 * bound).sub_(bound)}
