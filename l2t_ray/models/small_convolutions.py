"""3 x 3 convolutions of small maps as matrix products that leave the zero padding out.

Of the 36 pairs of a tap and a pixel of a 2 x 2 map 20 lie in the padding, of the 144 of a 4 x 4 map 44; a library's
convolution multiplies them. Here each output pixel takes one product for each row of the map under its kernel: the
pixels of that row and the taps on them are contiguous, so no matrix of patches is built. On a CPU, for many
channels, this takes four to six tenths of a library's time at 2 x 2, and eight tenths at 4 x 4 for the kernel's
gradient (docs/measurements.md, The bilevel step).
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

_TAPS = 3
_MANY_CHANNELS = {2: 128, 4: 256}  # by size; with fewer channels the calls take longer than the products
ALL, AT_KERNEL = (2,), (2, 4)  # sizes at which every pass, or the kernel's gradient, is faster


class _Product(NamedTuple):
    """One output pixel and one row of the input's pixels under its kernel."""

    pixel: int
    inputs: slice  # of an image's numbers, pixel by pixel
    taps: slice  # of an output channel's numbers, tap by tap
    is_first: bool  # of its output pixel


def suit(x: Tensor, w: Tensor, dtype: torch.dtype | None, sizes: tuple[int, ...]) -> bool:
    """Whether these products are faster than the library's convolution.

    Args:
        x: the maps, [B, I, H, W].
        w: the kernels, [O, I, k, k].
        dtype: type in which operands are multiplied; w's if None.
        sizes: `ALL` or `AT_KERNEL`.

    Returns:
        True on a CPU alone.
    """
    n_outputs, n_inputs, n_taps = w.shape[:3]
    size = x.shape[-1]
    if n_taps != _TAPS or size not in sizes or x.shape[-2] != size or x.device.type != "cpu":
        return False
    plain = dtype in (None, w.dtype) and x.dtype == w.dtype and not (x.requires_grad or w.requires_grad)
    return plain and min(n_outputs, n_inputs) >= _MANY_CHANNELS[size]


def convolve(x: Tensor, w: Tensor) -> Tensor:
    """Returns the convolution [B, O, S, S] of x [B, I, S, S] with w [O, I, 3, 3], of the same size."""
    size, (n_outputs, n_inputs) = x.shape[-1], w.shape[:2]
    images, kernels = _by_pixel(x).flatten(1), _by_tap(w)
    y = images.new_empty(len(images), size * size, n_outputs)
    for product in _products(size, n_inputs):
        row, taps = images[:, product.inputs], kernels[:, product.taps].t()
        if product.is_first:
            torch.mm(row, taps, out=y[:, product.pixel])
        else:
            y[:, product.pixel].addmm_(row, taps)
    return _as_maps(y, size)


def at_input(gradient: Tensor, w: Tensor) -> Tensor:
    """Returns the gradient [B, I, S, S] at `convolve`'s input from the one [B, O, S, S] at its output."""
    size, n_inputs = gradient.shape[-1], w.shape[1]
    slopes, kernels = _by_pixel(gradient), _by_tap(w)
    result = slopes.new_zeros(len(slopes), size * size * n_inputs)
    for product in _products(size, n_inputs):
        result[:, product.inputs].addmm_(slopes[:, product.pixel], kernels[:, product.taps])
    return _as_maps(result.view(len(slopes), size * size, n_inputs), size)


def at_kernel(gradient: Tensor, x: Tensor) -> Tensor:
    """Returns the gradient [O, I, 3, 3] at `convolve`'s kernel from the one [B, O, S, S] at its output."""
    n_outputs, n_inputs = gradient.shape[1], x.shape[1]
    slopes, images = _by_pixel(gradient), _by_pixel(x).flatten(1)
    result = slopes.new_zeros(n_outputs, _TAPS * _TAPS * n_inputs)
    for product in _products(x.shape[-1], n_inputs):
        result[:, product.taps].addmm_(slopes[:, product.pixel].t(), images[:, product.inputs])
    return result.view(n_outputs, _TAPS, _TAPS, n_inputs).permute(0, 3, 1, 2).contiguous()


@functools.cache
def _products(size: int, n_channels: int) -> tuple[_Product, ...]:
    """Returns all products of a map of size x size with n_channels input channels."""
    products = []
    for y in range(size):
        for x in range(size):
            left, right = max(x - 1, 0), min(x + 1, size - 1)
            rows = range(max(y - 1, 0), min(y + 1, size - 1) + 1)
            for row in rows:
                start, stop = row * size + left, row * size + right + 1
                tap = (row - y + 1) * _TAPS + left - x + 1
                products.append(
                    _Product(
                        pixel=y * size + x,
                        inputs=slice(start * n_channels, stop * n_channels),
                        taps=slice(tap * n_channels, (tap + stop - start) * n_channels),
                        is_first=row == rows[0],
                    )
                )
    return tuple(products)


def _by_pixel(maps: Tensor) -> Tensor:
    """Returns [B, C, S, S] as [B, S*S, C]; a view of channels-last maps."""
    return maps.permute(0, 2, 3, 1).contiguous().flatten(1, 2)


def _by_tap(w: Tensor) -> Tensor:
    """Returns [O, I, 3, 3] as [O, 9*I]."""
    return w.permute(0, 2, 3, 1).contiguous().flatten(1)


def _as_maps(by_pixel: Tensor, size: int) -> Tensor:
    """Returns [B, S*S, C] as channels-last maps [B, C, S, S]."""
    return by_pixel.view(len(by_pixel), size, size, -1).permute(0, 3, 1, 2)
