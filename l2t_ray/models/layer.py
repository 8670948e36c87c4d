"""One convolution's batch norm and ReLU in the four passes of a chain; the letters are those of `l2t_ray.models.chain`.

Each function is a piece that torch.compile may fuse.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from l2t_ray.models.compiling import fused

BN_MOMENTUM = 0.1
EPSILON = 1e-5  # torch.nn.BatchNorm2d's


class Adjoint(NamedTuple):
    """What `backward` returns for a layer."""

    white: Tensor  # a, [B, O, H, W]
    at_weight: Tensor  # gradient at g, [O]
    at_bias: Tensor  # gradient at b, [O]
    overlap: Tensor  # mean(u gy), [O]
    s: Tensor  # g rstd, [O]
    scaled: Tensor | None  # s a, where asked for


class Tangent(NamedTuple):
    """What `tangent` returns for a layer."""

    output: Tensor  # dy, [B, O, H, W]
    white: Tensor  # du / rstd, [B, O, H, W]
    stretch: Tensor  # mean(u dz), [O]
    overlap: Tensor | None  # mean(a dz), [O], where a is given


class AdjointTangent(NamedTuple):
    """What `backward_tangent` returns for a layer."""

    white: Tensor  # da, [B, O, H, W]
    at_weight: Tensor  # derivative of the gradient at g, [O]
    at_bias: Tensor  # derivative of the gradient at b, [O]
    s: Tensor  # [O]
    ds: Tensor  # [O]
    scaled: Tensor | None  # s a, where asked for
    moved: Tensor | None  # s da + ds a, where asked for


@fused
def forward(
    z: Tensor, g: Tensor, b: Tensor, mean: Tensor | None, variance: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns u, rstd and y of z [B, O, H, W]; updates running statistics [O] in place if they are given."""
    u, _, rstd = torch.ops.aten.native_batch_norm(z, None, None, mean, variance, True, BN_MOMENTUM, EPSILON)
    return u, rstd, torch.addcmul(channels(b), u, channels(g)).relu_()


@fused
def backward(gy: Tensor, y: Tensor, u: Tensor, g: Tensor, rstd: Tensor, *, scales_maps: bool) -> Adjoint:
    """Returns the adjoint of a layer from the gradient gy at its output, which it may overwrite."""
    s = g * rstd
    a, at_weight, at_bias = whiten(mask_(gy, y), u)
    return Adjoint(a, at_weight, at_bias, at_weight / count(u), s, a * channels(s) if scales_maps else None)


@fused
def tangent(
    dz: Tensor,
    more: Tensor | None,
    u: Tensor,
    y: Tensor,
    g: Tensor,
    dg: Tensor,
    db: Tensor,
    rstd: Tensor,
    a: Tensor | None,
) -> Tangent:
    """Returns the tangent of a layer from dz and `more`, which are added; a is `backward`'s, or None."""
    if more is not None:
        dz = dz.add_(more)
    white, products, _ = whiten(dz, u)
    overlap = None if a is None else channel_mean(a, dz)
    dy = torch.addcmul(channels(db), white, channels(g * rstd)).addcmul_(u, channels(dg))
    return Tangent(mask_(dy, y), white, products / count(u), overlap)


@fused
def backward_tangent(
    dgy: Tensor,
    y: Tensor,
    u: Tensor,
    g: Tensor,
    dg: Tensor,
    rstd: Tensor,
    a: Tensor,
    overlap: Tensor,
    along: Tangent,
    *,
    scales_maps: bool,
) -> AdjointTangent:
    """Returns the derivative of a layer's adjoint from that of gy, which it may overwrite.

    Args:
        dgy: derivative of the gradient at the output, [B, O, H, W].
        y: output.
        u: whitened z.
        g: weight, [O].
        dg: its direction, [O].
        rstd: [O].
        a: `backward`'s.
        overlap: `backward`'s.
        along: what `tangent` returned.
        scales_maps: whether `scaled` and `moved` are wanted.
    """
    assert along.overlap is not None
    mean_a_dz = along.overlap * rstd
    s = g * rstd
    ds = (dg - s * along.stretch) * rstd
    da, dgg, dgb = whiten(mask_(dgy, y), u)
    da = da.addcmul_(along.white, -channels(overlap * rstd)).addcmul_(u, -channels(mean_a_dz))
    scaled = a * channels(s) if scales_maps else None
    moved = (da * channels(s)).addcmul_(a, channels(ds)) if scales_maps else None
    return AdjointTangent(da, dgg + mean_a_dz * count(u), dgb, s, ds, scaled, moved)


@fused
def combine(p: Tensor, s: Tensor, q: Tensor, t: Tensor) -> Tensor:
    """Returns s p + t q of kernels p, q [O, I, k, k] and factors s, t [O]."""
    return scale(p, s) + scale(q, t)


def whiten(q: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns P(q), the channel sums of u q, and those of q: batch norm's fused backward at mean 0 and deviation 1."""
    zero, one = standard(u.shape[1], q.device, q.dtype)
    white, products, sums = torch.ops.aten.native_batch_norm_backward(
        q, u, one, None, None, zero, one, True, EPSILON, [True, True, True]
    )
    return white, products, sums


def channel_mean(p: Tensor, q: Tensor) -> Tensor:
    """Returns the mean of p q over images and pixels, [C], in one pass."""
    zero, one = standard(q.shape[1], q.device, q.dtype)
    _, products, _ = torch.ops.aten.native_batch_norm_backward(
        p, q, one, None, None, zero, one, True, EPSILON, [False, True, False]
    )
    mean: Tensor = products / count(q)
    return mean


def mask_(gradient: Tensor, y: Tensor) -> Tensor:
    """Applies ReLU's adjoint and tangent, in place where it is called: zero where its output y is zero."""
    threshold = torch.ops.aten.threshold_backward
    if torch.compiler.is_compiling():
        masked: Tensor = threshold(gradient, y, 0)  # not written to memory
    else:
        masked = threshold.grad_input(gradient, y, 0, grad_input=gradient)
    return masked


def standard(n_channels: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Returns mean 0 and deviation 1 for n_channels; kept, as a bilevel step needs them a hundred times."""
    if torch.compiler.is_compiling():
        return torch.zeros(n_channels, device=device, dtype=dtype), torch.ones(n_channels, device=device, dtype=dtype)
    return kept_standard(n_channels, device, dtype)


@functools.cache
def kept_standard(n_channels: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """See `standard`."""
    return torch.zeros(n_channels, device=device, dtype=dtype), torch.ones(n_channels, device=device, dtype=dtype)


def channels(per_channel: Tensor) -> Tensor:
    """Returns [C] as [1, C, 1, 1]."""
    return per_channel.view(1, -1, 1, 1)


def scale(kernel: Tensor, s: Tensor) -> Tensor:
    """Returns a kernel [O, I, k, k] times a factor [O] for each output channel."""
    return kernel * s[:, None, None, None]


def count(maps: Tensor) -> int:
    """Returns the numbers of a channel in maps [B, C, H, W]."""
    return maps.shape[0] * maps.shape[2] * maps.shape[3]
