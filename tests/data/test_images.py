"""Kinds of images: read with the right values, or refused with what they are."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from l2t_ray.data import archive
from l2t_ray.data.images import UnreadableError, decode
from l2t_ray.data.load import load_data
from l2t_ray.errors import InputError
from tests.support.image_files import animals, folder_settings, png, write_folder, write_tar

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)  # every value of 16 bits
IN_8_BITS = np.round(RAMP / 257).astype(np.uint8)  # 65535 = 257 * 255
CORNER = np.zeros((4, 6), np.uint8)
CORNER[0, 0] = 255  # the first pixel shows how an image is turned


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixels(content):
    return decode(content, 1 << 26)[0]


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def written_png(values, kind, more=b""):
    """A PNG of 16 bits a channel, which Pillow does not write in colour; kind 0 grey, 2 RGB, 4 grey and alpha."""
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    body = chunk(b"IHDR", head) + more + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def written_tiff(values, *, bits, photometric=1, planes=1, sample_format=1, order="<"):
    """A plain TIFF (TIFF 6.0, part 1), as scientific software writes it and Pillow does not."""
    content = values.tobytes()
    n_channels = 1 if values.ndim == 2 else min(values.shape)
    height, width = [size for size in values.shape if size > 4]
    n_strips = n_channels if planes == 2 else 1
    entries = {256: [width], 257: [height], 258: [bits] * n_channels, 259: [1], 262: [photometric]}
    entries |= {273: [8 + i * len(content) // n_strips for i in range(n_strips)], 277: [n_channels], 278: [height]}
    entries |= {279: [len(content) // n_strips] * n_strips, 284: [planes], 339: [sample_format] * n_channels}
    start = 8 + len(content)
    more_at, more, lines = start + 2 + 12 * len(entries) + 4, b"", b""
    for tag, numbers in entries.items():
        value = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(value) > 4:
            value, more = struct.pack(f"{order}I", more_at + len(more)), more + value
        lines += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + value
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, start)
    return head + content + struct.pack(f"{order}H", len(entries)) + lines + bytes(4) + more


DEEP = {
    "png": saved(Image.fromarray(RAMP), "PNG"),
    "tiff": saved(Image.fromarray(RAMP), "TIFF"),
    "tiff-lzw": saved(Image.fromarray(RAMP), "TIFF", compression="tiff_lzw"),
    "pgm": saved(Image.fromarray(RAMP), "PPM"),
    "jpeg2000": saved(Image.fromarray(RAMP), "JPEG2000"),
    "tiff-big-endian": written_tiff(RAMP.astype(">u2"), bits=16, order=">"),
    "tiff-white-is-0": written_tiff((65535 - RAMP).astype("<u2"), bits=16, photometric=0),
}


@pytest.mark.parametrize("kind", DEEP)
def test_16_bits_are_scaled_by_their_range(kind):
    assert np.array_equal(pixels(DEEP[kind]), np.repeat(IN_8_BITS[:, :, None], 3, 2))


def test_12_bits_are_scaled_by_their_range():
    values = np.arange(4096).reshape(64, 64)
    first, second = values.reshape(-1, 2).T
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8)
    content = written_tiff(packed.reshape(64, 96), bits=12).replace(
        struct.pack("<HHII", 256, 4, 1, 96), struct.pack("<HHII", 256, 4, 1, 64)
    )
    assert np.array_equal(pixels(content)[:, :, 1], np.round(values * 255 / 4095).astype(np.uint8))


def test_colours_of_16_bits_keep_their_high_byte():
    colours = np.stack([RAMP, RAMP.T, 65535 - RAMP], 2)
    assert np.array_equal(pixels(written_png(colours, 2)), (colours >> 8).astype(np.uint8))
    assert np.array_equal(pixels(written_tiff(colours.astype("<u2"), bits=16, photometric=2)), colours >> 8)


REFUSED = {
    "float-tiff": (saved(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), "float values"),
    "float-pfm": (saved(Image.fromarray(RAMP.astype(np.float32)), "PPM"), "float values"),
    "32-bits": (saved(Image.fromarray(RAMP.astype(np.int32)), "TIFF"), "32 bits|signed"),
    "32-bits-unsigned": (written_tiff(RAMP.astype("<u4"), bits=32), "values of 32 bits"),
    "signed": (written_tiff(RAMP.astype("<i2"), bits=16, sample_format=2), "signed values"),
    "planes": (
        written_tiff(np.stack([RAMP] * 3).astype("<u2"), bits=16, photometric=2, planes=2),
        "more than 8 bits in separate planes",
    ),
    "float-colours": (
        written_tiff(np.stack([RAMP] * 3, 2).astype("<f4"), bits=32, photometric=2, sample_format=3),
        "a TIFF of a kind that Pillow does not read",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_values_without_a_known_range_are_refused(kind):
    content, told = REFUSED[kind]
    with pytest.raises(UnreadableError, match=told) as caught:
        pixels(content)
    assert caught.value.remedy == "convert it to 8 or 16 bits"


def test_a_transparent_colour_of_16_bits_is_refused():
    content = written_png(np.stack([RAMP] * 3, 2), 2, chunk(b"tRNS", struct.pack(">HHH", 0, 0, 0)))
    with pytest.raises(UnreadableError, match="one transparent colour in 16 bits"):
        pixels(content)


@pytest.mark.parametrize(("side", "told"), [(9000, "9000 x 9000"), (12000, "144000000"), (30000, "900000000")])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(side, told):
    """Pillow warns above 89,478,485 pixels, and refuses twice as many."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(UnreadableError) as caught:
        pixels(content)
    assert (str(caught.value), caught.value.remedy) == (f"{told} pixels, more than {1 << 26}", "shrink it")


def noise(n_channels):
    return np.random.default_rng(0).integers(0, 256, (33, 47, n_channels), dtype=np.uint8)


COLOURS = Image.fromarray(noise(3))
OPAQUE = COLOURS.copy()
OPAQUE.putalpha(255)
AS_BEFORE = {
    "rgb-png": saved(COLOURS, "PNG"),
    "rgb-jpeg": saved(COLOURS, "JPEG"),
    "grey-png": saved(COLOURS.convert("L"), "PNG"),
    "grey-jpeg": saved(COLOURS.convert("L"), "JPEG"),
    "palette-png": saved(COLOURS.quantize(200), "PNG"),
    "palette-4-bits": saved(COLOURS.quantize(9), "PNG"),
    "palette-gif": saved(COLOURS.quantize(256), "GIF"),
    "1-bit-png": saved(COLOURS.convert("1"), "PNG"),
    "1-bit-tiff": saved(COLOURS.convert("1"), "TIFF", compression="group4"),
    "cmyk-jpeg": saved(COLOURS.convert("CMYK"), "JPEG"),
    "ycbcr-tiff": saved(COLOURS.convert("YCbCr"), "TIFF"),
    "opaque-png": saved(OPAQUE, "PNG"),
    "webp": saved(COLOURS, "WEBP"),
    "bmp": saved(COLOURS, "BMP"),
    "lab-tiff": written_tiff(noise(3), bits=8, photometric=8),
    "tiff-lzw": saved(COLOURS, "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("kind", AS_BEFORE)
def test_8_bits_without_alpha_are_what_pillow_converts(kind):
    found, has_frames = decode(AS_BEFORE[kind], 1 << 26)
    assert np.array_equal(found, np.asarray(Image.open(io.BytesIO(AS_BEFORE[kind])).convert("RGB")))
    assert not has_frames


def test_grey_in_lab_is_grey():
    """CIE L* = 53.4 (136 of 255), a = b = 0 is the grey 127 of sRGB."""
    found = pixels(written_tiff(np.full((8, 9, 3), (136, 0, 0), np.uint8), bits=8, photometric=8))
    assert abs(found.astype(int) - 127).max() <= 1


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


def turned(orientation):
    """EXIF 2.3, tag 274: which side of the scene the first row and the first column of the file are."""
    exif = Image.Exif()
    exif[274] = orientation
    return exif


UPRIGHT = {  # orientation: the corner (row, column) in which the file's first pixel is seen
    **{1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0)},
    **{5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)},
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_photographs_are_turned_upright(form, orientation):
    image = Image.fromarray(np.repeat(np.kron(CORNER, np.ones((8, 8), np.uint8))[:, :, None], 3, 2))
    options = {"lossless": True} if form == "WEBP" else {}
    found = pixels(saved(image, form, exif=turned(orientation), **options))
    assert found.shape[:2] == ((32, 48) if orientation < 5 else (48, 32))
    assert found[UPRIGHT[orientation]].min() > 200
    assert (found > 100).sum() == pytest.approx(64 * 3, rel=0.2)


def test_16_bits_are_turned_too():
    found = pixels(saved(Image.fromarray(CORNER.astype(np.uint16) * 257), "PNG", exif=turned(6)))
    assert found[:, :, 0].tolist() == np.rot90(CORNER, -1).tolist()


def test_exif_that_cannot_be_read_changes_nothing():
    content = saved(COLOURS, "JPEG", exif=b"Exif\0\0nonsense")
    assert np.array_equal(pixels(content), pixels(saved(COLOURS, "JPEG")))


@pytest.mark.parametrize("form", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first_is_read_and_it_is_said(form, tmp_path, capsys):
    red, blue = Image.new("RGB", (32, 32), (200, 0, 0)), Image.new("RGB", (32, 32), (0, 0, 200))
    options = {"lossless": True} if form == "WEBP" else {}
    content = saved(red, form, save_all=True, append_images=[blue, red], **options)
    files = animals() | {"train/cat/0.png": content}
    data = load_data(folder_settings(write_tar(tmp_path / "a.tar", files)), tmp_path)
    assert data.train_images[0, :, 3, 4].tolist() == [200, 0, 0]
    told = "1 images have several frames, such as train/cat/0.png; the first frame of each is read"
    assert told in capsys.readouterr().err


OTHERS = {
    "a web page (HTML)": b"<!DOCTYPE html><html>not found</html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "a DICOM file": bytes(128) + b"DICM" + bytes(50),
    "a HEIC or AVIF image": b"\0\0\0\x18ftypheic" + bytes(50),
    "a PNG image, damaged": b"\x89PNG\r\n\x1a\n" + bytes(40),
    "an empty file": b"",
    "a file of zeros": bytes(5000),
    "a JSON text": b'{"error": "no such key"}',
    "no kind of image that Pillow knows": bytes(range(128, 256)),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_file_that_is_no_image_is_called_what_it_is(what):
    with pytest.raises(UnreadableError) as caught:
        pixels(OTHERS[what])
    assert str(caught.value).startswith(what)


def test_all_bad_images_are_told_at_once_and_counted(tmp_path, monkeypatch):
    files = animals() | {f"train/cat/bad{number:02}.png": b"" for number in range(25)}
    files |= {"train/dog/float.tif": REFUSED["float-tiff"][0]}
    path = write_tar(tmp_path / "a.tar", files)
    with pytest.raises(InputError) as caught:
        load_data(folder_settings(path), tmp_path)
    assert len(caught.value.problems) == 26
    monkeypatch.setattr(archive, "MAX_SHOWN", 20)  # a thousand take seconds
    with pytest.raises(InputError) as caught:
        load_data(folder_settings(path), tmp_path)
    assert len(caught.value.problems) == 21
    first, last = caught.value.problems[0], caught.value.problems[-1]
    rule = "train/cat/bad00.png must be an image that can be decoded, got 0 bytes (an empty file); fetch it again"
    assert first == f"{path}: {rule}"
    assert last == f"{path}: 6 more, 26 problems in all"


def test_all_misplaced_files_are_told_at_once(tmp_path):
    files = animals() | {f"train/{number}.png": png("red") for number in range(3)} | {"test/cat/a/b.png": png("red")}
    with pytest.raises(InputError) as caught:
        load_data(folder_settings(write_folder(tmp_path / "a", files)), tmp_path)
    assert [problem.split("got ")[1] for problem in caught.value.problems] == [
        *(f"'train/{number}.png'; move it" for number in range(3)),
        "'test/cat/a/b.png'; move it",
    ]


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


def test_settings_are_a_text_and_no_reply():
    for text, told in ((b"[.ShellClassInfo]\r\nIconIndex=0", "'[.ShellClassInfo] IconIndex=0'"), (b"{x}", "'{x}'")):
        with pytest.raises(UnreadableError) as caught:
            pixels(text)
        assert str(caught.value) == f"a text that begins with {told}, not an image"
        assert caught.value.remedy == "replace or remove it"
    for text in (b"[]", b'[ {"a": 1}]', b'{\n "a": 1}', b"[1, 2]", b"{}"):
        with pytest.raises(UnreadableError, match="a JSON text"):
            pixels(text)


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
