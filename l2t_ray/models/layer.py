"""One convolution's batch norm and ReLU in the four passes of a chain; the letters are those of `l2t_ray.models.chain`.

The decorated functions are pieces that torch.compile may fuse.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from l2t_ray.models.compiling import fused, pointwise

BN_MOMENTUM = 0.1
EPSILON = 1e-5  # torch.nn.BatchNorm2d's


class Adjoint(NamedTuple):
    """What `backward` returns for a layer."""

    white: Tensor  # a, [B, O, H, W]
    at_weight: Tensor  # gradient at g, [O]
    at_bias: Tensor  # gradient at b, [O]
    overlap: Tensor  # mean(u gy), [O]
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
    ds: Tensor  # [O]
    scaled: Tensor | None  # s a, where asked for
    moved: Tensor | None  # s da + ds a, where asked for


@fused
def forward(
    z: Tensor, g: Tensor, b: Tensor, mean: Tensor | None, variance: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns u, rstd, s and y of z [B, O, H, W]; updates running statistics [O] in place if they are given."""
    u, _, rstd = torch.ops.aten.native_batch_norm(z, None, None, mean, variance, True, BN_MOMENTUM, EPSILON)
    return u, rstd, g * rstd, torch.addcmul(channels(b), u, channels(g)).relu_()


@fused
def backward(gy: Tensor, y: Tensor, u: Tensor, s: Tensor, *, scales_maps: bool) -> Adjoint:
    """Returns the adjoint of a layer from the gradient gy at its output, which it may overwrite."""
    a, at_weight, at_bias = whiten(mask_(gy, y), u)
    return Adjoint(a, at_weight, at_bias, at_weight / count(u), a * channels(s) if scales_maps else None)


@fused
def tangent(
    dz: tuple[Tensor, ...], u: Tensor, y: Tensor, s: Tensor, dg: Tensor, db: Tensor, a: Tensor | None
) -> Tangent:
    """Returns the tangent of a layer from dz, whose parts are added; a is `backward`'s, or None."""
    moved = added(dz)
    white, products, _ = whiten(moved, u)
    overlap = None if a is None else channel_mean(a, moved)
    dy = torch.addcmul(channels(db), white, channels(s)).addcmul_(u, channels(dg))
    return Tangent(mask_(dy, y), white, products / count(u), overlap)


@fused
def backward_tangent(
    dgy: tuple[Tensor, ...],
    y: Tensor,
    u: Tensor,
    s: Tensor,
    dg: Tensor,
    rstd: Tensor,
    a: Tensor,
    overlap: Tensor,
    along: Tangent,
    *,
    scales_maps: bool,
) -> AdjointTangent:
    """Returns the derivative of a layer's adjoint from that of gy, whose parts are added, and may be overwritten.

    Args:
        dgy: derivative of the gradient at the output, [B, O, H, W].
        y: output.
        u: whitened z.
        s: [O].
        dg: direction of the weight, [O].
        rstd: [O].
        a: `backward`'s.
        overlap: `backward`'s.
        along: what `tangent` returned.
        scales_maps: whether `scaled` and `moved` are wanted.
    """
    assert along.overlap is not None
    mean_a_dz = along.overlap * rstd
    ds = (dg - s * along.stretch) * rstd
    da, dgg, dgb = whiten(mask_(added(dgy), y), u)
    da = da.addcmul_(along.white, -channels(overlap * rstd)).addcmul_(u, -channels(mean_a_dz))
    scaled = a * channels(s) if scales_maps else None
    moved = (da * channels(s)).addcmul_(a, channels(ds)) if scales_maps else None
    return AdjointTangent(da, dgg + mean_a_dz * count(u), dgb, ds, scaled, moved)


@pointwise
def rectified(
    z: Tensor,
    g: Tensor,
    b: Tensor,
    mean: Tensor,
    variance: Tensor,
    more: Tensor | None = None,
    epsilon: float = EPSILON,
) -> Tensor:
    """Returns relu(batch norm of z [B, O, H, W] + more) by running statistics [O]."""
    y = F.batch_norm(z, mean, variance, g, b, eps=epsilon)
    if more is not None:
        y = y + more
    return F.relu(y) if torch.compiler.is_compiling() else y.relu_()


@fused
def scale_both(p: Tensor, q: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Returns s p and s q of kernels p and q [O, I, k, k] and a factor s [O]."""
    return scale(p, s), scale(q, s)


@pointwise
def combine(p: Tensor, q: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Returns s p + t q of kernels p and q [O, I, k, k] and factors s and t [O]."""
    return scale(p, s) + scale(q, t)


@fused
def move_kernels(
    p: tuple[Tensor, ...], q: Tensor, w: Tensor, dw: Tensor, s: Tensor, ds: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns s p + ds q, ds w + s dw, and s w, for kernels [O, I, k, k] and factors [O]; the parts of p are added."""
    return scale(added(p), s) + scale(q, ds), scale(w, ds) + scale(dw, s), scale(w, s)


@fused
def unpool(pooled: tuple[Tensor, ...], y: Tensor, indices: Tensor, more: Tensor | None) -> Tensor:
    """Passes a gradient back through a max-pool of 2 x 2.

    Args:
        pooled: parts of the gradient at its result [B, C, H / 2, W / 2], to be added.
        y: its input, [B, C, H, W].
        indices: those that it returned.
        more: another gradient at y, or None.

    Returns:
        [B, C, H, W], with `more` added.
    """
    at_result = added(pooled).contiguous(memory_format=torch.channels_last)
    height, width = y.shape[2:]
    if torch.compiler.is_compiling() and height % 2 == width % 2 == 0:  # the library's would be three kernels
        pixels = torch.arange(height * width, device=y.device).view(height // 2, 2, width // 2, 2, 1)
        taken = indices.permute(0, 2, 3, 1)[:, :, None, :, None] == pixels
        spread = torch.where(taken, at_result.permute(0, 2, 3, 1)[:, :, None, :, None], 0)
        at_y = spread.reshape(len(y), height, width, -1).permute(0, 3, 1, 2)
    else:
        at_y = torch.ops.aten.max_pool2d_with_indices_backward(
            at_result, y, [2, 2], [2, 2], [0, 0], [1, 1], False, indices
        )
    return at_y if more is None else added((at_y, more))


def added(parts: tuple[Tensor, ...]) -> Tensor:
    """Returns a sum; where it is called, in the first part."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part if torch.compiler.is_compiling() else total.add_(part)
    return total


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
