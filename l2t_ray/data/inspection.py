"""What the images of a folder are before they are resized: sizes, shapes, modes, doubled images, small classes.

Images are equal if their pixels are, as they are decoded: upright, in red, green and blue.
"""

import contextlib
import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from l2t_ray.data.archive import Archive
from l2t_ray.data.images import MAX_PIXELS, UnreadableError, decode, mode_of
from l2t_ray.data.layout import files_by_split, opened
from l2t_ray.data.notes import notes
from l2t_ray.data.table import Table
from l2t_ray.errors import InputError
from l2t_ray.files import write_atomic

VERSION = 2  # of the file that keeps it
FEW = 5  # training images; a class with fewer is told
LONG = 2.0  # sides' ratio; an image beyond is told
N_SHOWN = 8


@dataclass(frozen=True)
class Inspection:
    """What was found; names are as messages show them."""

    n_images: Mapping[str, int]  # of each split
    n_train: Mapping[str, int]  # of each class
    n_test: Mapping[str, int]
    sizes: Mapping[str, int]  # "640 x 480", width before height -> images
    modes: Mapping[str, int]  # Pillow's -> images
    shared: list[tuple[str, str]]  # a training image, and the test image with the same pixels
    mixed: list[tuple[str, str]]  # an image, and one of another class in the same split with the same pixels
    notes: list[str] = field(default_factory=list)  # images that are left out, names that are guessed; not kept

    def lines(self, title: str) -> Iterator[str]:
        """Yields a line for each thing that was found.

        Args:
            title: of the images.
        """
        n_train, n_test = self.n_images["train"], self.n_images["test"]
        yield f"{title}: {n_train:,} training and {n_test:,} test images of {len(self.n_train):,} classes"
        sizes = {tuple(map(int, size.split(" x "))): count for size, count in self.sizes.items()}
        yield f"  sizes: {_span(sizes)}"
        shapes = [width / height for (width, height), count in sizes.items() for _ in range(count)]
        n_long = sum(not 1 / LONG <= shape <= LONG for shape in shapes)
        some = f"; {n_long:,} beyond {LONG:g} : 1" if n_long else ""
        middle = statistics.median(shapes)
        yield f"  width / height: {min(shapes):.3g} to {max(shapes):.3g}, median {middle:.3g}{some}"
        yield f"  modes: {', '.join(f'{mode} {count:,}' for mode, count in _most_first(self.modes))}"
        if self.shared:
            shown = "; ".join(f"{one} = {other}" for one, other in self.shared[:N_SHOWN])
            more = _more(len(self.shared))
            yield f"  WARNING: {len(self.shared):,} test images are training images, too: {shown}{more}"
        if self.mixed:
            shown = "; ".join(f"{one} = {other}" for one, other in self.mixed[:N_SHOWN])
            more = _more(len(self.mixed))
            yield f"  WARNING: {len(self.mixed):,} images are in another class, too: {shown}{more}"
        few = sorted((count, name) for name, count in self.n_train.items() if count < FEW)
        if few:
            shown = ", ".join(f"{name} ({count})" for count, name in few[:N_SHOWN])
            yield f"  classes with fewer than {FEW} training images: {shown}{_more(len(few))}"
        if untested := sorted(name for name in self.n_train if not self.n_test.get(name)):
            yield f"  classes without a test image: {', '.join(untested[:N_SHOWN])}{_more(len(untested))}"
        yield from (f"  note: {note}" for note in self.notes)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Returns what `asdict` has turned into plain values."""
        pairs = {name: [(one, other) for one, other in content[name]] for name in ("shared", "mixed")}
        return cls(**{**content, **pairs})


def inspect(path: Path, test_fraction: float | None, kept: Path) -> Inspection:
    """Looks at all images of a folder, or reads what an earlier look has found.

    Args:
        path: of the image folder.
        test_fraction: of each class, where there is no test/.
        kept: the file that keeps what is found; named by the images' digest.

    Returns:
        What was found.

    Raises:
        InputError: if the layout is wrong, or an image cannot be read.
    """
    archive = opened(path)
    told = notes(archive)  # of what the images' digest leaves out
    try:
        found = json.loads(kept.read_bytes())
        if found.pop("version") == VERSION:
            return replace(Inspection.from_json(found), notes=told)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # missing or damaged
        pass
    inspection = _inspect(archive, test_fraction)
    with contextlib.suppress(OSError):  # looked at again next time
        write_atomic(kept, json.dumps({"version": VERSION, **asdict(inspection)}).encode())
    return replace(inspection, notes=told)


def _inspect(archive: Archive | Table, test_fraction: float | None) -> Inspection:
    sizes, modes = Counter[str](), Counter[str]()
    digests: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    with archive:
        _, files = files_by_split(archive, test_fraction)
        splits = {name: split for split, names in files.items() for name in names}
        for name in archive.stored():
            if name not in splits:
                continue
            content = archive.read(name)
            try:
                pixels, _ = decode(content, MAX_PIXELS)
            except UnreadableError as error:
                rule = f"{archive.shown(name)} must be an image that can be decoded"
                raise InputError(f"{archive.path}: {rule}, got {error.reason}; {error.remedy}") from error
            height, width, _ = pixels.shape
            sizes[f"{width} x {height}"] += 1
            modes[mode_of(content)] += 1
            digest = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()
            digests[splits[name]].setdefault(digest, []).append(name)
    shared = [
        (archive.shown(names[0]), archive.shown(other))
        for digest, names in digests["train"].items()
        for other in digests["test"].get(digest, [])
    ]
    mixed = [
        (archive.shown(names[0]), archive.shown(other))
        for split in digests
        for names in digests[split].values()
        for other in names
        if files[split][other] != files[split][names[0]]
    ]
    n_train, n_test = (dict(Counter(files[split].values())) for split in ("train", "test"))
    n_images = {split: len(names) for split, names in files.items()}
    return Inspection(n_images, n_train, n_test, dict(sizes), dict(modes), sorted(shared), sorted(mixed))


def _span(sizes: Mapping[tuple[int, ...], int]) -> str:
    if len(sizes) == 1:
        (((width, height), _),) = sizes.items()
        return f"all {width} x {height}"
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    common, count = _most_first(sizes)[0]
    smallest, largest, often = (f"{width} x {height}" for width, height in (by_area[0], by_area[-1], common))
    return f"{smallest} to {largest} (width x height), most often {often} ({count:,} images)"


def _most_first(counts: Mapping[Any, int]) -> list[tuple[Any, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _more(count: int) -> str:
    return f" and {count - N_SHOWN:,} more" if count > N_SHOWN else ""
