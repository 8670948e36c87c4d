"""Operators of K runs at once on activations [B, K*C, H, W], with kernels [K, O, I, k, k].

Most are one fused call of K groups; where the device's library is slow at groups, K calls; small maps of one run on a
CPU are `small_maps`'.
"""

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from l2t_ray import small_maps

EPSILON = 1e-5  # torch.nn.BatchNorm2d's
_ONES = [1, 1]
_DEEP_PIXELS, _DEEP_CHANNELS = 64, 128  # see kernel_gradient
_OLD_VECTORS = not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
# input channels from which K convolutions are K calls: on a CPU oneDNN's groups take 1.3 to 3 times as long there
SEPARATE_FROM = {"cpu": 256, "cuda": math.inf}


def convolve(x: Tensor, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """K convolutions of equal shape, stride 1, same size.

    Args:
        x: [B, K*I, H, W].
        w: [K, O, I, k, k], k odd.
        dtype: type in which operands are multiplied (bfloat16), sums are float32; w's if None.

    Returns:
        [B, K*O, H, W] in w's type.
    """
    if small_maps.suit(x, w, dtype, small_maps.ALL):
        return small_maps.convolve(x, w)
    padding, n_runs = w.shape[-1] // 2, w.shape[0]
    x, kernel = x.to(dtype or w.dtype), w.flatten(0, 1).to(dtype or w.dtype)
    if not _separate(w):
        return F.conv2d(x, kernel, padding=padding, groups=n_runs).to(w.dtype)
    parts = zip(x.chunk(n_runs, 1), kernel.chunk(n_runs), strict=True)
    return torch.cat([F.conv2d(own, one, padding=padding) for own, one in parts], 1).to(w.dtype)


def convolve_transposed(gradient: Tensor, x: Tensor, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The gradient [B, K*I, H, W] at the input x of `convolve` from the one [B, K*O, H, W] at its output."""
    if small_maps.suit(gradient, w, dtype, small_maps.ALL):
        return small_maps.at_input(gradient, w)
    return _convolution_backward(gradient, x, w, dtype, at_kernel=False)


def kernel_gradient(gradient: Tensor, x: Tensor, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The gradient [K, O, I, k, k] at the kernel w of `convolve` from the one [B, K*O, H, W] at its output."""
    if small_maps.suit(x, w, dtype, small_maps.AT_KERNEL) and gradient.dtype == w.dtype:
        return small_maps.at_kernel(gradient, x)
    if _OLD_VECTORS and w.shape[0] == 1 and x.device.type == "cpu" and w.shape[-1] > 1 and _is_deep(x):
        # without AVX-512 oneDNN takes up to 5 times longer than this: batch and channels change places
        rows = x.transpose(0, 1).contiguous(memory_format=torch.channels_last)
        kernels = gradient.transpose(0, 1).contiguous(memory_format=torch.channels_last)
        return F.conv2d(rows.to(w.dtype), kernels, padding=w.shape[-1] // 2).transpose(0, 1)[None]
    return _convolution_backward(gradient, x, w, dtype, at_kernel=True).view_as(w)


def _convolution_backward(g: Tensor, x: Tensor, w: Tensor, dtype: torch.dtype | None, *, at_kernel: bool) -> Tensor:
    padding, n_runs, operands = [w.shape[-1] // 2] * 2, w.shape[0], dtype or w.dtype
    g, x, kernel = g.to(operands), x.to(operands), w.flatten(0, 1).to(operands)
    n_calls = n_runs if _separate(w) else 1
    found: list[Tensor] = [
        torch.ops.aten.convolution_backward(
            *part, None, _ONES, padding, _ONES, False, [0, 0], n_runs // n_calls, [not at_kernel, at_kernel, False]
        )[at_kernel]
        for part in zip(g.chunk(n_calls, 1), x.chunk(n_calls, 1), kernel.chunk(n_calls), strict=True)
    ]
    gradient: Tensor = found[0] if n_calls == 1 else torch.cat(found, 0 if at_kernel else 1)
    return gradient.to(w.dtype)


def _separate(w: Tensor) -> bool:
    """Whether K convolutions are K calls instead of one of K groups."""
    return w.shape[0] > 1 and w.shape[2] >= SEPARATE_FROM.get(w.device.type, math.inf)


def _is_deep(x: Tensor) -> bool:
    return x.shape[2] * x.shape[3] <= _DEEP_PIXELS and x.shape[1] >= _DEEP_CHANNELS


def whiten(q: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """P(q), the channel sums of u q, and those of q: batch norm's fused backward at mean 0 and deviation 1."""
    zero, one = standard(u.shape[1], q.device, q.dtype)
    white, products, sums = torch.ops.aten.native_batch_norm_backward(
        q, u, one, None, None, zero, one, True, EPSILON, [True, True, True]
    )
    return white, products, sums


@functools.cache
def standard(n_channels: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean 0 and deviation 1 for so many channels; kept, for a bilevel step asks a hundred times."""
    return torch.zeros(n_channels, device=device, dtype=dtype), torch.ones(n_channels, device=device, dtype=dtype)


def channel_mean(p: Tensor, q: Tensor) -> Tensor:
    """The mean of p q over images and pixels, [K*C], in one pass."""
    zero, one = standard(q.shape[1], q.device, q.dtype)
    _, products, _ = torch.ops.aten.native_batch_norm_backward(
        p, q, one, None, None, zero, one, True, EPSILON, [False, True, False]
    )
    mean: Tensor = products / count(q)
    return mean


def mask_(gradient: Tensor, y: Tensor) -> Tensor:
    """ReLU's adjoint and tangent, in place: zero where its output y is."""
    masked: Tensor = torch.ops.aten.threshold_backward.grad_input(gradient, y, 0, grad_input=gradient)
    return masked


def channels(per_channel: Tensor) -> Tensor:
    """[K, C] or [K*C] as [1, K*C, 1, 1]."""
    return per_channel.reshape(1, -1, 1, 1)


def count(u: Tensor) -> int:
    """Images times pixels."""
    return u.shape[0] * u.shape[2] * u.shape[3]
