"""Feature matching: the pairs P, the projections r_theta, the distances D and the loss L_wfm (thesis eq. 4, 5 and 7).

The source levels that are matched with one target level are laid side by side on the channel axis, so each target
level takes one 1 x 1 convolution and one difference instead of one for each pair.

| symbol | code | meaning, for the target level n |
| --- | --- | --- |
| r_theta | project.n.weight, .bias | [C_n, T_n, 1, 1], [C_n]; C_n = sum of S^m's channels over the pairs (m, n) |
| S | targets[n] | S^m(x) resized to T^n's H x W, [B, C_n, H, W] |
| E | differences[n] | r(T^n(x)) - S; D = E * E |
| V | pixel_weights[n] | 2 lambda omega gamma / (B H W), broadcastable to E; L_wfm = sum V D / 2 |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from l2t_ray.models.compiling import fused, pointwise
from l2t_ray.models.convolutions import convolve, convolve_transposed, kernel_gradient
from l2t_ray.models.layer import added


@dataclass(frozen=True)
class Matching:
    """Which source levels teach which target levels, and their channels."""

    pairs: tuple[tuple[int, int], ...]  # (m, n), in order
    source_channels: tuple[int, ...]  # of S^m
    target_channels: tuple[int, ...]  # of T^n

    @property
    def levels(self) -> tuple[int, ...]:
        """The target levels that are matched, ascending."""
        return tuple(sorted({n for _, n in self.pairs}))

    @property
    def n_levels(self) -> int:
        """How many levels of the target L_wfm needs."""
        return self.levels[-1] + 1

    def sources_of(self, level: int) -> tuple[int, ...]:
        """Returns the source levels m matched with the target level n."""
        return tuple(m for m, n in self.pairs if n == level)

    def targets_of(self, source: int) -> tuple[int, ...]:
        """Returns the target levels n matched with the source level m."""
        return tuple(n for m, n in self.pairs if m == source)

    def channels(self, level: int) -> int:
        """Returns C_n."""
        return sum(self.source_channels[m] for m in self.sources_of(level))


def initial_projections(matching: Matching, generator: torch.Generator) -> dict[str, Tensor]:
    """Draws r_theta, each pair as torch.nn.Conv2d does: uniform within 1 / sqrt(inputs).

    Args:
        matching: the pairs.
        generator: a CPU generator.

    Returns:
        project.n.weight [C_n, T_n, 1, 1] and project.n.bias [C_n] of every matched level.
    """
    theta = {}
    for n in matching.levels:
        n_inputs, n_outputs = matching.target_channels[n], matching.channels(n)
        bound = n_inputs**-0.5
        draws = torch.rand(n_outputs, n_inputs + 1, generator=generator).mul_(2 * bound).sub_(bound)
        theta[f"project.{n}.weight"] = draws[:, :-1, None, None].contiguous()
        theta[f"project.{n}.bias"] = draws[:, -1].contiguous()
    return theta


def resize_sources(matching: Matching, features: Sequence[Tensor], sizes: Sequence[int]) -> dict[int, Tensor]:
    """Returns S by target level: every S^m resized bilinearly to the level's size, laid side by side.

    Args:
        matching: the pairs.
        features: S^m(x), [B, C_m, H_m, W_m].
        sizes: H = W of each target level.

    Returns:
        targets[n] [B, C_n, H, W].
    """
    targets = {}
    for n in matching.levels:
        parts = []
        for m in matching.sources_of(n):
            part = features[m]
            if part.shape[-1] != sizes[n]:
                part = F.interpolate(part, size=(sizes[n], sizes[n]), mode="bilinear")
            parts.append(part)
        targets[n] = torch.cat(parts, dim=1).contiguous(memory_format=torch.channels_last)
    return targets


def backward(
    matching: Matching,
    theta: Mapping[str, Tensor],
    features: Sequence[Tensor],
    targets: Mapping[int, Tensor],
    pixel_weights: Mapping[int, Tensor],
) -> tuple[dict[int, Tensor], list[Tensor | None], dict[str, Tensor]]:
    """Returns E, and the gradients of L_wfm at the features and at the projections.

    Args:
        matching: the pairs.
        theta: parameters.
        features: T^n(x), [B, T_n, H, W].
        targets: S by target level.
        pixel_weights: V by target level.

    Returns:
        E by target level, [B, C_n, H, W]; by level the gradient at T^n(x) or None; by name the gradients at r_theta.
    """
    differences = {}
    at_features: list[Tensor | None] = [None] * len(features)
    at_theta = {}
    for n in matching.levels:
        weight = theta[f"project.{n}.weight"]
        projected = F.conv2d(features[n], weight, theta[f"project.{n}.bias"])
        differences[n], slope, at_bias = _slope(projected, targets[n], pixel_weights[n])
        at_features[n] = convolve_transposed(slope, features[n], weight)
        at_theta[f"project.{n}.weight"] = kernel_gradient(slope, features[n], weight)
        at_theta[f"project.{n}.bias"] = at_bias
    return differences, at_features, at_theta


def tangent(
    matching: Matching,
    theta: Mapping[str, Tensor],
    direction: Mapping[str, Tensor],
    features: Sequence[Tensor],
    feature_tangents: Sequence[Tensor],
    differences: Mapping[int, Tensor],
    total: Mapping[int, Tensor],
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Returns dE along a direction of theta, and E dE added to a total, both by target level; that of D is 2 E dE."""
    moves, sums = {}, {}
    for n in matching.levels:
        first = F.conv2d(features[n], direction[f"project.{n}.weight"], direction[f"project.{n}.bias"])
        second = convolve(feature_tangents[n], theta[f"project.{n}.weight"])
        moves[n], sums[n] = _move((first, second), differences[n], total.get(n))
    return moves, sums


def backward_tangent(
    matching: Matching,
    theta: Mapping[str, Tensor],
    direction: Mapping[str, Tensor],
    features: Sequence[Tensor],
    feature_tangents: Sequence[Tensor],
    differences: Mapping[int, Tensor],
    difference_tangents: Mapping[int, Tensor],
    pixel_weights: Mapping[int, Tensor],
) -> tuple[list[Tensor | None], dict[str, Tensor]]:
    """Returns the derivative of `backward`'s gradients along a direction of theta."""
    at_features: list[Tensor | None] = [None] * len(features)
    at_theta = {}
    for n in matching.levels:
        weight, dweight = theta[f"project.{n}.weight"], direction[f"project.{n}.weight"]
        slope, dslope, at_bias = _slope_tangent(differences[n], difference_tangents[n], pixel_weights[n])
        moved = convolve_transposed(dslope, features[n], weight)
        at_features[n] = moved.add_(convolve_transposed(slope, features[n], dweight))
        kernel = kernel_gradient(dslope, features[n], weight)
        at_theta[f"project.{n}.weight"] = kernel + kernel_gradient(slope, feature_tangents[n], weight)
        at_theta[f"project.{n}.bias"] = at_bias
    return at_features, at_theta


@fused
def _slope(projected: Tensor, target: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns E, V E, and the latter's channel sums [C_n]."""
    e = projected - target if torch.compiler.is_compiling() else projected.sub_(target)
    slope = v * e
    return e, slope, slope.sum((0, 2, 3))


@pointwise
def _move(parts: tuple[Tensor, ...], e: Tensor, total: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns dE, whose parts are added, and E dE, added to a total."""
    de = added(parts)
    if total is None:
        return de, e * de
    return de, torch.addcmul(total, e, de) if torch.compiler.is_compiling() else total.addcmul_(e, de)


@fused
def _slope_tangent(e: Tensor, de: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns V E, V dE, and the latter's channel sums [C_n]."""
    dslope = v * de
    return v * e, dslope, dslope.sum((0, 2, 3))
