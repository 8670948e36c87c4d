"""The meta-networks f, g and h with parameters phi: *what*, *where* and *which* to transfer (thesis eq. 5 to 7).

Each is one linear layer on S^m(x) for every pair (m, n). The layers of the pairs that share a source level are batched.

| symbol | code | shape, for the source level m with N target levels, C channels, H x W pixels |
| --- | --- | --- |
| f | what.m.weight, what.m.bias | [N, C, C], [N, C]: channel means -> softmax = omega |
| g | where.m.weight, where.m.bias | [N, C], [N]: channel means -> ReLU6 = lambda |
| h | which.m.weight, which.m.bias | [C, H W, 9 N], [C, 9 N]: channel -> 3 x 3 -> softplus -> bilinear = gamma |
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from l2t_ray.methods.matching import Matching
from l2t_ray.models.compiling import fused, pointwise

GRID = 3  # h gives gamma on a 3 x 3 grid
GAMMA_ONE = math.log(math.e - 1)  # its softplus is 1, so that l2t_www starts as l2t_ww


@dataclass(frozen=True)
class Weights:
    """The weights of one batch, by target level."""

    channels: dict[int, Tensor]  # lambda omega, [B, C_n]
    grids: dict[int, Tensor] | None  # gamma's grid, [B, C_n, 3, 3], or None where gamma = 1


def initial_phi(
    matching: Matching, networks: frozenset[str], sizes: Sequence[int], generator: torch.Generator
) -> dict[str, Tensor]:
    """Returns the first phi: f zero, g torch.nn.Linear's draw with bias 1 (published code), h such that gamma = 1.

    Args:
        matching: the pairs.
        networks: which of "what", "where", "which" the method has.
        sizes: H = W of S^m.
        generator: a CPU generator, stream "init.meta".

    Returns:
        float32 tensors by name.
    """
    phi = {}
    for m in sorted({m for m, _ in matching.pairs}):
        n_targets, n_channels = len(matching.targets_of(m)), matching.source_channels[m]
        if "what" in networks:
            phi[f"what.{m}.weight"] = torch.zeros(n_targets, n_channels, n_channels)
            phi[f"what.{m}.bias"] = torch.zeros(n_targets, n_channels)
        if "where" in networks:
            bound = n_channels**-0.5
            draws = torch.rand(n_targets, n_channels, generator=generator)
            phi[f"where.{m}.weight"] = draws.mul_(2 * bound).sub_(bound)
            phi[f"where.{m}.bias"] = torch.ones(n_targets)
        if "which" in networks:
            phi[f"which.{m}.weight"] = torch.zeros(n_channels, sizes[m] ** 2, GRID**2 * n_targets)
            phi[f"which.{m}.bias"] = torch.full((n_channels, GRID**2 * n_targets), GAMMA_ONE)
    return phi


def weigh(matching: Matching, phi: Mapping[str, Tensor], features: Sequence[Tensor]) -> Weights:
    """Returns omega, lambda and gamma of a batch; without phi, omega = 1 / C and lambda = gamma = 1 (ufm).

    Args:
        matching: the pairs.
        phi: parameters.
        features: S^m(x), [B, C_m, H_m, W_m].

    Returns:
        The weights, differentiable with respect to phi.
    """
    channels: dict[tuple[int, int], Tensor] = {}
    grids: dict[tuple[int, int], Tensor] = {}
    for m in sorted({m for m, _ in matching.pairs}):
        n_images, n_channels = features[m].shape[:2]
        means = features[m].mean((2, 3))
        targets = matching.targets_of(m)
        if f"what.{m}.weight" in phi:
            omega = (means @ phi[f"what.{m}.weight"].mT + phi[f"what.{m}.bias"][:, None]).softmax(-1)
        else:
            omega = means.new_full((len(targets), n_images, n_channels), 1 / n_channels)
        if f"where.{m}.weight" in phi:
            score = phi[f"where.{m}.weight"] @ means.mT + phi[f"where.{m}.bias"][:, None]
            omega = omega * F.relu6(score)[..., None]
        channels |= {(m, n): part for n, part in zip(targets, omega.unbind(), strict=True)}
        if f"which.{m}.weight" in phi:
            flat = features[m].flatten(2).transpose(0, 1)  # [C, B, H W]
            scores = flat @ phi[f"which.{m}.weight"] + phi[f"which.{m}.bias"][:, None]
            by_target = F.softplus(scores).unflatten(-1, (len(targets), GRID, GRID)).transpose(0, 1)
            grids |= {(m, n): part for n, part in zip(targets, by_target.unbind(2), strict=True)}  # [B, C, 3, 3]
    return Weights(_lay_side_by_side(matching, channels), _lay_side_by_side(matching, grids) if grids else None)


def pixel_weights(weights: Weights, sizes: Sequence[int]) -> dict[int, Tensor]:
    """Returns V = 2 lambda omega gamma / (B H W) by target level, without gradient.

    Args:
        weights: what `weigh` returned.
        sizes: H = W of each target level.

    Returns:
        [B, C_n, H, W] each, or [B, C_n, 1, 1] where gamma = 1.
    """
    grids = weights.grids or {}
    return {
        n: _pixel_weights(per_channel.detach(), grids[n].detach() if n in grids else None, sizes[n])
        for n, per_channel in weights.channels.items()
    }


@pointwise
def _pixel_weights(per_channel: Tensor, grid: Tensor | None, size: int) -> Tensor:
    """Returns V of a target level from lambda omega [B, C_n] and gamma's grid [B, C_n, 3, 3] (None: gamma = 1)."""
    v = per_channel[..., None, None] * (2 / (per_channel.shape[0] * size**2))
    if grid is None:
        return v
    on_grid = (v * grid).contiguous(memory_format=torch.channels_last)
    return F.interpolate(on_grid, size=(size, size), mode="bilinear")


def phi_gradient(
    phi: Mapping[str, Tensor], weights: Weights, at_distances: Mapping[int, Tensor], scale: Tensor
) -> dict[str, Tensor]:
    """Returns the gradient at phi, from sums over the look-ahead's steps of the distances' derivatives.

    L_wfm is linear in the weights, so the outer loss depends on phi through sum V dD / 2 alone.

    Args:
        phi: parameters that require a gradient.
        weights: what `weigh` returned for them.
        at_distances: by target level the sum over steps of E dE, [B, C_n, H, W].
        scale: factor of L_wfm inside the look-ahead, a scalar.

    Returns:
        Gradients by name.
    """
    found: list[tuple[Tensor, Tensor]] = []  # what phi gave, and the gradient at it
    for n, per_channel in weights.channels.items():
        at_pixels = at_distances[n]
        if weights.grids is None:
            found.append((per_channel, _at_channels(at_pixels, scale)))
            continue
        grid, size = weights.grids[n], list(at_pixels.shape[2:])
        at_grid = torch.ops.aten.upsample_bilinear2d_backward(
            at_pixels, size, [*at_pixels.shape[:2], GRID, GRID], False
        )
        both = _at_weights(at_grid, per_channel.detach(), grid.detach(), scale, math.prod(size))
        found += zip((per_channel, grid), both, strict=True)
    given, gradients = zip(*((output, g) for output, g in found if output.requires_grad), strict=True)
    return dict(zip(phi, torch.autograd.grad(given, list(phi.values()), gradients), strict=True))


@fused
def _at_channels(at_pixels: Tensor, scale: Tensor) -> Tensor:
    """Returns the gradient at lambda omega [B, C_n] where gamma = 1, from the one at pixels [B, C_n, H, W]."""
    n_images, _, height, width = at_pixels.shape
    return at_pixels.sum((2, 3)) * (scale * (2 / (n_images * height * width)))


@fused
def _at_weights(
    at_grid: Tensor, per_channel: Tensor, grid: Tensor, scale: Tensor, n_pixels: int
) -> tuple[Tensor, Tensor]:
    """Returns the gradients at lambda omega [B, C_n] and at gamma's grid, from the one at points of the grid.

    Args:
        at_grid: [B, C_n, 3, 3].
        per_channel: lambda omega, [B, C_n].
        grid: gamma, [B, C_n, 3, 3].
        scale: factor of L_wfm inside the look-ahead, a scalar.
        n_pixels: of the target level's maps.
    """
    factor = scale * (2 / (len(at_grid) * n_pixels))
    return (grid * at_grid).sum((2, 3)) * factor, (per_channel * factor)[..., None, None] * at_grid


def _lay_side_by_side(matching: Matching, by_pair: Mapping[tuple[int, int], Tensor]) -> dict[int, Tensor]:
    """Returns [B, C_m, ...] by pair as [B, C_n, ...] by target level."""
    sides = {n: [by_pair[m, n] for m in matching.sources_of(n)] for n in matching.levels}
    return {n: torch.cat(parts, dim=1) for n, parts in sides.items()}
