"""The list of a report's files with their SHA-256, by which the next report in the same folder knows the old ones.

`sha256sum -c files.sha256` reads it too.
"""

from collections.abc import Iterable
from pathlib import Path

from l2t_ray.files import compute_sha256, write_atomic

LIST = "files.sha256"


def keep_list(folder: Path, written: Iterable[str]) -> None:
    """Lists this report's files, and removes those of the report before it that this one did not write.

    A file that no list names, or that was changed since, is somebody's own and stays.
    """
    names = sorted({*written})
    for name, digest in _listed(folder).items():
        path = folder / name
        is_inside = path.resolve().is_relative_to(folder.resolve())
        if name not in names and is_inside and path.is_file() and compute_sha256(path) == digest:
            path.unlink()
    lines = "".join(f"{compute_sha256(folder / name)}  {name}\n" for name in names)
    write_atomic(folder / LIST, lines.encode())


def _listed(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / LIST).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return {}
    return {name: digest for digest, gap, name in (line.partition("  ") for line in lines) if gap}
