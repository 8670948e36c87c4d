"""Folders, tars and zips of images: what is read, and what is refused."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from l2t_ray.config import Data
from l2t_ray.data import sets as data_sets
from l2t_ray.data.load import load_data
from l2t_ray.errors import InputError
from tests.support.image_files import animals, equal, folder_settings, jpeg, png, write_folder, write_tar, write_zip


@pytest.mark.parametrize("form", ["folder", "tar", "tar.gz", "zip"])
@pytest.mark.parametrize("top", ["", "my animals/"], ids=["no-top", "top-folder"])
def test_an_image_folder_reads_the_same_from_every_form(tmp_path, form, top):
    files = animals()
    path = tmp_path / f"it's here.{form}"
    match form:
        case "folder":
            write_folder(path / top, files)
        case "zip":
            write_zip(path, files, top)
        case _:
            write_tar(path, files, "w:gz" if form == "tar.gz" else "w", top)
    data = load_data(folder_settings(path), tmp_path / "data")
    assert data.classes == ("cat", "dog")
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test_labels.tolist() == [0, 0, 1, 1]
    assert data.train_images.shape == (6, 3, 32, 32)
    assert data.train_images.dtype == torch.uint8
    reds, greens = [[100, 0, 0], [101, 0, 0], [102, 0, 0]], [[0, 100, 0], [0, 101, 0], [0, 102, 0]]
    assert data.train_images[:, :, 5, 7].tolist() == [*reds, *greens]
    assert data.test_images[:, :, 31, 0].tolist() == [[100, 0, 0], [101, 0, 0], [0, 100, 0], [0, 101, 0]]


def test_the_order_of_a_tars_members_changes_nothing(tmp_path):
    files = animals()
    forward = write_tar(tmp_path / "a.tar", files)
    backward = write_tar(tmp_path / "b.tar", dict(reversed(files.items())))
    one, two = (load_data(folder_settings(path, title="x"), tmp_path) for path in (forward, backward))
    assert equal(one, two)


def test_hidden_files_are_passed_over(tmp_path):
    clutter = {"train/cat/.DS_Store": b"x", "train/.thumbs/a.png": b"x", "__MACOSX/train/cat/._0.png": b"x"}
    data = load_data(folder_settings(write_tar(tmp_path / "a.tar", animals() | clutter)), tmp_path)
    assert len(data.train_labels) == 6


@pytest.mark.parametrize(("mode", "suffix"), [("L", "PNG"), ("RGBA", "PNG"), ("P", "GIF"), ("CMYK", "JPEG")])
def test_every_colour_mode_becomes_three_channels(tmp_path, mode, suffix):
    buffer = io.BytesIO()
    Image.new(mode, (32, 32)).save(buffer, suffix)
    files = animals() | {"train/cat/odd": buffer.getvalue()}
    data = load_data(folder_settings(write_tar(tmp_path / "a.tar", files)), tmp_path)
    assert data.train_images.shape == (7, 3, 32, 32)


def test_a_larger_image_is_resized_as_pillow_does_it(tmp_path):
    """Pillow's BILINEAR filter is antialiased; wide images are squeezed, as torchvision's Resize((32, 32)) does."""
    content = jpeg(1, (96, 64))
    data = load_data(folder_settings(write_tar(tmp_path / "a.tar", animals() | {"train/cat/0.png": content})), tmp_path)
    pillow = Image.open(io.BytesIO(content)).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.array_equal(data.train_images[0].permute(1, 2, 0).numpy(), np.asarray(pillow))


@pytest.mark.parametrize(
    ("files", "more", "told"),
    [
        (
            animals() | {f"train/{name}/0.png": png("blue") for name in ("emu", "yak")},
            {"classes": ("emu", "yak")},
            "one of data.classes must have a test image, got none; add some to test/, or name other",
        ),
        (
            {f"train/{name}/0.png": png("blue") for name in ("emu", "yak")},
            {"test_fraction": 0.5},
            "a class must have a test image, got none; add images: of a class with one image none is kept for the test",
        ),
    ],
    ids=["of some classes", "of classes of one image"],
)
def test_a_set_without_a_test_image_is_refused(tmp_path, files, more, told):
    with pytest.raises(InputError, match=told):
        load_data(folder_settings(write_tar(tmp_path / "a.tar", files), **more), tmp_path)


def test_a_class_may_have_training_images_alone(tmp_path):
    files = animals() | {"train/emu/0.png": png("blue")}
    assert load_data(folder_settings(write_tar(tmp_path / "a.tar", files)), tmp_path).classes == ("cat", "dog", "emu")


def without(files, part):
    return {name: content for name, content in files.items() if part not in name}


BAD = {
    "no-train": (without(animals(), "train/"), "must hold train, at the top or in one top folder, got test"),
    "no-test": (without(animals(), "test/"), "test/<class>/ must hold images, there are none"),
    "no-class-folder": (
        animals() | {"train/9.png": png("red")},
        r"images must be in train/<class>/, got 'train/9.png'",
    ),
    "too-deep": (animals() | {"test/cat/new/9.png": png("red")}, "images must be in test/<class>/, got 'test/cat/new"),
    "test-class-not-in-train": (animals() | {"test/emu/0.png": png("red")}, "must be in train/ too, got emu"),
    "text-for-image": (animals() | {"train/dog/1.png": b"hello"}, "train/dog/1.png must be an image .* got 5 bytes"),
    "empty-image": (animals() | {"train/dog/1.png": b""}, "train/dog/1.png must be an image .* got 0 bytes"),
    "truncated-jpeg": (animals() | {"test/dog/1.png": jpeg(0)[:1500]}, "test/dog/1.png must be an image .*truncated"),
    "truncated-png": (animals() | {"test/dog/1.png": png("red", (90, 90))[:-40]}, "test/dog/1.png must be an image"),
    "nothing": ({}, "must hold train"),
}


@pytest.mark.parametrize("form", ["folder", "tar"])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_layout_or_image_is_named(tmp_path, case, form):
    files, told = BAD[case]
    path = tmp_path / "bad"
    path = write_folder(path, files) if form == "folder" else write_tar(path, files)
    path.mkdir(exist_ok=True) if not files and form == "folder" else None
    with pytest.raises(InputError, match=told) as caught:
        load_data(folder_settings(path), tmp_path / "data")
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_class_folder_is_named(tmp_path, split):
    path = write_folder(tmp_path / "bad", animals())
    (path / split / "emu").mkdir()
    with pytest.raises(InputError, match=f"a class folder must hold images, {split}/emu is empty; fill or remove it"):
        load_data(folder_settings(path), tmp_path / "data")


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.tar: data.path must exist"):
        load_data(folder_settings(tmp_path / "nowhere.tar"), tmp_path)
    with pytest.raises(InputError, match=r"data.path must name the folder or tar of image_folder, got none"):
        load_data(Data(name="image_folder", samples_per_class=1), tmp_path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"], ids=["plain", "gz", "xz"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_truncated_tar_is_refused(tmp_path, mode, share):
    path = write_tar(tmp_path / "cut.tar", {f"train/cat/{n}.png": jpeg(n) for n in range(9)}, mode)
    content = path.read_bytes()
    last = len(content) if mode != "w" else len(content) - content[::-1].index(content.rstrip(b"\0")[-1])
    path.write_bytes(content[: int(share * last)])
    with pytest.raises(InputError, match="must be a folder, or a whole tar or zip"):
        load_data(folder_settings(path), tmp_path)


def test_a_tar_cut_between_two_members_is_refused(tmp_path):
    files = animals()
    path = write_tar(tmp_path / "cut.tar", files)
    with tarfile.open(path) as tar:
        start = tar.getmembers()[-1].offset
    path.write_bytes(path.read_bytes()[:start])
    with pytest.raises(InputError, match=f"no end of archive after {len(files) - 1} members"):
        load_data(folder_settings(path), tmp_path)


def test_a_tar_with_a_damaged_header_is_refused(tmp_path):
    path = write_tar(tmp_path / "cut.tar", animals())
    with tarfile.open(path) as tar:
        start = tar.getmembers()[4].offset
    content = bytearray(path.read_bytes())
    content[start + 3] ^= 255
    path.write_bytes(content)
    with pytest.raises(InputError, match="no end of archive after 4 members"):
        load_data(folder_settings(path), tmp_path)


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("../evil.png", tarfile.REGTYPE, "members must lie inside the archive"),
        ("train/cat/../../../evil.png", tarfile.REGTYPE, "members must lie inside the archive"),
        ("/etc/evil.png", tarfile.REGTYPE, "members must lie inside the archive"),
        ("train\\cat\\evil.png", tarfile.REGTYPE, "members must lie inside the archive"),
        ("train/cat/evil.png", tarfile.SYMTYPE, "members must be files and folders, .* is a link or a device"),
        ("train/cat/evil.png", tarfile.LNKTYPE, "members must be files and folders, .* is a link or a device"),
        ("train/cat/evil.png", tarfile.CHRTYPE, "members must be files and folders, .* is a link or a device"),
        ("train/cat/0.png", tarfile.REGTYPE, "a member must be there once"),
    ],
)
def test_a_suspicious_member_is_refused(tmp_path, name, kind, told):
    path = write_tar(tmp_path / "evil.tar", animals())
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(InputError, match=told):
        load_data(folder_settings(path), tmp_path)
    assert not (tmp_path / "evil.png").exists()


def test_a_link_in_a_zip_is_refused(tmp_path):
    path = write_zip(tmp_path / "evil.zip", animals())
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("train/cat/evil.png")
        info.external_attr = 0o120777 << 16  # a symbolic link
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match="is a link or a device"):
        load_data(folder_settings(path), tmp_path)


def test_a_file_that_claims_to_be_huge_is_refused_unread(tmp_path):
    path = tmp_path / "evil.tar"
    info = tarfile.TarInfo("train/cat/0.png")
    info.size = 1 << 40
    path.write_bytes(info.tobuf())
    with pytest.raises(InputError, match="files must be <= 67108864 bytes"):  # 2 ** 26
        load_data(folder_settings(path), tmp_path)


def test_an_image_with_too_many_pixels_is_refused_undecoded(tmp_path, monkeypatch):
    monkeypatch.setattr(data_sets, "MAX_PIXELS", 1000)
    with pytest.raises(InputError, match="32 x 32 pixels, more than 1000"):
        load_data(folder_settings(write_tar(tmp_path / "a.tar", animals())), tmp_path)


def test_a_folder_that_links_to_itself_ends(tmp_path):
    path = write_folder(tmp_path / "loop", animals())
    (path / "again").symlink_to(path)
    assert load_data(folder_settings(path), tmp_path / "data").classes == ("cat", "dog")
