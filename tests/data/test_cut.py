"""Images that are cut short are called so."""

import numpy as np
import pytest

from l2t_ray.data.images import UnreadableError
from tests.support.pixels import AS_BEFORE, COLOURS, DEEP, pixels, saved


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_of_which_the_rest_is_zeros_is_cut_short(progressive):
    """As a program leaves it that gives a file its size before it fetches it; a thumbnail's end is not the image's."""
    thumbnail = saved(COLOURS.resize((8, 8)), "JPEG")
    content = saved(COLOURS.resize((200, 200)), "JPEG", progressive=progressive, exif=b"Exif\0\0" + thumbnail)
    assert b"\xff\xd9" in content[: len(content) // 2]
    for share in (0.5, 0.9):
        part = content[: int(share * len(content))]
        with pytest.raises(UnreadableError, match=r"^cut short, its end is missing$") as caught:
            pixels(part + bytes(len(content) - len(part)))
        assert caught.value.remedy == "fetch it again"


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("more", [b"", bytes(4096), b"trailer", b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(40)])
def test_a_jpeg_with_its_end_is_read_whatever_follows(progressive, more):
    content = saved(COLOURS, "JPEG", progressive=progressive, restart_marker_blocks=2)
    assert np.array_equal(pixels(content + more), pixels(content))


CUT = {
    "tiff-plain": saved(COLOURS, "TIFF"),
    "tiff-lzw": AS_BEFORE["tiff-lzw"],
    "tiff-deflate": saved(COLOURS, "TIFF", compression="tiff_adobe_deflate"),
    "tiff-jpeg": saved(COLOURS, "TIFF", compression="jpeg"),
    "tiff-packbits": saved(COLOURS, "TIFF", compression="packbits"),
    "tiff-big-endian": DEEP["tiff-big-endian"],
    "tiff-64-bits": saved(COLOURS, "TIFF", big_tiff=True),
    "avif": saved(COLOURS, "AVIF"),
    "webp": AS_BEFORE["webp"],
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data|Truncated File Read:UserWarning")  # Pillow's, of its own end
@pytest.mark.parametrize("share", [0.03, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", CUT)
def test_an_image_that_is_cut_short_is_called_so(kind, share):
    assert pixels(CUT[kind]).size
    with pytest.raises(UnreadableError, match=r"^cut short, its end is missing$") as caught:
        pixels(CUT[kind][: int(share * len(CUT[kind]))])
    assert caught.value.remedy == "fetch it again"


def test_a_whole_avif_that_is_damaged_is_called_so():
    content = bytearray(CUT["avif"])
    at = content.index(b"meta") + 8
    content[at : at + 60] = bytes(60)
    with pytest.raises(UnreadableError, match=r"^an AVIF image, damaged$"):
        pixels(bytes(content))
