"""The bytes of one image file become its pixels in red, green and blue: upright, on white, 8 bits a channel.

An image of more bits is scaled by the range of its type. What has no known range is refused.
"""

import contextlib
import io
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from l2t_ray.data.cut import ends_early, lacks_bytes
from l2t_ray.data.kinds import identify

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

MAX_PIXELS = 1 << 26
ORIENTATION = 0x0112  # EXIF's tag
BITS, PHOTOMETRIC, PLANES, SAMPLE_FORMAT = 258, 262, 284, 339  # TIFF's tags
WHITE_IS_ZERO, SEPARATE, UNSIGNED = 0, 2, 1
WITH_16_BITS = {"PNG", "TIFF", "PPM", "JPEG2000"}  # formats of whose 16-bit grey Pillow gives the whole range
WITH_FRAMES = {"GIF", "PNG", "TIFF", "WEBP", "AVIF"}
REMEDY = "replace or remove it"
CONVERT = "convert it to 8 or 16 bits"
SHRINK = "shrink it"
CUT = ("cut short, its end is missing", "fetch it again")
WITH_UNUSED_ALPHA = {"TGA", "BMP", "DIB"}
GREY = 0  # PNG's type of colours


class UnreadableError(ValueError):
    """An image that cannot be read rightly.

    Attributes:
        reason: why.
        remedy: what to do.
    """

    def __init__(self, reason: str, remedy: str = REMEDY) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


def decode(content: bytes, max_pixels: int) -> tuple[NDArray[np.uint8], bool]:
    """Decodes an image; of several frames, the first one.

    Args:
        content: of the file.
        max_pixels: more are refused, before they are decoded.

    Returns:
        Pixels [H, W, 3], and whether the file has further frames.

    Raises:
        UnreadableError: if it is no image, damaged, or of a kind whose values have no known range.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if ends_early(content):
            raise UnreadableError(*CUT)
        with _opened(content) as image:
            if image.width * image.height > max_pixels:
                reason = f"{image.width} x {image.height} pixels, more than {max_pixels}"
                raise UnreadableError(reason, SHRINK)
            _check_range(image)
            _scale_transparency(image, content)
            pixels = _as_rgb(_upright(image), ignore_alpha=_alpha_is_unused(image, content))
            return pixels, _has_frames(image)
    except UnreadableError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow's own limit, in any frame
        found = re.search(r"\d+", str(error))
        reason = f"{found[0] if found else 'too many'} pixels, more than {max_pixels}"
        raise UnreadableError(reason, SHRINK) from error
    except UnidentifiedImageError as error:
        reason, remedy = _describe(content)
        raise UnreadableError(reason, remedy) from error
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        if lacks_bytes(content):
            raise UnreadableError(*CUT) from error
        raise UnreadableError(str(error) or type(error).__name__) from error


def mode_of(content: bytes) -> str:
    """Returns the mode of an image that can be decoded, in Pillow's words: RGB, RGBA, L (grey), P (palette), ..."""
    with _opened(content) as image:
        return str(image.mode)


def _opened(content: bytes) -> "ImageFile":
    """Opens an image; Pillow's warning of a large one is an error."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(content))


def _describe(content: bytes) -> tuple[str, str]:
    """Returns what a file is that Pillow does not know, and a remedy."""
    from PIL import features

    what, remedy = identify(content[:1024]) or ("no kind of image that Pillow knows", "")
    if what == "an AVIF image" and not features.check("avif"):
        return what, "convert it to PNG or JPEG"
    if not remedy and lacks_bytes(content):
        return CUT
    if content[:4] in {b"II*\0", b"MM\0*"}:
        return "a TIFF of a kind that Pillow does not read", CONVERT
    if what.startswith("a text "):
        return f"{what}, not an image", REMEDY
    return f"{what}, damaged" if what.endswith(" image") else what, remedy or REMEDY


def _check_range(image: "ImageFile") -> None:
    """Refuses values whose range nobody knows, and what Pillow reads wrongly."""
    tags: Any = image.tag_v2 if image.format == "TIFF" else {}  # type: ignore[attr-defined]
    formats = {*_numbers(tags.get(SAMPLE_FORMAT, UNSIGNED))}
    if image.mode == "F":
        raise UnreadableError("float values, whose range nobody knows", CONVERT)
    if formats & {2, 5}:
        raise UnreadableError("signed values, whose range nobody knows", CONVERT)
    if image.mode == "I" and image.format != "PPM":
        raise UnreadableError("values of 32 bits, whose range nobody knows", CONVERT)
    if image.mode.startswith("I;16") and image.format not in WITH_16_BITS:
        raise UnreadableError(f"16 bits as {image.format}, whose range nobody knows", CONVERT)
    if tags.get(PLANES) == SEPARATE and max(_numbers(tags.get(BITS, 1))) > 8:
        raise UnreadableError("more than 8 bits in separate planes, which Pillow reads wrongly", CONVERT)
    if "transparency" in image.info and image.mode == "RGB" and "16" in str(image.tile[0].args):
        raise UnreadableError("one transparent colour in 16 bits, which Pillow reads wrongly", "convert it to 8 bits")


def _upright(image: "Image") -> "Image":
    """Returns the image, turned as its EXIF entry says."""
    from PIL import ImageOps

    image.load()
    orientation = 1
    with contextlib.suppress(Exception):  # EXIF that cannot be read says nothing, as in every viewer
        orientation = image.getexif().get(ORIENTATION, 1)
    return image if orientation == 1 else ImageOps.exif_transpose(image)


def _scale_transparency(image: "ImageFile", content: bytes) -> None:
    """Scales the transparent grey of a PNG of 2 or 4 bits as Pillow scales the pixels, by 85 or 17."""
    if image.format == "PNG" and content[24] in {2, 4} and content[25] == GREY:  # the head: bits, type of colours
        largest, grey = 2 ** content[24] - 1, image.info.get("transparency")
        if isinstance(grey, int) and grey <= largest:
            image.info["transparency"] = grey * (255 // largest)


def _alpha_is_unused(image: "ImageFile", content: bytes) -> bool:
    """Whether a TGA or BMP has a fourth channel that is no alpha: said to be of 0 bits, or 0 in every pixel."""
    if image.format not in WITH_UNUSED_ALPHA or not image.has_transparency_data:
        return False
    if image.format == "TGA" and image.mode != "P" and not content[17] & 15:  # the descriptor
        return True
    return image.convert("RGBA").getchannel("A").getextrema()[1] == 0


def _as_rgb(image: "Image", *, ignore_alpha: bool) -> NDArray[np.uint8]:
    from PIL import Image

    if ignore_alpha:
        return np.array(image.convert("RGBA").convert("RGB"))
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _scaled(image)
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))
    seen = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return np.array(Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB"))


def _scaled(image: "Image") -> NDArray[np.uint8]:
    """Returns grey values of 9 to 16 bits as 8 bits, their type's range as 0 to 255."""
    values = np.asarray(image).astype(np.uint32)
    tags: Any = getattr(image, "tag_v2", {})
    largest = 2 ** max(_numbers(tags.get(BITS, 16))) - 1
    grey = ((values * 255 + largest // 2) // largest).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow turns 8 bits round, but not 16
        grey = 255 - grey
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return np.repeat(grey[:, :, None], 3, axis=2)


def _has_frames(image: "ImageFile") -> bool:
    if image.format not in WITH_FRAMES:
        return False
    with contextlib.suppress(Exception):  # a damaged second frame does not matter: the first one is read
        return getattr(image, "n_frames", 1) > 1
    return False


def _numbers(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)
