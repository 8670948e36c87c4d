"""The data sets that can be read, as decoded 3 x 32 x 32 images: downloaded, from files, or built in.

Each reader returns (classes, tensors): train_images and test_images uint8 [N, 3, 32, 32], train_labels and test_labels
int64 [N]. Larger and smaller images are resized bilinearly, antialiased, in uint8, as Pillow and torchvision do.
"""

import contextlib
import io
import sys
import urllib.error
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from l2t_ray.data.archive import Archive
from l2t_ray.errors import InputError
from l2t_ray.registry import DATA_SETS

Decoded = tuple[tuple[str, ...], dict[str, Tensor]]

VERSION = 1  # of the decoding: a cache of another version is built again
SIZE = 32
MAX_PIXELS = 1 << 26
SPLITS = ("train", "test")
DIGITS_LEVELS = 16  # scikit-learn's digits are 0 to 16


def read_downloaded(name: str, data_dir: Path, *, download: bool) -> Decoded:
    """Reads CIFAR-10, CIFAR-100 or STL-10 through torchvision, which checks the MD5 of every file.

    Args:
        name: cifar10, cifar100 or stl10.
        data_dir: where the files are, or where they are put.
        download: whether they may be downloaded.

    Returns:
        Classes and tensors.

    Raises:
        InputError: if the files are missing and cannot be downloaded.
    """
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "stl10": datasets.STL10}[name]
    tensors: dict[str, Tensor] = {}
    try:
        with contextlib.redirect_stdout(sys.stderr):
            for split in SPLITS:
                chosen = {"split": split} if name == "stl10" else {"train": split == "train"}
                split_set = kind(data_dir, download=download, **chosen)
                images = torch.from_numpy(np.ascontiguousarray(split_set.data))
                if name != "stl10":
                    images = images.permute(0, 3, 1, 2)
                tensors[f"{split}_images"] = _resize(images)
                labels = split_set.labels if name == "stl10" else split_set.targets
                tensors[f"{split}_labels"] = torch.as_tensor(np.asarray(labels), dtype=torch.int64)
    except (RuntimeError, urllib.error.URLError, OSError) as error:
        rule = f"must hold {name} as {kind.base_folder}/, every file with the checksum that torchvision knows"
        if download:
            raise InputError(f"{data_dir}: {rule}; fetching it failed: {error}; put {kind.filename} there") from error
        remedy = f"unpack {kind.filename} there, or allow the download (leave out --no-download)"
        raise InputError(f"{data_dir}: {rule}, got none or others; {remedy}") from error
    return tuple(split_set.classes), tensors


def read_digits() -> Decoded:
    """Returns scikit-learn's 1,797 handwritten 8 x 8 digits; every other image of a class is for the test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = torch.from_numpy(bunch.images).mul(255 / DIGITS_LEVELS).round().to(torch.uint8)
    images = _resize(grey[:, None].expand(-1, 3, -1, -1))
    labels = torch.from_numpy(bunch.target).long()
    rank = torch.zeros_like(labels)
    classes = DATA_SETS["digits"].classes
    for label in range(len(classes)):
        rank[labels == label] = torch.arange(int((labels == label).sum()))
    halves = {"train": rank % 2 == 0, "test": rank % 2 == 1}
    tensors = {f"{split}_images": images[half] for split, half in halves.items()}
    return classes, tensors | {f"{split}_labels": labels[half] for split, half in halves.items()}


def read_image_folder(path: Path) -> Decoded:
    """Reads the images in train/<class>/ and test/<class>/; classes in sorted order.

    Args:
        path: a folder, tar or zip.

    Returns:
        Classes and tensors.

    Raises:
        InputError: if the layout is wrong, or a file cannot be decoded.
    """
    with Archive(path, "train") as archive:
        files: dict[str, dict[str, str]] = {}
        for split in SPLITS:
            files[split] = {}
            for name in (name for name in archive.names if name.startswith(f"{split}/")):
                parts = name.split("/")
                if len(parts) != 3:
                    raise InputError(f"{path}: images must be in {split}/<class>/, got {name!r}; move it")
                files[split][name] = parts[1]
            if not files[split]:
                raise InputError(f"{path}: {split}/<class>/ must hold images, there are none; add them")
            _check_folders(archive, split, files[split])
        classes = tuple(sorted(set(files["train"].values())))
        if unknown := sorted(set(files["test"].values()) - set(classes)):
            raise InputError(
                f"{path}: classes of test/ must be in train/ too, got {', '.join(unknown)}; add its training images"
            )
        return classes, _decode(archive, files, classes)


def read_tiny_imagenet(path: Path) -> Decoded:
    """Reads Tiny ImageNet in its official layout, whole or in part; val is the test set.

    Args:
        path: a folder, tar or zip.

    Returns:
        Classes (in sorted wnid order) and tensors.

    Raises:
        InputError: if the layout is wrong, or a file cannot be decoded.
    """
    with Archive(path, "wnids.txt") as archive:
        if "val/val_annotations.txt" not in archive.names:
            raise InputError(f"{path}: tiny_imagenet must hold val/val_annotations.txt, got none; fetch it again")
        classes = tuple(sorted(set(archive.read("wnids.txt").decode(errors="replace").split())))
        lines = archive.read("val/val_annotations.txt").decode(errors="replace").splitlines()
        wnids = dict(line.split("\t")[:2] for line in lines if "\t" in line)
        files: dict[str, dict[str, str]] = {"train": {}, "test": {}}
        for name in archive.names:
            match name.split("/"):
                case ["train", wnid, "images", _]:
                    files["train"][name] = wnid
                case ["val", "images", file]:
                    if file not in wnids:
                        raise InputError(f"{path}: val/val_annotations.txt must name every image of val/, not {file}")
                    files["test"][name] = wnids[file]
        for split, names in files.items():
            if not names:
                layout = {"train": "train/<wnid>/images/", "test": "val/images/"}[split]
                raise InputError(f"{path}: {layout} must hold images, there are none; fetch the data set again")
            if unknown := sorted(set(names.values()) - set(classes)):
                raise InputError(f"{path}: wnids.txt must name every class, {unknown[0]} of {split} is not there")
        _check_folders(archive, "train", files["train"])
        return classes, _decode(archive, files, classes)


def _check_folders(archive: Archive, split: str, files: Mapping[str, str]) -> None:
    folders = {name.split("/")[1] for name in archive.folders if name.startswith(f"{split}/")}
    if empty := sorted(folders - set(files.values())):
        raise InputError(
            f"{archive.path}: a class folder must hold images, {split}/{empty[0]} is empty; fill or remove it"
        )


def _decode(archive: Archive, files: Mapping[str, Mapping[str, str]], classes: tuple[str, ...]) -> dict[str, Tensor]:
    """Returns the tensors of both splits; images are in the order of their names, whatever the archive's order."""
    places: dict[str, tuple[str, int]] = {}
    tensors: dict[str, Tensor] = {}
    numbers = {name: number for number, name in enumerate(classes)}
    for split, labels in files.items():
        places |= {name: (split, index) for index, name in enumerate(labels)}
        tensors[f"{split}_images"] = torch.empty(len(labels), 3, SIZE, SIZE, dtype=torch.uint8)
        tensors[f"{split}_labels"] = torch.tensor([numbers[name] for name in labels.values()], dtype=torch.int64)
    print(f"{archive.path}: decoding {len(places)} images, once", file=sys.stderr)
    for name in archive.stored():
        if name in places:
            split, index = places[name]
            tensors[f"{split}_images"][index] = _decode_image(archive.path, name, archive.read(name))
    return tensors


def _decode_image(path: Path, name: str, content: bytes) -> Tensor:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS}")
            pixels = np.array(image.convert("RGB"))
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        raise InputError(
            f"{path}: {name} must be an image that can be decoded, got {len(content)} bytes ({error}); "
            "replace or remove it"
        ) from error
    return _resize(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]


def _resize(images: Tensor) -> Tensor:
    """Returns uint8 [N, 3, H, W] as contiguous [N, 3, 32, 32]."""
    if images.shape[2:] == (SIZE, SIZE):
        return images.contiguous()
    return F.interpolate(images.contiguous(), (SIZE, SIZE), mode="bilinear", antialias=True)


# readers of (path), or of (data_dir, download=), as `DATA_SETS[name].has_path` says
READERS: Mapping[str, Callable[..., Decoded]] = {
    "cifar10": partial(read_downloaded, "cifar10"),
    "cifar100": partial(read_downloaded, "cifar100"),
    "stl10": partial(read_downloaded, "stl10"),
    "tiny_imagenet": read_tiny_imagenet,
    "image_folder": read_image_folder,
    "digits": lambda data_dir, *, download: read_digits(),
}
