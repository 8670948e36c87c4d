"""Names of files and classes as Unicode: compared in one form, shown as what can be printed."""

import unicodedata
from pathlib import Path

from l2t_ray.errors import printable


def composed(name: str) -> str:
    """Returns a name in Unicode's composed form (NFC): a Mac's folders and what one types are then equal."""
    return unicodedata.normalize("NFC", name)


def is_fit(name: str) -> bool:
    """Whether a name can be printed and kept: no control characters, line ends, or bytes that are no UTF-8."""
    return printable(name) == name


def twin(path: Path) -> Path | None:
    """Returns what lies where a missing path leads in another Unicode form; None for a path that exists."""
    if path.exists():
        return None
    try:
        found = Path(path.anchor)
        for part in path.parts[1:] if path.anchor else path.parts:
            same = (entry.name for entry in found.iterdir() if composed(entry.name) == composed(part))
            found /= part if (found / part).exists() else next(same)
    except (OSError, StopIteration):
        return None
    return found
