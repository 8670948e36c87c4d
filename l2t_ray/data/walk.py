"""The files under a folder, through links, in an order that is always the same."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from l2t_ray.errors import InputError

MAX_DEPTH = 6  # of folders
MAX_VISITS = 100  # of one folder: links between folders multiply


def is_hidden(part: str) -> bool:
    """Whether a file or folder of this name is passed over."""
    return part.startswith(".") or part == "__MACOSX"


def walk(
    folder: Path, prefix: str = "", above: tuple[str, ...] = (), visits: Counter[str] | None = None
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yields everything in a folder that is not hidden, in order, a folder before its content.

    A link to a folder above it is taken for an empty folder.

    Args:
        folder: to look at.
        prefix: of the names.
        above: the real paths of the folders above it.
        visits: of each real path so far.

    Raises:
        InputError: if links lead to one folder again and again.
    """
    visits = Counter() if visits is None else visits
    real = os.path.realpath(folder)
    if real in above:
        return
    visits[real] += 1
    if visits[real] > MAX_VISITS:
        rule = f"links must lead to a folder at most {MAX_VISITS} times, got more"
        raise InputError(f"{folder}: {rule}; remove the links between folders")
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not is_hidden(entry.name):
                yield prefix + entry.name, entry
                if entry.is_dir() and len(above) < MAX_DEPTH:
                    yield from walk(Path(entry.path), f"{prefix}{entry.name}/", (*above, real), visits)


def every_folder(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yields a folder and each folder in it, hidden ones too, with the names of its files.

    Args:
        path: of the folder.

    Yields:
        The folder's name, "" or "/train/cat", and its files; [""] stands for those of a folder that was there before.
    """
    seen = set()
    for folder, folders, names in os.walk(path, followlinks=True):
        name = folder.removeprefix(str(path))
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            yield name, [""]
        else:
            seen.add(real)
            yield name, names


def hidden_files(path: Path) -> Iterator[str]:
    """Yields the names of the files under a folder that are hidden, or in a hidden folder."""
    for folder, names in every_folder(path):
        for name in filter(None, names):
            parts = [*folder.strip("/").split("/"), name] if folder else [name]
            if any(map(is_hidden, parts)):
                yield "/".join(parts)
