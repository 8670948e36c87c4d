"""Operators of K runs at once on activations [B, K*C, H, W], with kernels [K, O, I, k, k]: each is one fused call."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

EPSILON = 1e-5  # torch.nn.BatchNorm2d's
_ONES = [1, 1]
_DEEP_PIXELS, _DEEP_CHANNELS = 64, 128  # see kernel_gradient


def convolve(x: Tensor, w: Tensor) -> Tensor:
    """K convolutions of equal shape, stride 1, same size.

    Args:
        x: [B, K*I, H, W].
        w: [K, O, I, k, k], k odd.

    Returns:
        [B, K*O, H, W].
    """
    return F.conv2d(x, w.flatten(0, 1), padding=w.shape[-1] // 2, groups=w.shape[0])


def convolve_transposed(gradient: Tensor, x: Tensor, w: Tensor) -> Tensor:
    """The gradient [B, K*I, H, W] at the input x of `convolve` from the one [B, K*O, H, W] at its output."""
    return _convolution_backward(gradient, x, w, (True, False))[0]


def kernel_gradient(gradient: Tensor, x: Tensor, w: Tensor) -> Tensor:
    """The gradient [K, O, I, k, k] at the kernel w of `convolve` from the one [B, K*O, H, W] at its output."""
    if w.shape[0] == 1 and x.device.type == "cpu" and w.shape[-1] > 1 and _is_deep(x):
        # oneDNN is up to 5 times slower on few pixels and many channels than this: batch and channels change places
        rows = x.transpose(0, 1).contiguous(memory_format=torch.channels_last)
        kernels = gradient.transpose(0, 1).contiguous(memory_format=torch.channels_last)
        return F.conv2d(rows, kernels, padding=w.shape[-1] // 2).transpose(0, 1)[None]
    return _convolution_backward(gradient, x, w, (False, True))[1].view_as(w)


def _convolution_backward(g: Tensor, x: Tensor, w: Tensor, needed: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
    padding, kernel = [w.shape[-1] // 2] * 2, w.flatten(0, 1)
    mask = [*needed, False]
    gx, gw, _ = torch.ops.aten.convolution_backward(
        g, x, kernel, None, _ONES, padding, _ONES, False, [0, 0], w.shape[0], mask
    )
    return gx, gw


def _is_deep(x: Tensor) -> bool:
    return x.shape[2] * x.shape[3] <= _DEEP_PIXELS and x.shape[1] >= _DEEP_CHANNELS


def whiten(q: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """P(q), the channel sums of u q, and those of q: batch norm's fused backward at mean 0 and deviation 1."""
    zero, one = q.new_zeros(u.shape[1]), q.new_ones(u.shape[1])
    white, products, sums = torch.ops.aten.native_batch_norm_backward(
        q, u, one, None, None, zero, one, True, EPSILON, [True, True, True]
    )
    return white, products, sums


def channel_mean(p: Tensor, q: Tensor) -> Tensor:
    """The mean of p q over images and pixels, [K*C]."""
    return (p * q).mean((0, 2, 3))


def channels(per_channel: Tensor) -> Tensor:
    """[K, C] or [K*C] as [1, K*C, 1, 1]."""
    return per_channel.reshape(1, -1, 1, 1)


def scale(kernel: Tensor, s: Tensor) -> Tensor:
    """A kernel [K, O, I, k, k] times a factor [K, O] for each output channel."""
    return kernel * s[..., None, None, None]


def count(u: Tensor) -> int:
    """Images times pixels."""
    return u.shape[0] * u.shape[2] * u.shape[3]
