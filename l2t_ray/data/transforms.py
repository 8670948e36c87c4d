"""Random changes to a batch of bytes at once, each image with its own: as torchvision's transforms change one image.

All numbers are drawn on the CPU for an epoch, from streams of the run's seed; row i is for the image at position i of
the subset, so they do not depend on the batch size, and no change moves the draws of another. Which images an operation
is for is known on the CPU, too: nothing waits for the device.

| setting | as in torchvision | stream |
| --- | --- | --- |
| resized_crop | RandomResizedCrop(scale=(resized_crop, 1)) | "crops" |
| rand_augment | RandAugment (Cubuk et al. 2020) | "rand_augment" |
| color_jitter, hue_jitter | ColorJitter(b, b, b, h) | "colours" |
| mixup | MixUp (Zhang et al. 2018), with a share for each image | "mixup" |
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as vision

from l2t_ray.config import Augment
from l2t_ray.data.streams import stream

TRIES = 10  # of a crop's shape, then the whole image is taken
RATIOS = (3 / 4, 4 / 3)  # of a crop's width to its height
BINS = 31  # magnitudes of RandAugment
OF_OPERATIONS = ("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color",
                 "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize")  # fmt: skip
SIGNED = frozenset(OF_OPERATIONS[1:10])
COLOURS = 4  # brightness, contrast, saturation, hue
GREY = (0.2989, 0.587, 0.114)  # of red, green and blue; torchvision's


@dataclass(frozen=True)
class Changes:
    """An epoch's draws on the CPU; None for what is not asked for."""

    boxes: Tensor | None  # int64 [n, 4]: top, left, height and width of the crop
    operations: Tensor | None  # int64 [n, layers]: of RandAugment
    signs: Tensor | None  # bool [n, layers]: whether a signed magnitude is negative
    factors: Tensor | None  # float [n, 4] of brightness, contrast, saturation; hue's shift
    order: Tensor | None  # int64 [n, 4]: in which order colours are changed
    shares: Tensor | None  # float [n]: of the image itself in a mixture


def draw_changes(seed: int, epoch: int, n: int, size: int, settings: Augment) -> Changes:
    """Draws an epoch's random changes.

    Args:
        seed: the run's.
        epoch: 0-based.
        n: images of the subset.
        size: H = W of an image.
        settings: which changes, and how strong.

    Returns:
        The draws, on the CPU.
    """
    boxes = operations = signs = factors = order = shares = None
    if settings.resized_crop is not None:
        boxes = _draw_boxes(stream(seed, "crops", epoch), n, size, settings.resized_crop)
    if settings.rand_augment:
        generator = stream(seed, "rand_augment", epoch)
        shape = (n, settings.rand_augment)
        operations = torch.randint(len(OF_OPERATIONS), shape, generator=generator)
        signs = torch.rand(shape, generator=generator) <= 0.5
    if settings.color_jitter or settings.hue_jitter:
        generator = stream(seed, "colours", epoch)
        uniform = 2 * torch.rand(n, COLOURS, generator=generator) - 1
        strengths = torch.tensor([settings.color_jitter] * 3 + [settings.hue_jitter])
        factors = uniform * strengths + torch.tensor([1.0, 1.0, 1.0, 0.0])
        order = torch.rand(n, COLOURS, generator=generator).argsort(1)
    if settings.mixup:
        bits = int(torch.randint(2**62, (), generator=stream(seed, "mixup", epoch)))
        shares = torch.from_numpy(np.random.default_rng(bits).beta(settings.mixup, settings.mixup, n)).float()
    return Changes(boxes, operations, signs, factors, order, shares)


def change(images: Tensor, rows: Tensor, changes: Changes, settings: Augment) -> Tensor:
    """Returns a batch with its crops, RandAugment and colours; mixing comes after `normalize`.

    Args:
        images: uint8 [B, 3, S, S], those at `rows` of the subset.
        rows: int64 [B], on the CPU.
        changes: of the epoch.
        settings: what they were drawn with.
    """
    if changes.boxes is not None:
        images = crop(images, changes.boxes[rows])
    if changes.operations is not None and changes.signs is not None:
        for operations, signs in zip(changes.operations[rows].T, changes.signs[rows].T, strict=True):
            images = _rand_augmented(images, operations, signs, settings.rand_augment_magnitude)
    if changes.factors is not None and changes.order is not None:
        images = _coloured(images, changes.order[rows], changes.factors[rows], settings)
    return images


def mix(x: Tensor, labels: Tensor, shares: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """Mixes each image with the one before it in the batch, whose order is random.

    Args:
        x: images [B, 3, S, S], normalised.
        labels: int64 [B].
        shares: [B], of the image itself, in any floating type.
        n_classes: of the data set.

    Returns:
        Mixtures, and shares of each class [B, n_classes], in the images' type.
    """
    shares = shares.to(x.device, x.dtype)[:, None]
    targets = F.one_hot(labels, n_classes).to(x.dtype)
    mixed = x.roll(1, 0).lerp(x, shares[:, :, None, None])
    return mixed, targets.roll(1, 0).lerp(targets, shares)


def crop(images: Tensor, boxes: Tensor) -> Tensor:
    """Cuts a box of each image and resizes it to the image's size, bilinearly.

    Args:
        images: uint8 [B, 3, S, S].
        boxes: int64 [B, 4], on the CPU: top, left, height, width.

    Returns:
        uint8 [B, 3, S, S].
    """
    size = images.shape[-1]
    top, left, height, width = boxes.to(images.device, torch.float32).T[:, :, None]
    steps = torch.arange(size, device=images.device) + 0.5
    # within the box: what lies beyond its edge is not mixed in
    y = top + ((steps * height / size) - 0.5).clamp(min=0).minimum(height - 1)
    x = left + ((steps * width / size) - 0.5).clamp(min=0).minimum(width - 1)
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1)
    grid = (2 * grid + 1) / size - 1  # as `grid_sample` counts, from edge to edge
    found = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return found.round_().clamp_(0, 255).to(torch.uint8)


def _draw_boxes(generator: torch.Generator, n: int, size: int, least: float) -> Tensor:
    """Draws as torchvision's RandomResizedCrop does: of ten shapes the first that fits, else the whole image."""
    area = size * size * (least + (1 - least) * torch.rand(n, TRIES, generator=generator))
    low, high = map(math.log, RATIOS)
    ratio = torch.exp(low + (high - low) * torch.rand(n, TRIES, generator=generator))
    shapes = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], -1).round().long()  # height, width
    fits = (shapes <= size).all(-1)
    first = fits.int().argmax(1)
    shape = shapes[torch.arange(n), first].clamp(min=1)
    shape = torch.where(fits.any(1)[:, None], shape, size)
    corner = (torch.rand(n, 2, generator=generator) * (size - shape + 1)).long()
    return torch.cat([corner.minimum(size - shape), shape], 1)


def _rand_augmented(images: Tensor, operations: Tensor, signs: Tensor, magnitude: int) -> Tensor:
    """Applies one of RandAugment's operations to each image; those with the same one together."""
    images = images.clone()
    kinds = operations * 2 + signs.logical_and(torch.tensor([name in SIGNED for name in OF_OPERATIONS])[operations])
    for kind in kinds.unique().tolist():
        name = OF_OPERATIONS[kind // 2]
        if name == "identity":
            continue
        which = (kinds == kind).nonzero().flatten().to(images.device, non_blocking=True)
        value = _magnitude(name, magnitude, images.shape[-1]) * (-1 if kind % 2 else 1)
        images[which] = OPERATIONS[name](images[which], value)
    return images


def _magnitude(name: str, magnitude: int, size: int) -> float:
    """Returns what a magnitude of 0 to 30 means for an operation (torchvision's table, in float32 as there)."""
    if name == "posterize":
        return 8 - round(magnitude / ((BINS - 1) / 4))
    if name == "solarize":
        return 255 * float(torch.linspace(1.0, 0.0, BINS)[magnitude])
    kind = name.partition("_")[0]
    most = {"shear": 0.3, "translate": 150.0 / 331.0 * size, "rotate": 30.0}.get(kind, 0.9)
    return float(torch.linspace(0.0, most, BINS)[magnitude])


def _affine(images: Tensor, *, translate: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    degrees = [math.degrees(math.atan(part)) for part in shear]
    moved: Tensor = vision.affine(images, angle=0.0, translate=[*translate], scale=1.0, shear=degrees, center=[0, 0])
    return moved


OPERATIONS: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "shear_x": lambda images, value: _affine(images, shear=(value, 0.0)),
    "shear_y": lambda images, value: _affine(images, shear=(0.0, value)),
    "translate_x": lambda images, value: _affine(images, translate=(int(value), 0)),
    "translate_y": lambda images, value: _affine(images, translate=(0, int(value))),
    "rotate": vision.rotate,
    "brightness": lambda images, value: vision.adjust_brightness(images, 1 + value),
    "color": lambda images, value: vision.adjust_saturation(images, 1 + value),
    "contrast": lambda images, value: vision.adjust_contrast(images, 1 + value),
    "sharpness": lambda images, value: vision.adjust_sharpness(images, 1 + value),
    "posterize": lambda images, value: vision.posterize(images, int(value)),
    "solarize": vision.solarize,
    "autocontrast": lambda images, value: vision.autocontrast(images),
    "equalize": lambda images, value: vision.equalize(images),
}


def _coloured(images: Tensor, order: Tensor, factors: Tensor, settings: Augment) -> Tensor:
    """Changes each image's colours in its own order; those with the same one in a place together."""
    images, there = images.clone(), factors.to(images.device, non_blocking=True)
    asked = [number for number in range(COLOURS) if (settings.hue_jitter if number == 3 else settings.color_jitter)]
    for place in order.T:
        for number in asked:
            which = (place == number).nonzero().flatten().to(images.device, non_blocking=True)
            if len(which):
                images[which] = _COLOURS[number](images[which], there[which, number][:, None, None, None])
    return images


def _grey(images: Tensor) -> Tensor:
    weights = images.new_tensor(GREY, dtype=torch.float32)[:, None, None]
    return (images * weights).sum(1, keepdim=True).floor()


def _blend(images: Tensor, other: Tensor | float, factors: Tensor) -> Tensor:
    return (images * factors + other * (1 - factors)).clamp(0, 255).to(torch.uint8)


def _turn(images: Tensor, shift: Tensor) -> Tensor:
    """Adds to the hue, a share of the circle; through hue, saturation and value (Smith 1978)."""
    x = images.float() / 255
    value, at = x.max(1, keepdim=True)
    span = value - x.amin(1, keepdim=True)
    red, green, blue = x.split(1, 1)
    safe = span.where(span > 0, 1)
    sixths = torch.stack([(green - blue) / safe, 2 + (blue - red) / safe, 4 + (red - green) / safe])
    hue = sixths.gather(0, at[None])[0] + 6 * shift
    parts = [(hue + n) % 6 for n in (5, 3, 1)]
    turned = [value - span * torch.minimum(k, 4 - k).clamp(0, 1) for k in parts]
    return (torch.cat(turned, 1) * (256 - 1e-3)).to(torch.uint8)


_COLOURS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    lambda images, factors: _blend(images, 0.0, factors),
    lambda images, factors: _blend(images, _grey(images).mean((1, 2, 3), keepdim=True), factors),
    lambda images, factors: _blend(images, _grey(images), factors),
    _turn,
)
