"""The exceptions of this project: bad input, with its place and remedy, and a ledger that cannot be reached."""

import errno
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """Something that the user gave breaks a law; every problem found is told, and the command line exits with 2.

    Attributes:
        problems: one line each: place, law, value, remedy (`sweeps/x.yaml:14: beta must be >= 0, got -1`).
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class LedgerUnavailableError(ConnectionError):
    """The tracking server or database does not answer; results stay in the spool until it does."""


def told_of_disk(error: OSError) -> str | None:
    """A full disk, or one that may not be written to, with its remedy.

    Args:
        error: that was raised.

    Returns:
        A line; None for any other error, which is a defect of ours.
    """
    laws = {
        errno.ENOSPC: ("the disk must have room", "free some"),
        errno.EDQUOT: ("the disk must have room", "free some"),
        errno.EACCES: ("must be open to you", "change its permissions, or go elsewhere"),
        errno.EROFS: ("must be writable", "go elsewhere"),
    }
    if error.errno not in laws:
        return None
    law, remedy = laws[error.errno]
    return f"{error.filename or Path.cwd()}: {law}, got {error.strerror!r}; {remedy} and launch again: nothing is lost"
