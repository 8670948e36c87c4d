"""Names of files and classes as Unicode: compared in one form, shown as what can be printed."""

import unicodedata
from pathlib import Path

_UNFIT = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's categories: control characters, surrogates, ends of lines, paragraphs


def composed(name: str) -> str:
    """Returns a name in Unicode's composed form (NFC): a Mac's folders and what one types are then equal."""
    return unicodedata.normalize("NFC", name)


def printable(name: str) -> str:
    """Returns a name with control characters, and bytes that are no UTF-8, as escapes."""
    return "".join(_escape(character) if unicodedata.category(character) in _UNFIT else character for character in name)


def _escape(character: str) -> str:
    byte = ord(character) - 0xDC00  # of a name on the disk: Python's surrogateescape
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else character.encode("unicode_escape").decode()


def is_fit(name: str) -> bool:
    """Whether a name can be printed and kept: no control characters, line ends, or bytes that are no UTF-8."""
    return not any(unicodedata.category(character) in _UNFIT for character in name)


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
