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
from tests.support.pixels import (
    AS_BEFORE,
    COLOURS,
    DEEP,
    IN_8_BITS,
    RAMP,
    chunk,
    pixels,
    saved,
    written_png,
    written_tiff,
)

CORNER = np.zeros((4, 6), np.uint8)
CORNER[0, 0] = 255  # the first pixel shows how an image is turned


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


@pytest.mark.parametrize("kind", AS_BEFORE)
def test_8_bits_without_alpha_are_what_pillow_converts(kind):
    found, has_frames = decode(AS_BEFORE[kind], 1 << 26)
    assert np.array_equal(found, np.asarray(Image.open(io.BytesIO(AS_BEFORE[kind])).convert("RGB")))
    assert not has_frames


def test_grey_in_lab_is_grey():
    """CIE L* = 53.4 (136 of 255), a = b = 0 is the grey 127 of sRGB."""
    found = pixels(written_tiff(np.full((8, 9, 3), (136, 0, 0), np.uint8), bits=8, photometric=8))
    assert abs(found.astype(int) - 127).max() <= 1


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


def test_settings_are_a_text_and_no_reply():
    for text, told in ((b"[.ShellClassInfo]\r\nIconIndex=0", "'[.ShellClassInfo] IconIndex=0'"), (b"{x}", "'{x}'")):
        with pytest.raises(UnreadableError) as caught:
            pixels(text)
        assert str(caught.value) == f"a text that begins with {told}, not an image"
        assert caught.value.remedy == "replace or remove it"
    for text in (b"[]", b'[ {"a": 1}]', b'{\n "a": 1}', b"[1, 2]", b"{}"):
        with pytest.raises(UnreadableError, match="a JSON text"):
            pixels(text)
