"""Convolutions of K runs at once on activations [B, K*C, H, W] with kernels [K, O, I, k, k], and their gradients.

Most are one fused call of K groups; where the device's library is slow at groups, K calls. `small_convolutions`
computes small maps of one run on a CPU.

Where an output's gradient is s a, with a factor s for each channel, the factor moves to whichever is smaller:

    at the kernel:  kernel_gradient(s a, x) = s kernel_gradient(a, x)
    at the input:   convolve_transposed(s a, w) = convolve_transposed(a, s w)

The deepest kernels have nine times as many numbers as the maps of 128 images; the first maps have five thousand times
as many as their kernel.
"""

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from l2t_ray.models import small_convolutions

EPSILON = 1e-5  # torch.nn.BatchNorm2d's
_ONES = [1, 1]
_DEEP_PIXELS, _DEEP_CHANNELS = 64, 128  # see kernel_gradient
_OLD_VECTORS = not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
# input channels from which K calls replace K groups: on a CPU oneDNN's groups take 1.3 to 3 times as long there
SEPARATE_FROM = {"cpu": 256, "cuda": math.inf}


def convolve(x: Tensor, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Computes K convolutions of equal shape, stride 1, same size.

    Args:
        x: [B, K*I, H, W].
        w: [K, O, I, k, k], k odd.
        dtype: type in which operands are multiplied (bfloat16), sums are float32; w's if None.

    Returns:
        [B, K*O, H, W] in w's type.
    """
    if small_convolutions.suit(x, w, dtype, small_convolutions.ALL):
        return small_convolutions.convolve(x, w)
    padding, n_runs = w.shape[-1] // 2, w.shape[0]
    x, kernel = x.to(dtype or w.dtype), w.flatten(0, 1).to(dtype or w.dtype)
    if not _separate(w):
        return F.conv2d(x, kernel, padding=padding, groups=n_runs).to(w.dtype)
    parts = zip(x.chunk(n_runs, 1), kernel.chunk(n_runs), strict=True)
    return torch.cat([F.conv2d(own, one, padding=padding) for own, one in parts], 1).to(w.dtype)


def convolve_transposed(gradient: Tensor, x: Tensor, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Returns the gradient [B, K*I, H, W] at the input x of `convolve` from the one [B, K*O, H, W] at its output."""
    if small_convolutions.suit(gradient, w, dtype, small_convolutions.ALL):
        return small_convolutions.at_input(gradient, w)
    return _convolution_backward(gradient, x, w, dtype, at_kernel=False)


def kernel_gradient(gradient: Tensor, x: Tensor, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Returns the gradient [K, O, I, k, k] at the kernel w of `convolve` from the one [B, K*O, H, W] at its output."""
    if small_convolutions.suit(x, w, dtype, small_convolutions.AT_KERNEL) and gradient.dtype == w.dtype:
        return small_convolutions.at_kernel(gradient, x)
    if _OLD_VECTORS and w.shape[0] == 1 and x.device.type == "cpu" and w.shape[-1] > 1 and _is_deep(x):
        # with batch and channels exchanged; without AVX-512 oneDNN's own gradient takes up to 5 times as long
        rows = x.transpose(0, 1).contiguous(memory_format=torch.channels_last)
        kernels = gradient.transpose(0, 1).contiguous(memory_format=torch.channels_last)
        return F.conv2d(rows.to(w.dtype), kernels, padding=w.shape[-1] // 2).transpose(0, 1)[None]
    return _convolution_backward(gradient, x, w, dtype, at_kernel=True).view_as(w)


def _convolution_backward(g: Tensor, x: Tensor, w: Tensor, dtype: torch.dtype | None, *, at_kernel: bool) -> Tensor:
    padding, n_runs, operands = [w.shape[-1] // 2] * 2, w.shape[0], dtype or w.dtype
    g, x, kernel = g.to(operands), x.to(operands), w.flatten(0, 1).to(operands)
    n_calls = n_runs if _separate(w) else 1
    parts: list[Tensor] = [
        torch.ops.aten.convolution_backward(
            *part, None, _ONES, padding, _ONES, False, [0, 0], n_runs // n_calls, [not at_kernel, at_kernel, False]
        )[at_kernel]
        for part in zip(g.chunk(n_calls, 1), x.chunk(n_calls, 1), kernel.chunk(n_calls), strict=True)
    ]
    gradient: Tensor = parts[0] if n_calls == 1 else torch.cat(parts, 0 if at_kernel else 1)
    return gradient.to(w.dtype)


def _separate(w: Tensor) -> bool:
    """Whether K convolutions are K calls instead of one of K groups."""
    return w.shape[0] > 1 and w.shape[2] >= SEPARATE_FROM.get(w.device.type, math.inf)


def _is_deep(x: Tensor) -> bool:
    return x.shape[2] * x.shape[3] <= _DEEP_PIXELS and x.shape[1] >= _DEEP_CHANNELS


def whiten(q: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns P(q), the channel sums of u q, and those of q: batch norm's fused backward at mean 0 and deviation 1."""
    zero, one = standard(u.shape[1], q.device, q.dtype)
    white, products, sums = torch.ops.aten.native_batch_norm_backward(
        q, u, one, None, None, zero, one, True, EPSILON, [True, True, True]
    )
    return white, products, sums


@functools.cache
def standard(n_channels: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Returns mean 0 and deviation 1 for n_channels; cached, as a bilevel step needs them a hundred times."""
    return torch.zeros(n_channels, device=device, dtype=dtype), torch.ones(n_channels, device=device, dtype=dtype)


def channel_mean(p: Tensor, q: Tensor) -> Tensor:
    """Returns the mean of p q over images and pixels, [K*C], in one pass."""
    zero, one = standard(q.shape[1], q.device, q.dtype)
    _, products, _ = torch.ops.aten.native_batch_norm_backward(
        p, q, one, None, None, zero, one, True, EPSILON, [False, True, False]
    )
    mean: Tensor = products / count(q)
    return mean


def mask_(gradient: Tensor, y: Tensor) -> Tensor:
    """Applies ReLU's adjoint and tangent in place: zero where its output y is zero."""
    masked: Tensor = torch.ops.aten.threshold_backward.grad_input(gradient, y, 0, grad_input=gradient)
    return masked


def channels(per_channel: Tensor) -> Tensor:
    """Returns [K, C] or [K*C] as [1, K*C, 1, 1]."""
    return per_channel.reshape(1, -1, 1, 1)


def count(u: Tensor) -> int:
    """Returns images times pixels."""
    return u.shape[0] * u.shape[2] * u.shape[3]


def gradients(
    a: Tensor, s: Tensor, x: Tensor, w: Tensor, dtype: torch.dtype | None, *, at_input: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Returns the gradients of a convolution of x by w from s a at its output.

    Args:
        a: [B, K*O, H, W].
        s: [K, O].
        x: [B, K*I, H, W].
        w: [K, O, I, k, k].
        dtype: type in which operands are multiplied, as in `convolve`.
        at_input: whether to compute that gradient.

    Returns:
        At the kernel [K, O, I, k, k]; the same without s, or None where it was not formed (`gradient_tangents` takes
        either); at the input [B, K*I, H, W], or None.
    """
    if scales_maps(a, w):
        scaled = a * channels(s)
        return (
            kernel_gradient(scaled, x, w, dtype),
            None,
            convolve_transposed(scaled, x, w, dtype) if at_input else None,
        )
    raw = kernel_gradient(a, x, w, dtype)
    return _scale(raw, s), raw, convolve_transposed(a, x, _scale(w, s), dtype) if at_input else None


def gradient_tangents(
    a: Tensor,
    da: Tensor,
    s: Tensor,
    ds: Tensor,
    x: Tensor,
    dx: Tensor | None,
    w: Tensor,
    dw: Tensor,
    raw: Tensor | None,
    dtype: torch.dtype | None,
) -> tuple[Tensor, Tensor | None]:
    """Returns the derivatives of what `gradients` returns, where a, s, x and w move by da, ds, dx and dw.

    Args:
        a: as in `gradients`.
        da: as a.
        s: as in `gradients`.
        ds: as s.
        x: as in `gradients`.
        dx: as x, or None for images, which do not move and whose gradient is not needed.
        w: as in `gradients`.
        dw: as w.
        raw: the kernel's gradient without s, or None where `gradients` returned none.
        dtype: as in `gradients`.

    Returns:
        At the kernel; at the input, or None for images.
    """
    if raw is None:
        scaled = a * channels(s)
        moved = (da * channels(s)).addcmul_(a, channels(ds))
        if dx is None:
            return kernel_gradient(moved, x, w, dtype), None
        # one product over twice the images instead of two and their sum
        at_kernel = kernel_gradient(torch.cat([moved, scaled]), torch.cat([x, dx]), w, dtype)
        return at_kernel, convolve_transposed(scaled, x, dw, dtype).add_(convolve_transposed(moved, x, w, dtype))
    at_kernel = kernel_gradient(da, x, w, dtype)
    if dx is None:
        return _scale(at_kernel, s) + _scale(raw, ds), None
    at_kernel = at_kernel + kernel_gradient(a, dx, w, dtype)
    at_input = convolve_transposed(a, x, _scale(w, ds) + _scale(dw, s), dtype)
    return _scale(at_kernel, s) + _scale(raw, ds), at_input.add_(convolve_transposed(da, x, _scale(w, s), dtype))


def scales_maps(a: Tensor, w: Tensor) -> bool:
    """Whether the maps a have fewer numbers than the kernel w."""
    return a.numel() < w.numel()


def _scale(kernel: Tensor, s: Tensor) -> Tensor:
    return kernel * s[..., None, None, None]


def per_run(scalars: Tensor, like: Tensor) -> Tensor:
    """Returns scalars [K] shaped to broadcast over a parameter [K, ...]."""
    return scalars.view(-1, *[1] * (like.dim() - 1))


def per_channel(scalars: Tensor, maps: Tensor) -> Tensor:
    """Returns scalars [K] as [1, K*C, 1, 1], to broadcast over maps [B, K*C, H, W]."""
    return scalars.repeat_interleave(maps.shape[1] // scalars.shape[0])[None, :, None, None]
