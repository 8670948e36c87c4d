"""Images of any size become squares of bytes, as torchvision's Resize, CenterCrop and Pad make them."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

Resize = Literal["squash", "shorter_side", "pad"]
CHUNK = 1024  # images that are resized at once


def resized(images: Tensor, size: int, how: Resize = "squash", out: Tensor | None = None) -> Tensor:
    """Returns images as squares: bilinear, antialiased, in uint8, as Pillow and torchvision do it.

    Args:
        images: uint8 [N, 3, H, W].
        size: of the squares.
        how: "squash" changes the shape; "shorter_side" cuts the longer side at both ends; "pad" adds black there.
        out: where squashed ones may be put; new memory by default.

    Returns:
        Contiguous uint8 [N, 3, size, size].
    """
    height, width = images.shape[2:]
    if (height, width) == (size, size):
        return images.contiguous()
    if how == "squash" or height == width:
        found = images.new_empty(len(images), 3, size, size) if out is None else out
        for start in range(0, len(images), CHUNK):
            found[start : start + CHUNK] = _interpolated(images[start : start + CHUNK], size, size)
        return found
    from torchvision.transforms.v2 import functional

    kept = min(height, width) if how == "shorter_side" else max(height, width)
    # torchvision's rule: the other side is rounded down
    new = [size if side == kept else max(1, int(size * side / kept)) for side in (height, width)]
    images = _interpolated(images, *new)
    if how == "shorter_side":
        cut: Tensor = functional.center_crop(images, [size, size])
        return cut.contiguous()
    left, top = ((size - side) // 2 for side in (new[1], new[0]))
    padded: Tensor = functional.pad(images, [left, top, size - new[1] - left, size - new[0] - top])
    return padded.contiguous()


def _interpolated(images: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(images.contiguous(), (height, width), mode="bilinear", antialias=True)
