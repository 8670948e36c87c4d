"""The data sets that can be read, as decoded square images: downloaded, from files, or built in.

Each reader returns (classes, tensors): train_images and test_images uint8 [N, 3, S, S] with S = `data.image_size`,
train_labels and test_labels int64 [N].
"""

import contextlib
import sys
import urllib.error
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from l2t_ray.config import Data
from l2t_ray.data.archive import SPLITS, Archive, refuse
from l2t_ray.data.fetch import fetch
from l2t_ray.data.images import MAX_PIXELS, UnreadableError, decode
from l2t_ray.data.kinds import identify, read_head
from l2t_ray.data.layout import empty_folders, files_by_split, opened
from l2t_ray.data.names import composed
from l2t_ray.data.notes import notes
from l2t_ray.data.place import space
from l2t_ray.data.resize import resized
from l2t_ray.data.table import Table
from l2t_ray.errors import InputError
from l2t_ray.published import ARCHIVES, Published
from l2t_ray.registry import DATA_SETS

Decoded = tuple[tuple[str, ...], dict[str, Tensor]]

VERSION = 3  # of the decoding: a cache of another version is built again
LICENCES = "see its authors' page"
DIGITS_LEVELS = 16  # scikit-learn's digits are 0 to 16


def read_downloaded(settings: Data, data_dir: Path, *, download: bool) -> Decoded:
    """Reads CIFAR-10, CIFAR-100 or STL-10 through torchvision, which checks the MD5 of every file.

    Args:
        settings: with the name cifar10, cifar100 or stl10.
        data_dir: where the files are, or where they are put.
        download: whether they may be downloaded.

    Returns:
        Classes and tensors.

    Raises:
        InputError: if the files are missing and cannot be downloaded.
    """
    from torchvision import datasets

    name = settings.name
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "stl10": datasets.STL10}[name]
    tensors: dict[str, Tensor] = {}
    archive = data_dir / kind.filename
    if download and not (data_dir / kind.base_folder).is_dir() and not archive.exists():
        _, _, n_bytes = ARCHIVES[name]
        fetch(Published(name, kind.url, n_bytes, f"md5:{kind.tgz_md5}", LICENCES), archive)  # on, if it is broken off
    try:
        with contextlib.redirect_stdout(sys.stderr):
            for split in SPLITS:
                chosen = {"split": split} if name == "stl10" else {"train": split == "train"}
                split_set = kind(data_dir, download=download, **chosen)
                images = torch.from_numpy(np.ascontiguousarray(split_set.data))
                if name != "stl10":
                    images = images.permute(0, 3, 1, 2)
                room = space(len(images), settings.image_size, data_dir / ".cache")
                tensors[f"{split}_images"] = resized(images, settings.image_size, out=room)
                labels = split_set.labels if name == "stl10" else split_set.targets
                tensors[f"{split}_labels"] = torch.as_tensor(np.asarray(labels), dtype=torch.int64)
    except (RuntimeError, urllib.error.URLError, OSError) as error:
        wrong = _foreign_files(kind, data_dir)
        if wrong:
            raise InputError(wrong) from error
        rule = f"must hold {name} as {kind.base_folder}/, every file with the checksum that torchvision knows"
        if download:
            raise InputError(f"{data_dir}: {rule}; fetching it failed: {error}; put {kind.filename} there") from error
        remedy = f"unpack {kind.filename} there, or allow the download (leave out --no-download)"
        raise InputError(f"{data_dir}: {rule}, got none or others; {remedy}") from error
    return tuple(split_set.classes), tensors


def _foreign_files(kind: Any, data_dir: Path) -> list[str]:
    """Returns a problem for each file in the place of a data set's that is something else, such as a web page."""
    parts = [name for name, _ in [*kind.train_list, *kind.test_list]]
    problems = []
    for path in [data_dir / kind.filename, *(data_dir / kind.base_folder / name for name in dict.fromkeys(parts))]:
        with contextlib.suppress(OSError):
            found = identify(read_head(path))
            if found and "compressed" not in found[0]:
                rule = f"{path}: must be a file of {kind.__name__}"
                problems.append(f"{rule}, got {found[0]}; {found[1] or 'remove it'}")
    return problems


def read_digits(settings: Data) -> Decoded:
    """Returns scikit-learn's 1,797 handwritten 8 x 8 digits; every other image of a class is for the test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = torch.from_numpy(bunch.images).mul(255 / DIGITS_LEVELS).round().to(torch.uint8)
    images = resized(grey[:, None].expand(-1, 3, -1, -1), settings.image_size)
    labels = torch.from_numpy(bunch.target).long()
    rank = torch.zeros_like(labels)
    classes = DATA_SETS["digits"].classes
    for label in range(len(classes)):
        rank[labels == label] = torch.arange(int((labels == label).sum()))
    halves = {"train": rank % 2 == 0, "test": rank % 2 == 1}
    tensors = {f"{split}_images": images[half] for split, half in halves.items()}
    return classes, tensors | {f"{split}_labels": labels[half] for split, half in halves.items()}


def read_image_folder(settings: Data, data_dir: Path) -> Decoded:
    """Reads the images in train/<class>/ and test/<class>/, or of a table of files; classes in sorted order.

    Args:
        settings: the path of a folder, tar, zip or table; the part of each class that is split off.
        data_dir: in which there is room for what does not fit into the memory.

    Returns:
        Classes and tensors.

    Raises:
        InputError: if the layout is wrong, or a file cannot be decoded.
    """
    with opened(Path(str(settings.path))) as archive:
        classes, files = files_by_split(archive, settings.test_fraction)
        for note in notes(archive):
            print(f"{archive.path}: note: {note}", file=sys.stderr)
        return classes, _decode(archive, files, classes, settings, data_dir)


def read_tiny_imagenet(settings: Data, data_dir: Path) -> Decoded:
    """Reads Tiny ImageNet in its official layout, whole or in part; val is the test set.

    Args:
        settings: the path of a folder, tar or zip.
        data_dir: as for `read_image_folder`.

    Returns:
        Classes (in sorted wnid order) and tensors.

    Raises:
        InputError: if the layout is wrong, or a file cannot be decoded.
    """
    path = Path(str(settings.path))
    with Archive(path, "wnids.txt") as archive:
        if "val/val_annotations.txt" not in archive.names:
            raise InputError(f"{path}: tiny_imagenet must hold val/val_annotations.txt, got none; fetch it again")
        classes = tuple(sorted(set(_read_text(archive, "wnids.txt").split())))
        lines = _read_text(archive, "val/val_annotations.txt").splitlines()
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
        refuse(path, empty_folders(archive, "train", files["train"]))
        return classes, _decode(archive, files, classes, settings, data_dir)


def _decode(
    archive: Archive | Table,
    files: Mapping[str, Mapping[str, str]],
    classes: tuple[str, ...],
    settings: Data,
    data_dir: Path,
) -> dict[str, Tensor]:
    """Returns the tensors of both splits; images are in the order of their names, whatever the archive's order."""
    places: dict[str, tuple[str, int]] = {}
    tensors: dict[str, Tensor] = {}
    numbers, size = {name: number for number, name in enumerate(classes)}, settings.image_size
    for split, labels in files.items():
        places |= {name: (split, index) for index, name in enumerate(labels)}
        tensors[f"{split}_images"] = space(len(labels), size, data_dir / ".cache")
        tensors[f"{split}_labels"] = torch.tensor([numbers[name] for name in labels.values()], dtype=torch.int64)
    print(f"{archive.path}: decoding {len(places)} images, once", file=sys.stderr)
    problems, with_frames = [], []
    for name in archive.stored():
        if name not in places:
            continue
        split, index = places[name]
        content = archive.read(name)
        try:
            pixels, has_frames = decode(content, MAX_PIXELS)
        except UnreadableError as error:
            rule = f"{archive.shown(name)} must be an image that can be decoded"
            problems.append(f"{rule}, got {len(content)} bytes ({error.reason}); {error.remedy}")
        else:
            image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
            tensors[f"{split}_images"][index] = resized(image, size, settings.resize)[0]
            with_frames += [name] if has_frames else []
    refuse(archive.path, sorted(problems))
    if with_frames:
        example = archive.shown(with_frames[0])
        some = f"{archive.path}: note: {len(with_frames)} images have several frames, such as {example}"
        print(f"{some}; the first frame of each is read", file=sys.stderr)
    return tensors


def _read_text(archive: Archive, name: str) -> str:
    return composed(archive.read(name).decode(errors="replace"))


READERS: Mapping[str, Callable[..., Decoded]] = {  # of (settings, data_dir), and download= without a path
    "cifar10": read_downloaded,
    "cifar100": read_downloaded,
    "stl10": read_downloaded,
    "tiny_imagenet": read_tiny_imagenet,
    "image_folder": read_image_folder,
    "digits": lambda settings, data_dir, *, download: read_digits(settings),
}
