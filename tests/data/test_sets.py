"""Data sets in their official formats, by torchvision where it has them."""

import hashlib
import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from l2t_ray.config import Data
from l2t_ray.data.load import load_data
from l2t_ray.errors import InputError
from l2t_ray.registry import DATA_SETS
from tests.support.image_files import (
    jpeg,
    tiny_settings,
    write_folder,
    write_tar,
    write_zip,
)


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
        tmp_path, monkeypatch, datasets.CIFAR10, DATA_SETS["cifar10"].classes, "labels", with_archive=True
    )
    data = load_data(Data(name="cifar10", samples_per_class=10), tmp_path)
    assert data.classes == DATA_SETS["cifar10"].classes
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
    contents["class_names.txt"] = "\n".join(DATA_SETS["stl10"].classes).encode()
    write_folder(tmp_path / kind.base_folder, contents)
    for which in ("train_list", "test_list"):
        monkeypatch.setattr(kind, which, [[name, md5(contents[name])] for name, _ in getattr(kind, which)])
    data = load_data(Data(name="stl10", samples_per_class=2), tmp_path, download=False)
    assert data.classes == DATA_SETS["stl10"].classes
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
    write_cifar(tmp_path, monkeypatch, datasets.CIFAR10, DATA_SETS["cifar10"].classes, "labels", with_archive=False)
    file = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match="every file with the checksum that torchvision knows"):
        load_data(Data(name="cifar10", samples_per_class=1), tmp_path, download=False)


def test_a_page_in_the_place_of_a_file_is_called_what_it_is(tmp_path, monkeypatch):
    write_cifar(tmp_path, monkeypatch, datasets.CIFAR10, DATA_SETS["cifar10"].classes, "labels", with_archive=False)
    first, second = (tmp_path / "cifar-10-batches-py" / name for name in ("data_batch_3", "test_batch"))
    first.write_bytes(b"<html>not found</html>")
    second.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError) as caught:
        load_data(Data(name="cifar10", samples_per_class=1), tmp_path, download=False)
    assert caught.value.problems == (
        f"{first}: must be a file of CIFAR10, got a web page (HTML); download it again",
        f"{second}: must be a file of CIFAR10, got a Git LFS pointer; run git lfs pull",
    )


def test_a_download_that_fails_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr("l2t_ray.data.fetch.PAUSE_S", 0.0)
    monkeypatch.setattr(datasets.CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")  # discard: nobody listens
    with pytest.raises(InputError, match=r"must answer, so that cifar10 can be fetched, got Connection refused"):
        load_data(Data(name="cifar10", samples_per_class=1), tmp_path)
