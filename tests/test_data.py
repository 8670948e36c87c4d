"""Data sets from files in their official formats, their caches, their subsets, and what is refused."""

import hashlib
import io
import multiprocessing
import os
import pickle
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F  # noqa: N812
from torchvision import datasets

from l2t_ray import data_sets
from l2t_ray.archive import Archive
from l2t_ray.config import Data, Source
from l2t_ray.data import load_data, stratified_subset
from l2t_ray.digests import Digests
from l2t_ray.errors import InputError

SHARED = Path(__file__).parents[2] / "shared"
CIFAR10 = SHARED / "data" / "cifar10-jpeg.tar"
TINY = SHARED / "data" / "tiny-imagenet-subset.tar"
PUBLISHED = SHARED / "weights" / "l2t-ww-resnet32-tinyimagenet.pth.tar"
needs_cifar10 = pytest.mark.skipif(not CIFAR10.exists(), reason="CIFAR-10's images are not in the shared folder")
needs_tiny = pytest.mark.skipif(not TINY.exists(), reason="Tiny ImageNet's images are not in the shared folder")


def png(colour, size=(32, 32)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(seed, size=(64, 64), mode="RGB"):
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode=None).save(buffer, "JPEG")
    return buffer.getvalue()


def animals(n_train=3, n_test=2):
    """Files of an image folder: class "cat" is red, "dog" is green, the shade is the image's number."""
    files = {}
    for split, count in (("train", n_train), ("test", n_test)):
        for number in range(count):
            files[f"{split}/cat/{number}.png"] = png((100 + number, 0, 0))
            files[f"{split}/dog/{number}.png"] = png((0, 100 + number, 0))
    return files


def write_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def write_tar(path, files, mode="w", top=""):
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(top + name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_zip(path, files, top=""):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return path


def folder_settings(path, samples=1, **more):
    return Data(name="image_folder", path=str(path), samples_per_class=samples, **more)


def equal(a, b):
    return a.classes == b.classes and a.sha256 == b.sha256 and all(map(torch.equal, tensors(a), tensors(b)))


def tensors(data):
    return data.train_images, data.train_labels, data.test_images, data.test_labels


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
    with pytest.raises(InputError, match=r"data.path must name the folder or tar of image_folder, got nothing"):
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


def tiny(wnids=("n03", "n01", "n02")):
    files = {"wnids.txt": "\n".join(wnids).encode(), "words.txt": b"n01\tcat"}
    lines = []
    for place, wnid in enumerate(wnids):
        for number in range(3):
            mode = "L" if number == 0 else "RGB"  # the real one has grey images too
            files[f"train/{wnid}/images/{wnid}_{number}.JPEG"] = jpeg(10 * place + number, mode=mode)
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b"n01_0.JPEG\t0\t0\t1\t1"
        files[f"val/images/val_{place}.JPEG"] = jpeg(90 + place)
        lines.append(f"val_{place}.JPEG\t{wnid}\t0\t0\t62\t62\n")
    files["val/val_annotations.txt"] = "".join([
        *lines,
        "val_99.JPEG\tn01\t0\t0\t1\t1\n",
    ]).encode()  # a slice: not there
    files["test/images/test_0.JPEG"] = jpeg(99)
    return files


def tiny_settings(path, samples=3):
    return Data(name="tiny_imagenet", path=str(path), samples_per_class=samples)


@pytest.mark.parametrize("form", ["folder", "tar", "zip"])
def test_tiny_imagenets_layout_is_read_with_sorted_classes_and_val_as_test(tmp_path, form):
    path = tmp_path / "tiny-imagenet-200"
    writers = {"folder": write_folder, "tar": write_tar, "zip": write_zip}
    data = load_data(tiny_settings(writers[form](path, tiny())), tmp_path / "data")
    assert data.classes == ("n01", "n02", "n03")
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.test_labels.tolist() == [2, 0, 1]  # val_0 is of n03, the first line of wnids.txt
    pillow = Image.open(io.BytesIO(jpeg(90))).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.array_equal(data.test_images[0].permute(1, 2, 0).numpy(), np.asarray(pillow))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"val/val_annotations.txt": None}, "must hold val/val_annotations.txt"),
        ({"wnids.txt": None}, "must hold wnids.txt"),
        ({"wnids.txt": b"n01 n02"}, "wnids.txt must name every class, n03 of train is not there"),
        ({"val/images/val_7.JPEG": jpeg(0)}, r"must name every image of val/, not val_7.JPEG"),
        ({"val/val_annotations.txt": b"val_0.JPEG\tn09\nval_1.JPEG\tn01\nval_2.JPEG\tn01"}, "n09 of test is not there"),
        ({f"val/images/val_{n}.JPEG": None for n in range(3)}, "val/images/ must hold images, there are none"),
    ],
)
def test_a_bad_tiny_imagenet_is_refused(tmp_path, change, told):
    files = {name: content for name, content in (tiny() | change).items() if content is not None}
    with pytest.raises(InputError, match=told):
        load_data(tiny_settings(write_tar(tmp_path / "t.tar", files)), tmp_path)


def md5(content):
    return hashlib.md5(content).hexdigest()


def write_cifar(root, monkeypatch, kind, names, label_key, *, with_archive):
    """The python version of CIFAR: pickles of dictionaries, 3072 bytes an image: red plane, green, blue."""
    rng = np.random.default_rng(0)
    batches, contents = {}, {}
    for number, (name, _) in enumerate(kind.train_list + kind.test_list):
        pixels = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        labels = [(number + index) % len(names) for index in range(20)]
        batches[name] = pixels, labels
        contents[name] = pickle.dumps({"data": pixels, label_key: labels})
    contents[kind.meta["filename"]] = pickle.dumps({kind.meta["key"]: list(names)})
    for which in ("train_list", "test_list"):
        monkeypatch.setattr(kind, which, [[name, md5(contents[name])] for name, _ in getattr(kind, which)])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(contents[kind.meta["filename"]])})
    if with_archive:
        files = {f"{kind.base_folder}/{name}": content for name, content in contents.items()}
        path = write_tar(root / kind.filename, files, "w:gz")
        monkeypatch.setattr(kind, "tgz_md5", md5(path.read_bytes()))
    else:
        write_folder(root / kind.base_folder, contents)
    return batches


def test_cifar10_is_read_from_its_archive_by_torchvision(tmp_path, monkeypatch):
    """The archive is there already, so the download unpacks it and fetches nothing."""
    batches = write_cifar(
        tmp_path, monkeypatch, datasets.CIFAR10, data_sets.CLASSES["cifar10"], "labels", with_archive=True
    )
    data = load_data(Data(name="cifar10", samples_per_class=10), tmp_path)
    assert data.classes == data_sets.CLASSES["cifar10"]
    assert data.train_images.shape == (100, 3, 32, 32)
    assert data.test_images.shape == (20, 3, 32, 32)
    pixels, labels = batches["data_batch_2"]
    assert torch.equal(data.train_images[20:40].flatten(1), torch.from_numpy(pixels))
    assert data.train_labels[20:40].tolist() == labels
    assert torch.equal(data.test_images.flatten(1), torch.from_numpy(batches["test_batch"][0]))


def test_cifar100_has_its_fine_labels(tmp_path, monkeypatch):
    names = [f"fine{number}" for number in range(10)]
    batches = write_cifar(tmp_path, monkeypatch, datasets.CIFAR100, names, "fine_labels", with_archive=False)
    data = load_data(Data(name="cifar100", samples_per_class=2), tmp_path, download=False)
    assert data.classes == tuple(names)
    assert data.train_labels.tolist() == batches["train"][1]
    assert torch.equal(data.train_images.flatten(1), torch.from_numpy(batches["train"][0]))


def test_stl10_is_read_from_its_binaries_and_resized(tmp_path, monkeypatch):
    """STL-10's images are stored column by column, its labels from 1."""
    rng, kind, contents, images = np.random.default_rng(0), datasets.STL10, {}, {}
    for split, count in (("train", 20), ("test", 10)):
        images[split] = rng.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8)
        contents[f"{split}_X.bin"] = images[split].transpose(0, 1, 3, 2).tobytes()
        contents[f"{split}_y.bin"] = bytes(index % 10 + 1 for index in range(count))
    contents["unlabeled_X.bin"] = bytes(27648)
    contents["class_names.txt"] = "\n".join(data_sets.CLASSES["stl10"]).encode()
    write_folder(tmp_path / kind.base_folder, contents)
    for which in ("train_list", "test_list"):
        monkeypatch.setattr(kind, which, [[name, md5(contents[name])] for name, _ in getattr(kind, which)])
    data = load_data(Data(name="stl10", samples_per_class=2), tmp_path, download=False)
    assert data.classes == data_sets.CLASSES["stl10"]
    assert data.train_labels.tolist() == [*range(10)] * 2
    pillow = Image.fromarray(images["test"][4].transpose(1, 2, 0)).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.array_equal(data.test_images[4].permute(1, 2, 0).numpy(), np.asarray(pillow))
    assert data.train_images.shape == (20, 3, 32, 32)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10"])
def test_without_a_download_a_missing_set_names_its_folder(tmp_path, name):
    with pytest.raises(InputError, match=rf"must hold {name} as .*, got none or others; unpack .* there") as caught:
        load_data(Data(name=name, samples_per_class=1), tmp_path / "no data", download=False)
    assert str(caught.value).startswith(f"{tmp_path / 'no data'}: ")


def test_a_file_with_another_checksum_is_refused(tmp_path, monkeypatch):
    write_cifar(tmp_path, monkeypatch, datasets.CIFAR10, data_sets.CLASSES["cifar10"], "labels", with_archive=False)
    file = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match="every file with the checksum that torchvision knows"):
        load_data(Data(name="cifar10", samples_per_class=1), tmp_path, download=False)


def test_a_download_that_fails_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")  # discard: nobody listens
    with pytest.raises(InputError, match=r"fetching it failed: .*refused.*; put cifar-10-python.tar.gz there"):
        load_data(Data(name="cifar10", samples_per_class=1), tmp_path)


@pytest.fixture(scope="module")
def digits_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("digits")


@pytest.fixture(scope="module")
def digits(digits_dir):
    return load_data(Data(name="digits", samples_per_class=1), digits_dir)


def test_digits_are_split_in_halves_class_by_class(digits):
    """np.bincount(sklearn.datasets.load_digits().target) gave the counts; 1,797 is in its documentation."""
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert sum(counts) == 1797
    assert torch.bincount(digits.train_labels).tolist() == [(count + 1) // 2 for count in counts]
    assert torch.bincount(digits.test_labels).tolist() == [count // 2 for count in counts]
    assert min(torch.bincount(digits.train_labels)) == data_sets.TRAIN_IMAGES_PER_CLASS["digits"] == 87


def test_digits_are_grey_images_of_the_whole_range(digits):
    from sklearn.datasets import load_digits

    assert digits.train_images.shape == (901, 3, 32, 32)
    assert (digits.train_images[:, 0] == digits.train_images[:, 2]).all()
    first = torch.from_numpy(load_digits().images[0]).float() * 255 / 16  # the first of its class: for training
    resized = F.interpolate(first[None, None], (32, 32), mode="bilinear")[0, 0]
    assert (digits.train_images[0, 0].float() - resized).abs().max() <= 1  # two roundings
    assert digits.train_images.max() > 250


def test_classes_are_renumbered_in_the_order_given(digits, digits_dir):
    data = load_data(Data(name="digits", classes=("7", "2"), samples_per_class=80), digits_dir)
    assert data.classes == ("7", "2")
    assert torch.equal(data.train_images[data.train_labels == 0], digits.train_images[digits.train_labels == 7])
    assert torch.equal(data.test_images[data.test_labels == 1], digits.test_images[digits.test_labels == 2])
    assert len(data.train_labels) == (digits.train_labels == 7).sum() + (digits.train_labels == 2).sum()
    assert data.sha256 != digits.sha256
    assert data.sha256 == digits.subset_of_classes(["7", "2"]).sha256 != digits.subset_of_classes(["2", "7"]).sha256


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"classes": ("7", "seven"), "samples_per_class": 1}, r"data.classes must name classes of digits, got 'seven'"),
        ({"samples_per_class": 88}, r"must be >= 1 and <= 87 for class '8' of digits, got 88; ask for fewer"),
        ({"samples_per_class": {"3": 5}}, r"must give a number for every class of digits, or for '\*', '0' has none"),
        ({"samples_per_class": {"*": 5, "8": 90}}, r"<= 87 for class '8' of digits, got 90"),
        ({"samples_per_class": {"*": 5, "33": 9}}, r"data.samples_per_class must name .*'33'; did you mean '3'\?"),
    ],
)
def test_classes_and_numbers_that_cannot_be_had_are_refused(digits, digits_dir, settings, told):
    with pytest.raises(InputError, match=told):
        load_data(Data(name="digits", **settings), digits_dir)


def test_all_problems_are_told_at_once(digits, digits_dir):
    with pytest.raises(InputError) as caught:
        load_data(Data(name="digits", samples_per_class=91), digits_dir)
    few = [problem.split("'")[1] for problem in caught.value.problems]  # train counts 89 91 89 92 91 91 91 90 87 90
    assert few == ["0", "2", "7", "8", "9"]


@pytest.mark.parametrize("names", [("7", "7"), ()], ids=["twice", "none"])
def test_classes_must_be_there_and_differ(digits, names):
    with pytest.raises(InputError, match=r"data.classes must name (a class once|at least one class)"):
        digits.subset_of_classes(names)


LABELS = torch.arange(300) % 3
NAMES = ("cat", "dog", "emu")


def test_a_subset_has_so_many_of_each_class_and_no_image_twice():
    drawn = stratified_subset(LABELS, NAMES, 20, seed=0)
    assert LABELS[drawn].tolist() == [0] * 20 + [1] * 20 + [2] * 20
    assert len(set(drawn.tolist())) == 60
    assert drawn.dtype == torch.int64


def test_a_subset_depends_on_the_seed_alone():
    assert torch.equal(stratified_subset(LABELS, NAMES, 20, 0), stratified_subset(LABELS, NAMES, 20, 0))
    assert not torch.equal(stratified_subset(LABELS, NAMES, 20, 0), stratified_subset(LABELS, NAMES, 20, 1))


def test_subsets_of_one_seed_are_nested_class_by_class():
    five, ten = (stratified_subset(LABELS, NAMES, count, 4).view(3, count) for count in (5, 10))
    assert torch.equal(five, ten[:, :5])


def test_a_map_of_numbers_changes_no_other_class():
    even, uneven = stratified_subset(LABELS, NAMES, 10, 4), stratified_subset(LABELS, NAMES, {"dog": 2, "*": 10}, 4)
    assert torch.equal(uneven, torch.cat([even[:10], even[10:12], even[20:]]))


def test_leaving_a_class_out_keeps_the_other_images():
    labels = torch.where(LABELS == 2, 1, 5)[LABELS != 1]  # emu is 1 now, dog is gone
    labels = torch.where(labels == 5, 0, labels)
    kept = (LABELS != 1).nonzero().flatten()
    assert torch.equal(
        kept[stratified_subset(labels, ("cat", "emu"), 10, 4)],
        stratified_subset(LABELS, NAMES, 10, 4)[[*range(10), *range(20, 30)]],
    )


def test_classes_do_not_share_their_draws():
    ranks = stratified_subset(LABELS, NAMES, 100, 0).view(3, 100) // 3
    assert not torch.equal(ranks[0], ranks[1])


def test_every_image_is_as_likely_as_another():
    """2,000 seeds, 10 of 100 images: 200 expected each, sd sqrt(2000 * 0.1 * 0.9) = 13.4; 5 sd either way."""
    labels = torch.zeros(100, dtype=torch.int64)
    counts = torch.bincount(torch.cat([stratified_subset(labels, ("cat",), 10, seed) for seed in range(2000)]))
    assert ((counts - 200).abs() < 5 * 13.4).all()


def test_all_images_are_a_subset_too():
    assert stratified_subset(LABELS, NAMES, None, 0).sort().values.tolist() == [*range(300)]


def test_too_many_are_refused_by_the_subset_itself():
    with pytest.raises(InputError, match="<= 100 for class 'cat' of this data, got 101"):
        stratified_subset(LABELS, NAMES, 101, 0)


def caches(folder):
    return [file for file in (folder / ".cache").iterdir() if ".v" in file.name and not file.name.endswith(".lock")]


def test_the_second_load_decodes_nothing_and_gives_the_same(tmp_path, monkeypatch):
    settings = folder_settings(write_tar(tmp_path / "a.tar", animals()))
    first = load_data(settings, tmp_path)
    monkeypatch.setattr(data_sets, "_decode_image", None)
    assert equal(load_data(settings, tmp_path), first)


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "text"])
def test_a_damaged_cache_is_built_again_with_a_warning(tmp_path, capsys, damage):
    settings = folder_settings(write_tar(tmp_path / "a.tar", animals()))
    first = load_data(settings, tmp_path)
    first = first.to("cpu")
    (file,) = caches(tmp_path)
    content = bytearray(file.read_bytes())
    pixel = content.index(bytes([102] * 64))
    content[pixel + 5] ^= 1
    damaged = {"empty": b"", "cut": file.read_bytes()[:-100], "changed": bytes(content), "text": b"hello"}[damage]
    expected = first.sha256
    file.unlink()
    file.write_bytes(damaged)
    capsys.readouterr()
    again = load_data(settings, tmp_path)
    assert again.sha256 == expected
    assert torch.equal(again.train_images[2, :, 5, 7], torch.tensor([102, 0, 0], dtype=torch.uint8))
    assert capsys.readouterr().err.count("this cache is damaged") == 1
    load_data(settings, tmp_path)
    assert capsys.readouterr().err == ""


def test_changed_files_are_decoded_again(tmp_path):
    path = tmp_path / "a.tar"
    load_data(folder_settings(write_tar(path, animals())), tmp_path)
    data = load_data(folder_settings(write_tar(path, animals(n_train=5))), tmp_path)
    assert len(data.train_labels) == 10


def test_files_other_than_the_sweep_was_read_with_are_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar", animals())
    sha256 = Digests(tmp_path).of_images(path).sha256
    assert load_data(folder_settings(path, sha256=sha256), tmp_path).classes == ("cat", "dog")
    write_tar(path, animals(n_train=4))
    with pytest.raises(InputError, match=rf"must still hold what data.sha256 says, {sha256}, got "):
        load_data(folder_settings(path, sha256=sha256), tmp_path)


def test_writing_into_loaded_tensors_changes_no_cache(tmp_path):
    settings = folder_settings(write_tar(tmp_path / "a.tar", animals()))
    load_data(settings, tmp_path)
    load_data(settings, tmp_path).train_images.zero_()
    assert load_data(settings, tmp_path).train_images.max() == 102


def test_a_folder_that_cannot_be_written_costs_the_cache_alone(tmp_path, capsys):
    settings = folder_settings(write_tar(tmp_path / "a.tar", animals()))
    blocked = tmp_path / "file"
    blocked.write_text("no folder")  # for root, permissions would not stop it
    assert load_data(settings, blocked).classes == ("cat", "dog")
    assert "no cache, the images will be decoded each time" in capsys.readouterr().err


def load_and_hash(path, folder, barrier, results):
    barrier.wait()
    results.put((load_data(folder_settings(path), folder).sha256, os.getpid()))


def test_processes_that_start_at_once_decode_once_and_agree(tmp_path, capfd):
    path = write_tar(tmp_path / "a.tar", animals(n_train=60))
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    processes = [
        context.Process(target=load_and_hash, args=(path, tmp_path / "data", barrier, results)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=60)[0] for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert found == [load_data(folder_settings(path), tmp_path / "data").sha256] * 4
    assert capfd.readouterr().err.count("decoding 124 images, once") == 1


@pytest.fixture(scope="module")
def real_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("real")


@needs_tiny
def test_the_published_network_classifies_472_of_the_real_validation_images(real_dir):
    """472 of 1,000; Pillow's resize((32, 32), BILINEAR) of one image after another gives the same number."""
    from l2t_ray.augment import normalize
    from l2t_ray.models import load_source

    data = load_data(tiny_settings(TINY, samples=25), real_dir)
    assert data.train_images.shape == (5000, 3, 32, 32)
    assert len(data.classes) == 200
    network = load_source(Source(weights=str(PUBLISHED)))
    with torch.no_grad():
        logits = torch.cat([network(normalize(images)) for images in data.test_images.split(250)])
    assert int((logits.argmax(1) == data.test_labels).sum()) == 472


@needs_tiny
def test_the_second_load_of_6000_real_images_takes_under_half_a_second(real_dir):
    load_data(tiny_settings(TINY, samples=25), real_dir)
    started = time.perf_counter()
    load_data(tiny_settings(TINY, samples=25), real_dir)
    assert time.perf_counter() - started < 0.5


@pytest.mark.slow
@needs_cifar10
def test_the_real_cifar10_images_load_at_once_from_their_cache(real_dir):
    archive = Archive(CIFAR10, "train")
    assert len(archive.names) == 15_000
    assert archive.names[0] == "test/airplane/0000.jpg"  # without the top folder cifar10/
    data = load_data(folder_settings(CIFAR10, samples=500, title="cifar10"), real_dir)
    assert data.name == "cifar10"
    assert data.classes == data_sets.CLASSES["cifar10"]
    assert torch.bincount(data.train_labels).tolist() == [500] * 10
    assert torch.bincount(data.test_labels).tolist() == [1000] * 10
    started = time.perf_counter()
    assert equal(load_data(folder_settings(CIFAR10, samples=500), real_dir), data)
    assert time.perf_counter() - started < 0.5
