"""SHA-256 of what files contain, so that a run is known by its images and weights, wherever their files are.

The digest of images is over the sorted names and digests of all files: a folder and a tar of it have the same one.
`digests.json` keeps the digests by path and stamp (names, sizes, times, inodes), so that a second plan reads
no content.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from l2t_ray.data.layout import opened, validation_folder
from l2t_ray.data.table import is_table, read_rows
from l2t_ray.data.walk import every_folder
from l2t_ray.files import compute_sha256, write_atomic

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contents:
    """What a path contains."""

    sha256: str  # 64 hex digits
    n_train: Mapping[str, int]  # files of each class in `train/<class>/`; empty for a file of weights
    has_test: bool = True  # whether there are files in `test/`
    val: str = ""  # the folder beside them that looks like another test set


class Digests:
    """Digests by path, kept in a file.

    Args:
        folder: of the file `digests.json`.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "digests.json"
        self._known: dict[str, Any] = {}
        self._changed = False
        try:
            known = json.loads(self.file.read_bytes())
            self._known = known if isinstance(known, dict) else {}
        except (OSError, ValueError):  # missing or damaged: the digests are computed again
            pass

    def of_weights(self, path: Path) -> Contents:
        """Returns the digest of a file's bytes."""
        return self._known_or_computed("weights", path, lambda: Contents(compute_sha256(path), {}))

    def of_images(self, path: Path) -> Contents:
        """Returns the digest of a folder, archive or table of images, and its numbers of training images.

        Args:
            path: with `train/<class>/...`; hidden files and a top folder around it do not count.
        """
        return self._known_or_computed("images by composed names", path, lambda: _read_images(path))

    def save(self) -> None:
        """Writes the new digests; where the folder is not writable, the next plan computes them again."""
        if not self._changed:
            return
        try:
            write_atomic(self.file, json.dumps(self._known, indent=1).encode())
            self._changed = False
        except OSError as error:
            logger.warning(
                "%s: cannot be written (%s); digests are computed again next time", self.file, error.strerror
            )

    def _known_or_computed(self, kind: str, path: Path, compute: Callable[[], Contents]) -> Contents:
        name, stamp = f"{kind}:{path.resolve()}", _stamp(path)
        known: Any = self._known.get(name)
        try:
            if known["stamp"] == stamp:
                return Contents(known["sha256"], known["n_train"], known["has_test"], known["val"])
        except (TypeError, KeyError):
            pass
        contents = compute()
        self._known[name] = {"stamp": stamp, **asdict(contents)}
        self._changed = True
        return contents


def _stamp(path: Path) -> str:
    """Returns the stamp of a file, or a hash of those of all files in a folder or table; reads no image."""
    if is_table(path):
        stamps = [_stamp_of("", path), *(_stamp_of(row.path, Path(path.parent, row.path)) for row in read_rows(path))]
        return hashlib.sha256("\n".join(stamps).encode(errors="surrogateescape")).hexdigest()
    if not path.is_dir():
        return _stamp_of("", path)
    stamps = []
    for folder, names in every_folder(path):
        stamps += [_stamp_of(f"{folder}/{name}", Path(f"{path}{folder}", name)) for name in names]
    return hashlib.sha256("\n".join(sorted(filter(None, stamps))).encode(errors="surrogateescape")).hexdigest()


def _stamp_of(name: str, file: Path) -> str:
    """Returns a file's part of a stamp; nothing for what is not there, which `Archive` and `Table` report.

    The inode tells files that have changed places, and the time of the inode what was written under an old time.
    """
    try:
        status = file.stat()
    except (OSError, ValueError):
        return ""
    return f"{name}:{status.st_size}:{status.st_mtime_ns}:{status.st_ino}:{status.st_ctime_ns}"


def _read_images(path: Path) -> Contents:
    with opened(path) as archive:
        digests = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.stored()}
    total = hashlib.sha256()
    for name in sorted(digests):
        total.update(f"{name}\0{digests[name]}\n".encode(errors="surrogateescape"))
    parts = [name.split("/") for name in digests]
    n_train = Counter(part[1] for part in parts if part[0] == "train" and len(part) == 3)  # deeper ones are refused
    has_test = any(part[0] == "test" and len(part) > 2 for part in parts)
    return Contents(total.hexdigest(), dict(n_train), has_test, validation_folder(digests))
