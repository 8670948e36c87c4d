"""A convolution whose output's gradient is s a, with a factor s for each channel: its gradients and their tangents.

    at the kernel:  kernel_gradient(s a, x) = s kernel_gradient(a, x)
    at the input:   convolve_transposed(s a, w) = convolve_transposed(a, s w)

The factor goes to whatever is smaller, the maps or the kernel: the deepest kernels have nine times as many numbers as
the maps of 128 images, the first maps five thousand times as many as their kernel.
"""

import torch
from torch import Tensor

from l2t_ray.operators import channels, convolve_transposed, kernel_gradient


def gradients(
    a: Tensor, s: Tensor, x: Tensor, w: Tensor, dtype: torch.dtype | None, *, at_input: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The gradients of a convolution of x by w from s a at its output.

    Args:
        a: [B, K*O, H, W].
        s: [K, O].
        x: [B, K*I, H, W].
        w: [K, O, I, k, k].
        dtype: type in which operands are multiplied, as in `operators.convolve`.
        at_input: whether that gradient is wanted.

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
    """The derivatives of what `gradients` gives, along a direction in which a, s, x and w move by da, ds, dx and dw.

    Args:
        a: as in `gradients`.
        da: as a.
        s: as in `gradients`.
        ds: as s.
        x: as in `gradients`.
        dx: as x, or None for images, which do not move and whose gradient nobody wants.
        w: as in `gradients`.
        dw: as w.
        raw: the kernel's gradient without s, or None where `gradients` gave none.
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
