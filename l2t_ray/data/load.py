"""Loads a data set as tensors, from its cache after the first time."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from l2t_ray.config import Data
from l2t_ray.data import sets as data_sets
from l2t_ray.data.archive import SPLITS, check_exists
from l2t_ray.data.cache import Content, load_cached
from l2t_ray.data.digests import Digests
from l2t_ray.data.names import composed
from l2t_ray.data.place import fits
from l2t_ray.data.subsets import count_samples, unknown_class
from l2t_ray.errors import InputError
from l2t_ray.registry import DATA_SETS, IMAGE_SIZE

TENSORS = ("train_images", "train_labels", "test_images", "test_labels")
CACHE_DIGITS = 16


@dataclass(frozen=True, eq=False)
class DataSet:
    """Decoded images with their classes."""

    name: str  # for tables and messages
    classes: tuple[str, ...]  # label i is classes[i]
    train_images: Tensor  # uint8 [N, 3, S, S], S = `data.image_size`
    train_labels: Tensor  # int64 [N]
    test_images: Tensor  # uint8 [M, 3, S, S]
    test_labels: Tensor  # int64 [M]
    sha256: str  # of the class names and the four tensors

    def to(self, device: torch.device | str) -> "DataSet":
        """Returns the same data on a device; tensors that are there already are shared."""
        moved: dict[str, Any] = {name: getattr(self, name).to(device) for name in TENSORS}
        return replace(self, **moved)

    def placed(self, device: torch.device) -> "DataSet":
        """Returns the same data on a device, but for images that do not fit there."""
        moved: dict[str, Any] = {}
        for name in TENSORS:
            tensor: Tensor = getattr(self, name)
            if name.endswith("labels") or fits(tensor.nbytes, device):
                moved[name] = tensor.to(device)
        return replace(self, **moved)

    def subset_of_classes(self, names: Sequence[str]) -> "DataSet":
        """Returns the images of some classes, in their old order, with labels renumbered in the order of the names.

        Args:
            names: of classes, each once, in any Unicode form.

        Raises:
            InputError: if a name is not a class.
        """
        names = [composed(name) for name in names]
        if len({*names}) < len(names):
            raise InputError("data.classes must name each class once, got one in two Unicode forms; remove one")
        unknown = [name for name in names if name not in self.classes]
        if unknown:
            raise InputError([unknown_class("data.classes", name, self.classes, self.name) for name in unknown])
        numbers = torch.full((len(self.classes),), -1, dtype=torch.int64, device=self.train_labels.device)
        for number, name in enumerate(names):
            numbers[self.classes.index(name)] = number
        tensors: dict[str, Any] = {}
        for split in SPLITS:
            labels = numbers[getattr(self, f"{split}_labels")]
            tensors[f"{split}_images"] = getattr(self, f"{split}_images")[labels >= 0]
            tensors[f"{split}_labels"] = labels[labels >= 0]
        sha256 = _compute_sha256(names, tensors)
        return replace(self, classes=tuple(names), sha256=sha256, **tensors)


def load_data(settings: Data, data_dir: Path, *, download: bool = True) -> DataSet:
    """Loads a data set: decodes it the first time, and reads `data_dir/.cache` from then on.

    Args:
        settings: which set and which of its classes; the numbers of images are only checked.
        data_dir: for downloads and caches.
        download: whether a missing set may be downloaded.

    Returns:
        CPU tensors.

    Raises:
        InputError: if the files are wrong or missing, or the settings ask for more than they hold.
    """
    content = _load_content(settings, data_dir, download=download)
    title = settings.title or (Path(settings.path).stem if settings.path is not None else settings.name)
    data = DataSet(title, tuple(content["classes"]), **content["tensors"], sha256=content["sha256"])
    if settings.classes is not None:
        data = data.subset_of_classes(settings.classes)
    count_samples(data.train_labels, data.classes, settings.samples_per_class, name=data.name)
    if not len(data.test_labels):
        which = "a class" if settings.classes is None else "one of data.classes"
        few = "add images: of a class with one image none is kept for the test"
        remedy = "add some to test/, or name other classes" if settings.test_fraction is None else few
        raise InputError(f"{data.name}: {which} must have a test image, got none; {remedy}")
    return data


def _load_content(settings: Data, data_dir: Path, *, download: bool) -> Content:
    """Returns the decoded set from its cache; a cache of files is named by their digest."""
    read = data_sets.READERS[settings.name]
    if not DATA_SETS[settings.name].has_path:
        return load_cached(
            cache_file(settings, data_dir), lambda: _describe(*read(settings, data_dir, download=download))
        )
    if settings.path is None:
        raise InputError(f"data.path must name the folder or tar of {settings.name}, got none; add it")
    path = Path(settings.path)
    if not path.exists():
        if (
            settings.sha256 is not None and cache_file(settings, data_dir).exists()
        ):  # the driver has sent the cache alone
            return load_cached(cache_file(settings, data_dir), lambda: _missing(path))
        return _missing(path)
    digests = Digests(data_dir / ".cache")
    sha256 = digests.of_images(path).sha256
    digests.save()
    if settings.sha256 not in {None, sha256}:
        raise InputError(
            f"{path}: must still hold what data.sha256 says, {settings.sha256}, got {sha256}; "
            "launch the sweep again to train on the new files"
        )
    known = settings.model_copy(update={"sha256": sha256})
    return load_cached(cache_file(known, data_dir), lambda: _describe(*read(known, data_dir)))


def cache_file(settings: Data, data_dir: Path) -> Path:
    """Returns the cache of a set, which may not exist; a set from files needs `sha256` in its settings."""
    content = f"-{str(settings.sha256)[:CACHE_DIGITS]}" if DATA_SETS[settings.name].has_path else ""
    split = "" if settings.test_fraction is None else f"-test{settings.test_fraction!r}"
    size = "" if settings.image_size == IMAGE_SIZE else f"-{settings.image_size}"
    how = "" if settings.resize == "squash" else f"-{settings.resize}"
    return data_dir / ".cache" / f"{settings.name}{content}{split}{size}{how}.v{data_sets.VERSION}"


def _missing(path: Path) -> Content:
    check_exists(path)
    raise InputError(f"{path}: data.path must exist, counted from the working folder; it was there a moment ago")


def _describe(classes: tuple[str, ...], tensors: dict[str, Tensor]) -> Content:
    return {"classes": list(classes), "tensors": tensors, "sha256": _compute_sha256(classes, tensors)}


def _compute_sha256(classes: Sequence[str], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(list(classes)).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {list(tensors[name].shape)}".encode())
        digest.update(tensors[name].cpu().contiguous().numpy().data)
    return digest.hexdigest()
