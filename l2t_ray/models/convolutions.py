"""Convolutions, their gradients and the gradients' tangents; `small_convolutions` computes small maps on a CPU.

Where an output's gradient is s a, with a factor s for each channel, the factor moves to whichever is smaller:

    at the kernel:  kernel_gradient(s a, x) = s kernel_gradient(a, x)
    at the input:   convolve_transposed(s a, w) = convolve_transposed(a, s w)

The deepest kernels have nine times as many numbers as the maps of 128 images; the first maps have five thousand times
as many as their kernel.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from l2t_ray.models import small_convolutions
from l2t_ray.models.layer import AdjointTangent, combine, move_kernels, scale, scale_both

_ONES = [1, 1]
_DEEP_PIXELS, _DEEP_CHANNELS = 64, 128  # see kernel_gradient
_OLD_VECTORS = not torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def convolve(x: Tensor, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Computes a convolution of stride 1, same size.

    Args:
        x: [B, I, H, W].
        w: [O, I, k, k], k odd.
        dtype: type in which operands are multiplied (bfloat16), sums are float32; w's if None.

    Returns:
        [B, O, H, W] in w's type.
    """
    if small_convolutions.suit(x, w, dtype, small_convolutions.ALL):
        return small_convolutions.convolve(x, w)
    operands = dtype or w.dtype
    return F.conv2d(x.to(operands), w.to(operands), padding=w.shape[-1] // 2).to(w.dtype)


def convolve_transposed(gradient: Tensor, x: Tensor, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Returns the gradient [B, I, H, W] at the input x of `convolve` from the one [B, O, H, W] at its output."""
    if small_convolutions.suit(gradient, w, dtype, small_convolutions.ALL):
        return small_convolutions.at_input(gradient, w)
    return _convolution_backward(gradient, x, w, dtype, at_kernel=False)


def kernel_gradient(gradient: Tensor, x: Tensor, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Returns the gradient [O, I, k, k] at the kernel w of `convolve` from the one [B, O, H, W] at its output."""
    if small_convolutions.suit(x, w, dtype, small_convolutions.AT_KERNEL) and gradient.dtype == w.dtype:
        return small_convolutions.at_kernel(gradient, x)
    if _OLD_VECTORS and x.device.type == "cpu" and w.shape[-1] > 1 and _is_deep(x):
        # with batch and channels exchanged; without AVX-512 oneDNN's own gradient takes up to 5 times as long
        rows = x.transpose(0, 1).contiguous(memory_format=torch.channels_last)
        kernels = gradient.transpose(0, 1).contiguous(memory_format=torch.channels_last)
        return F.conv2d(rows.to(w.dtype), kernels, padding=w.shape[-1] // 2).transpose(0, 1)
    return _convolution_backward(gradient, x, w, dtype, at_kernel=True)


def _convolution_backward(g: Tensor, x: Tensor, w: Tensor, dtype: torch.dtype | None, *, at_kernel: bool) -> Tensor:
    padding, operands = [w.shape[-1] // 2] * 2, dtype or w.dtype
    given, wanted = [each.to(operands) for each in (g, x, w)], [not at_kernel, at_kernel, False]
    found: list[Tensor] = torch.ops.aten.convolution_backward(
        *given, None, _ONES, padding, _ONES, False, [0, 0], 1, wanted
    )
    return found[at_kernel].to(w.dtype)


def _is_deep(x: Tensor) -> bool:
    return x.shape[2] * x.shape[3] <= _DEEP_PIXELS and x.shape[1] >= _DEEP_CHANNELS


def gradients(
    a: Tensor, s: Tensor, scaled: Tensor | None, x: Tensor, w: Tensor, dtype: torch.dtype | None, *, at_input: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Returns the gradients of a convolution of x by w from s a at its output.

    Args:
        a: [B, O, H, W].
        s: [O].
        scaled: s a where `scales_maps`, or None.
        x: [B, I, H, W].
        w: [O, I, k, k].
        dtype: type in which operands are multiplied, as in `convolve`.
        at_input: whether to compute that gradient.

    Returns:
        At the kernel [O, I, k, k]; the same without s, or None where it was not formed (`gradient_tangents` takes
        either); at the input [B, I, H, W], or None.
    """
    if scaled is not None:
        at_kernel = kernel_gradient(scaled, x, w, dtype)
        return at_kernel, None, convolve_transposed(scaled, x, w, dtype) if at_input else None
    raw = kernel_gradient(a, x, w, dtype)
    if not at_input:
        return scale(raw, s), raw, None
    at_kernel, scaled_kernel = scale_both(raw, w, s)
    return at_kernel, raw, convolve_transposed(a, x, scaled_kernel, dtype)


def gradient_tangents(
    a: Tensor,
    s: Tensor,
    moved: AdjointTangent,
    x: Tensor,
    dx: Tensor | None,
    w: Tensor,
    dw: Tensor,
    raw: Tensor | None,
    dtype: torch.dtype | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Returns the derivatives of what `gradients` returns, where a, s, x and w move by da, ds, dx and dw.

    Args:
        a: as in `gradients`.
        s: as in `gradients`.
        moved: da and ds, and the products of a and da with s and ds where `scales_maps`.
        x: as in `gradients`.
        dx: as x, or None for images, which do not move and whose gradient is not needed.
        w: as in `gradients`.
        dw: as w.
        raw: the kernel's gradient without s, or None where `gradients` returned none.
        dtype: as in `gradients`.

    Returns:
        At the kernel; at the input, in two parts that are yet to be added, and none for images.
    """
    if moved.scaled is not None and moved.moved is not None:
        if dx is None:
            return kernel_gradient(moved.moved, x, w, dtype), ()
        # one product over twice the images instead of two and their sum
        at_kernel = kernel_gradient(torch.cat([moved.moved, moved.scaled]), torch.cat([x, dx]), w, dtype)
        at_input = convolve_transposed(moved.scaled, x, dw, dtype)
        return at_kernel, (at_input, convolve_transposed(moved.moved, x, w, dtype))
    assert raw is not None
    da, ds = moved.white, moved.ds
    at_kernel = kernel_gradient(da, x, w, dtype)
    if dx is None:
        return combine(at_kernel, raw, s, ds), ()
    of_kernel, moved_kernel, scaled_kernel = move_kernels(
        (at_kernel, kernel_gradient(a, dx, w, dtype)), raw, w, dw, s, ds
    )
    at_input = convolve_transposed(a, x, moved_kernel, dtype)
    return of_kernel, (at_input, convolve_transposed(da, x, scaled_kernel, dtype))


def scales_maps(a: Tensor, w: Tensor) -> bool:
    """Whether the maps a have fewer numbers than the kernel w."""
    return a.numel() < w.numel()
