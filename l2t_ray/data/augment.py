"""Random crops and flips of a whole batch at once, and the random numbers behind them.

An epoch's draws belong to the images: row i of `offsets` and `flips` is for the image at position i of the subset,
whatever its place in the order and its batch. So the draws do not depend on the batch size or the pack.
"""

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from l2t_ray.config import Augment
from l2t_ray.data.streams import stream

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, as in the published L2T-ww code
STD = (0.229, 0.224, 0.225)
Normalization = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation by channel
IMAGENET: Normalization = (MEAN, STD)
_LEVELS = 255


def epoch_draws(seed: int, epoch: int, n: int, settings: Augment) -> tuple[Tensor, Tensor, Tensor]:
    """Draws an epoch's random numbers. Switching flips off, or another padding, changes no other draw.

    Args:
        seed: the run's.
        epoch: 0-based.
        n: images of the subset.
        settings: padding and whether to flip.

    Returns:
        On the CPU: the order of the positions, int64 [n], from the stream "batches"; the crop's top and left in the
        padded image, int64 [n, 2] in 0..2 padding, and whether to flip, bool [n], both from "augment".
    """
    order = torch.randperm(n, generator=stream(seed, "batches", epoch))
    augment = stream(seed, "augment", epoch)
    offsets = torch.randint(2 * settings.crop_padding + 1, (n, 2), generator=augment)
    flips = torch.randint(2, (n,), generator=augment) == 1
    return order, offsets, flips if settings.flip else torch.zeros_like(flips)


def crop_and_flip(images: Tensor, offsets: Tensor, flips: Tensor, padding: int) -> Tensor:
    """Pads each image with zeros, crops it back to its size, and flips it left to right where asked: one gather.

    Args:
        images: [B, 3, H, W].
        offsets: int64 [B, 2], top and left in 0..2 padding; an offset of `padding` in both leaves the image in place.
        flips: bool [B].
        padding: pixels of zeros on each side.

    Returns:
        [B, 3, H, W] in the images' type and on their device, without synchronising with it.
    """
    n_images, n_channels, height, width = images.shape
    padded_width = width + 2 * padding
    padded = F.pad(images, (padding,) * 4).flatten(2)
    rows = torch.arange(height, device=images.device) + offsets[:, :1]
    columns = torch.arange(width, device=images.device)
    columns = torch.where(flips[:, None], columns.flip(0), columns) + offsets[:, 1:]
    index = (rows[:, :, None] * padded_width + columns[:, None, :]).view(n_images, 1, -1)
    return padded.gather(2, index.expand(-1, n_channels, -1)).view(images.shape)


def normalize(images: Tensor, dtype: torch.dtype = torch.float32, by: Normalization = IMAGENET) -> Tensor:
    """Returns pixels as networks take them: (x / 255 - mean) / std by channel.

    Args:
        images: uint8 [B, 3, H, W].
        dtype: floating.
        by: mean and standard deviation of the channels.

    Returns:
        [B, 3, H, W] on the images' device; after the first call without synchronising with it.
    """
    exact = torch.promote_types(dtype, torch.float32)
    scale, shift = _constants(images.device, exact, by)
    return torch.addcmul(shift, images.to(exact), scale).to(dtype)


@functools.cache
def _constants(device: torch.device, dtype: torch.dtype, by: Normalization) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in by)
    return (1 / (_LEVELS * std)).to(device, dtype), (-mean / std).to(device, dtype)
