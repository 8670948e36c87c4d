"""What an inspection tells of a folder of images, and that it looks once."""

import io

import numpy as np
import pytest
from PIL import Image

from l2t_ray.data import inspection
from l2t_ray.data.inspection import inspect
from l2t_ray.errors import InputError
from tests.support.image_files import animals, png, write_folder, write_tar


def saved(image, form):
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def look(path, tmp_path, test_fraction=None):
    return [*inspect(path, test_fraction, tmp_path / "kept.json").lines("pets")]


def test_sizes_shapes_and_modes_are_counted(tmp_path):
    """Ratios 0.5, 1 (x 8), 1.5, 3: their median is 1, and one is beyond 2 : 1."""
    files = animals(3, 1) | {
        "train/cat/a.jpg": saved(Image.new("CMYK", (30, 60)), "JPEG"),
        "train/dog/b.png": saved(Image.new("P", (60, 40)), "PNG"),
        "test/dog/c.png": saved(Image.new("L", (90, 30)), "PNG"),
    }
    lines = look(write_folder(tmp_path / "pets", files), tmp_path)
    assert lines[:4] == [
        "pets: 8 training and 3 test images of 2 classes",
        "  sizes: 32 x 32 to 90 x 30 (width x height), most often 32 x 32 (8 images)",
        "  width / height: 0.5 to 3, median 1; 1 beyond 2 : 1",
        "  modes: RGB 8, CMYK 1, L 1, P 1",
    ]


def test_images_are_equal_if_their_pixels_are_whatever_their_files(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[274] = 3  # upside down: EXIF 2.3, tag 274
    buffer = io.BytesIO()
    Image.fromarray(pixels[::-1, ::-1].copy()).save(buffer, "PNG", exif=turned)
    files = animals(5, 0) | {
        "train/dog/a.png": saved(image, "PNG"),
        "train/dog/b.bmp": saved(image, "BMP"),
        "test/cat/c.png": buffer.getvalue(),
        "test/dog/d.bmp": saved(image, "BMP"),
        "test/dog/e.png": saved(Image.fromarray(pixels.reshape(7, 9, 3)), "PNG"),
    }
    lines = look(write_folder(tmp_path / "pets", files), tmp_path)
    told = "train/dog/a.png = test/cat/c.png; train/dog/a.png = test/dog/d.bmp"
    assert lines[4:] == [
        f"  WARNING: 2 test images are training images, too: {told}",
        "  WARNING: 1 images are in another class, too: test/cat/c.png = test/dog/d.bmp",
    ]


def test_images_in_two_classes_are_told_by_a_first_look_and_by_a_kept_one(tmp_path):
    """Two copies in one class are no contradiction."""
    files = animals(5, 0) | {"test/cat/t.png": png("red")}
    files |= {f"train/{name}.png": png("blue") for name in ("cat/x", "cat/y", "dog/x")}
    path = write_folder(tmp_path / "pets", files)
    told = ["  WARNING: 1 images are in another class, too: train/cat/x.png = train/dog/x.png"]
    assert look(path, tmp_path)[4:5] == told
    assert look(path, tmp_path)[4:5] == told


def test_a_table_tells_images_in_two_classes_by_their_rows(tmp_path):
    write_folder(tmp_path, animals(5, 1))
    rows = [f"train/{name}/{number}.png,{name},train" for name in ("cat", "dog") for number in range(5)]
    table = tmp_path / "pets.csv"
    table.write_text("\n".join(["path,label,split", *rows, "train/cat/3.png,dog,train", "test/cat/0.png,cat,test"]))
    lines = look(table, tmp_path)
    (told,) = [line for line in lines if "another class" in line]
    assert told.endswith("row 5: train/cat/3.png = row 12: train/cat/3.png")


def test_small_classes_are_told_and_long_lists_cut(tmp_path):
    files = animals(5, 0) | {f"train/c{number}/x.png": png((number, 0, 0)) for number in range(11)}
    files |= {f"test/{name}/y.png": png((0, 0, 200 + number)) for number, name in enumerate(("cat", "dog", "c0"))}
    lines = look(write_folder(tmp_path / "pets", files), tmp_path)
    first = "c0 (1), c1 (1), c10 (1), c2 (1), c3 (1), c4 (1), c5 (1), c6 (1)"
    assert lines[4:] == [
        f"  classes with fewer than 5 training images: {first} and 3 more",
        "  classes without a test image: c1, c10, c2, c3, c4, c5, c6, c7 and 2 more",
    ]


def test_a_split_by_a_fraction_is_looked_at_as_it_is_split(tmp_path):
    files = animals(6, 0) | {"train/emu/0.png": png("blue")}
    lines = look(write_folder(tmp_path / "pets", files), tmp_path, test_fraction=0.34)
    assert lines[0] == "pets: 9 training and 4 test images of 3 classes"
    assert lines[-2:] == [
        "  classes with fewer than 5 training images: emu (1), cat (4), dog (4)",
        "  classes without a test image: emu",
    ]


def test_the_second_look_decodes_nothing_and_a_damaged_memory_costs_time_alone(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", animals())
    first = look(path, tmp_path)
    with monkeypatch.context() as context:
        context.setattr(inspection, "_inspect", None)
        assert look(path, tmp_path) == first
    for damage in ("{", "[]", "{}", '{"version": 1}', '{"version": 0, "sizes": {}}'):
        (tmp_path / "kept.json").write_text(damage)
        assert look(path, tmp_path) == first


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    path = write_folder(tmp_path / "a", animals() | {"test/dog/1.png": b""})
    with pytest.raises(InputError, match=r"a: test/dog/1.png must be an image that can be decoded, got an empty file"):
        look(path, tmp_path)


def test_what_is_left_out_is_told_at_every_look(tmp_path):
    """The digest, which names the kept file, knows nothing of hidden files."""
    path = write_folder(tmp_path / "pets", animals(5, 1))
    assert "note" not in "".join(look(path, tmp_path))
    write_folder(path, {"train/.NET/0.jpg": png("blue"), "val/cat/0.png": png("blue")})
    lines = look(path, tmp_path)
    hidden = "1 image is hidden and left out, as their name or their folder's begins with a dot: train/.NET (1)"
    assert lines[-2:] == [
        f"  note: {hidden}; rename what belongs to the set",
        "  note: 1 image is left out, as only train/ and test/ are read: val (1); move what belongs to the set",
    ]
