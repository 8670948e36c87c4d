"""What is transparent is white; an alpha that a format does not use is none."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.support.pixels import chunk, pixels, saved, written_png

TRANSPARENT = {  # red, its alpha 0, 51 and 255 from left to right: 255 - 0.2 * 255 = 204 of green in the middle
    "RGBA": Image.fromarray(np.array([[[255, 0, 0, alpha] for alpha in (0, 51, 255)]], np.uint8)),
    "LA": Image.fromarray(np.array([[[0, alpha] for alpha in (0, 51, 255)]], np.uint8)),
}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_what_is_transparent_is_white(form):
    options = {"lossless": True} if form == "WEBP" else {}
    assert pixels(saved(TRANSPARENT["RGBA"], form, **options)).tolist() == [[[255, k, k] for k in (255, 204, 0)]]
    assert pixels(saved(TRANSPARENT["LA"], form, **options)).tolist() == [[[k] * 3 for k in (255, 204, 0)]]


def test_a_transparent_colour_is_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 8, 7, 6, 5, 4])
    palette.putpixel((1, 0), 1)
    expected = [[[255] * 3, [6, 5, 4]]]
    assert pixels(saved(palette, "PNG", transparency=0)).tolist() == expected
    assert pixels(saved(palette, "PNG", transparency=b"\0\xff")).tolist() == expected
    assert pixels(saved(palette, "GIF", transparency=0)).tolist() == expected
    assert pixels(saved(palette.convert("RGB"), "PNG", transparency=(9, 8, 7))).tolist() == expected
    grey = written_png(np.array([[7, 65535, 1000]]), 0, chunk(b"tRNS", struct.pack(">H", 7)))
    assert pixels(grey)[0, :, 0].tolist() == [255, 255, 4]


def lines_of_tga(values, *, alpha_bits, depth=32):
    """Truevision's TGA 2.0: a head of 18 bytes, then blue, green, red and a fourth byte; rows from the top."""
    head = struct.pack("<3B5x4H2B", 0, 0, 2, 0, 0, values.shape[1], values.shape[0], depth, 0x20 | alpha_bits)
    return head + values.tobytes()


def with_alpha(alpha):
    values = np.array([[[1, 2, 3, 0], [200, 100, 50, 0]]], np.uint8)
    values[:, :, 3] = alpha
    return values


def written_bmp(values):
    """A BMP of 32 bits with Windows' fifth head, whose masks name an alpha; Pillow reads its alpha."""
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 124, values.shape[1], -values.shape[0], 1, 32, 3, 0, 0, 0, 0, 0) + masks
    head += bytes(124 - len(head))
    content = values.tobytes()
    return b"BM" + struct.pack("<IHHI", 14 + 124 + len(content), 0, 0, 14 + 124) + head + content


IN_COLOUR = [[[3, 2, 1], [50, 100, 200]]]
UNUSED = {
    "tga-all-0": lines_of_tga(with_alpha(0), alpha_bits=8),
    "tga-0-bits": lines_of_tga(with_alpha(0), alpha_bits=0),
    "tga-0-bits-of-noise": lines_of_tga(with_alpha([7, 0]), alpha_bits=0),
    "bmp-all-0": written_bmp(with_alpha(0)),
}


@pytest.mark.parametrize("kind", UNUSED)
def test_an_alpha_that_a_tga_or_bmp_does_not_use_is_ignored(kind):
    assert pixels(UNUSED[kind]).tolist() == IN_COLOUR


def test_a_tga_of_15_bits_without_alpha_is_in_colour():
    """Red 31 of 31 and no alpha bit is 0x7C00."""
    content = lines_of_tga(np.full((1, 2), 0x7C00, "<u2"), alpha_bits=0, depth=16)
    assert pixels(content).tolist() == [[[255, 0, 0]] * 2]


def test_a_palette_of_a_tga_whose_alpha_is_0_is_in_colour():
    """Two colours of 32 bits, then their numbers."""
    head = struct.pack("<3BHHB4H2B", 0, 1, 1, 0, 2, 32, 0, 0, 2, 1, 8, 0x20)
    content = head + with_alpha(0).tobytes() + b"\0\1"
    assert pixels(content).tolist() == IN_COLOUR


def test_an_alpha_that_a_tga_or_bmp_uses_is_seen():
    """A pixel of alpha 0 is white, one of 255 is its colour."""
    for content in (lines_of_tga(with_alpha([255, 0]), alpha_bits=8), written_bmp(with_alpha([255, 0]))):
        assert pixels(content).tolist() == [[[3, 2, 1], [255, 255, 255]]]


def test_an_image_of_another_kind_may_be_transparent_everywhere():
    clear = Image.new("RGBA", (2, 2), (9, 8, 7, 0))
    for form in ("PNG", "TIFF"):
        assert pixels(saved(clear, form)).min() == 255


@pytest.mark.parametrize(("bits", "scale"), [(1, 255), (2, 85), (4, 17), (8, 1)])
def test_a_transparent_grey_of_few_bits_is_white(bits, scale):
    """PNG 3, 11.3.1.1: tRNS is in the pixels' own scale; 255 / (2 ** bits - 1) scales both."""
    largest = 2**bits - 1
    for grey in (largest - 1, largest):
        row = np.array([0, grey], np.uint8) if bits == 8 else np.array([grey << (8 - 2 * bits)], np.uint8)
        head = struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0)
        body = chunk(b"IHDR", head) + chunk(b"tRNS", struct.pack(">H", grey))
        body += chunk(b"IDAT", zlib.compress(b"\0" + row.tobytes())) + chunk(b"IEND", b"")
        found = pixels(b"\x89PNG\r\n\x1a\n" + body)[0, :, 0].tolist()
        assert found == [255 if grey == 0 else 0, 255]


def test_another_grey_of_few_bits_is_seen():
    head = struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"tRNS", struct.pack(">H", 3)) + chunk(b"IDAT", zlib.compress(b"\0\x35"))
    found = pixels(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))[0, :, 0].tolist()
    assert found == [255, 5 * 17]
