"""A data set as tensors, and its stratified subsets."""

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
from l2t_ray.data.cache import Content, load_cached
from l2t_ray.data.digests import Digests
from l2t_ray.data.subsets import _did_you_mean, count_samples
from l2t_ray.errors import InputError
from l2t_ray.registry import DATA_SETS

TENSORS = ("train_images", "train_labels", "test_images", "test_labels")
CACHE_DIGITS = 16


@dataclass(frozen=True, eq=False)
class DataSet:
    """Decoded images with their classes.

    Attributes:
        name: for tables and messages.
        classes: label i is classes[i].
        train_images: uint8 [N, 3, 32, 32].
        train_labels: int64 [N].
        test_images: uint8 [M, 3, 32, 32].
        test_labels: int64 [M].
        sha256: of the class names and the four tensors.
    """

    name: str
    classes: tuple[str, ...]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    sha256: str

    def to(self, device: torch.device | str) -> "DataSet":
        """The same data on a device.

        Args:
            device: where to.

        Returns:
            A data set that shares what is there already.
        """
        moved: dict[str, Any] = {name: getattr(self, name).to(device) for name in TENSORS}
        return replace(self, **moved)

    def subset_of_classes(self, names: Sequence[str]) -> "DataSet":
        """The images of some classes, in the order they had, with labels renumbered in the order of the names.

        Args:
            names: of classes, each once.

        Returns:
            A data set of these classes alone.

        Raises:
            InputError: if a name is not a class, or is there twice.
        """
        problems = [_unknown("data.classes", name, self) for name in names if name not in self.classes]
        if len(set(names)) < len(names):
            problems.append(f"data.classes must name a class once, got {', '.join(names)}")
        if problems or not names:
            raise InputError(problems or f"data.classes must name at least one class of {self.name}, got none")
        numbers = torch.full((len(self.classes),), -1, dtype=torch.int64, device=self.train_labels.device)
        for number, name in enumerate(names):
            numbers[self.classes.index(name)] = number
        tensors: dict[str, Any] = {}
        for split in data_sets.SPLITS:
            labels = numbers[getattr(self, f"{split}_labels")]
            tensors[f"{split}_images"] = getattr(self, f"{split}_images")[labels >= 0]
            tensors[f"{split}_labels"] = labels[labels >= 0]
        sha256 = _compute_sha256(names, tensors)
        return replace(self, classes=tuple(names), sha256=sha256, **tensors)


def load_data(settings: Data, data_dir: Path, *, download: bool = True) -> DataSet:
    """Reads a data set, decoding it the first time and from then on from `data_dir/.cache`.

    Args:
        settings: which set and which of its classes; the number of images is only checked.
        data_dir: for downloads and caches.
        download: whether a missing set may be fetched.

    Returns:
        CPU tensors.

    Raises:
        InputError: if the files are not as they must be, or the settings ask for what they do not hold.
    """
    content = _load_content(settings, data_dir, download=download)
    title = settings.title or (Path(settings.path).stem if settings.path is not None else settings.name)
    data = DataSet(title, tuple(content["classes"]), **content["tensors"], sha256=content["sha256"])
    if settings.classes is not None:
        data = data.subset_of_classes(settings.classes)
    count_samples(data.train_labels, data.classes, settings.samples_per_class, name=data.name)
    return data


def _load_content(settings: Data, data_dir: Path, *, download: bool) -> Content:
    """The decoded set, from its cache; that of files is named by what they contain."""
    read = data_sets.READERS[settings.name]
    if not DATA_SETS[settings.name].has_path:
        return load_cached(cache_file(settings, data_dir), lambda: _describe(*read(data_dir, download=download)))
    if settings.path is None:
        raise InputError(f"data.path must name the folder or tar of {settings.name}, got nothing; add it")
    path = Path(settings.path)
    if not path.exists():
        if settings.sha256 is not None and cache_file(settings, data_dir).exists():  # brought here from elsewhere
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
    return load_cached(cache_file(known, data_dir), lambda: _describe(*read(path)))


def cache_file(settings: Data, data_dir: Path) -> Path:
    """Where a set lies once it is decoded.

    Args:
        settings: with `sha256`, where the set comes from files.
        data_dir: for downloads and caches.

    Returns:
        The file; it may not exist.
    """
    content = f"-{str(settings.sha256)[:CACHE_DIGITS]}" if DATA_SETS[settings.name].has_path else ""
    return data_dir / ".cache" / f"{settings.name}{content}.v{data_sets.VERSION}"


def _missing(path: Path) -> Content:
    raise InputError(f"{path}: data.path must exist, counted from the working folder; correct it")


def _describe(classes: tuple[str, ...], tensors: dict[str, Tensor]) -> Content:
    return {"classes": list(classes), "tensors": tensors, "sha256": _compute_sha256(classes, tensors)}


def _compute_sha256(classes: Sequence[str], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(list(classes)).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {list(tensors[name].shape)}".encode())
        digest.update(tensors[name].cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _unknown(place: str, name: str, data: DataSet) -> str:
    return _did_you_mean(place, name, data.classes, data.name)
