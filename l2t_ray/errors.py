"""Bad input and unreachable ledgers: the exceptions, the exit codes of the commands, and the words of messages."""

import difflib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

MAX_LISTED = 50  # names in a message


class InputError(ValueError):
    """The user's input breaks a rule; the message lists every problem found, and the command exits with 2.

    Attributes:
        problems: one line each: place, rule, value, remedy (`sweeps/x.yaml:14: beta must be >= 0, got -1; correct it`).
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class LedgerUnavailableError(ConnectionError):
    """The tracking server or database does not answer; results stay in the spool until it does."""


def exit_code(command: Callable[[], int]) -> int:
    """Runs a command and turns its exceptions into a message on stderr and an exit code.

    Args:
        command: returns its exit code.

    Returns:
        2 for refused input or an unreachable ledger; 1 for an interruption, a disk that is full or not writable, or a
        closed stdout; else the command's.

    Raises:
        OSError: any other than of a disk.
    """
    try:
        return command()
    except InputError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
    except LedgerUnavailableError as error:
        print(error, "nothing is lost; launch again when it answers", sep="\n", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted; launch again to go on", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for the interpreter's last flush
        return 1
    except OSError as error:
        if (line := disk_problem(error)) is None:
            raise
        print(line, file=sys.stderr)
        return 1
    return 2


def say(*lines: str) -> None:
    """Prints lines to stderr at once: progress, never results."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def disk_problem(error: OSError) -> str | None:
    """Returns a line for a full disk, or one that may not be written to; None for any other error, which is a bug."""
    rules = {
        errno.ENOSPC: ("the disk must have room", "free some"),
        errno.EDQUOT: ("the disk must have room", "free some"),
        errno.EACCES: ("must be open to you", "change its permissions, or go elsewhere"),
        errno.EROFS: ("must be writable", "go elsewhere"),
    }
    if error.errno not in rules:
        return None
    rule, remedy = rules[error.errno]
    return f"{error.filename or Path.cwd()}: {rule}, got {error.strerror!r}; {remedy} and launch again: nothing is lost"


def mask(text: str) -> str:
    """Returns a text with `user:password@` of its URIs as `***@`, and `?password=...` as `?password=***`."""
    # a password may hold a slash, as SQLAlchemy allows
    text = re.sub(r"(?<=://)(?!/)(?:[^/?#\s@:]*:)?[^?#\s]*@", "***@", text)
    return re.sub(r"(?i)([?&]\w*(?:password|token|secret)=)[^&\s]+", r"\1***", text)


def suggest(name: str, known: Iterable[str], listed: Iterable[str] | None = None) -> str:
    """Returns the remedy for an unknown name: `did you mean NAME?`, or a list of the known ones.

    Args:
        name: as given.
        known: what it may have meant; dotted names also match by their last part.
        listed: the list where nothing is close, by default all known names.
    """
    names = [*known]
    by_last = {dotted.rpartition(".")[2]: dotted for dotted in names}
    for candidates in ({dotted: dotted for dotted in names}, by_last):
        for close in difflib.get_close_matches(name, candidates, 1) or difflib.get_close_matches(
            name.rpartition(".")[2], candidates, 1
        ):
            return f"did you mean {candidates[close]}?"
    options = [*(names if listed is None else listed)]
    if not options:
        return "there is none"
    return f"known are {', '.join(options[:MAX_LISTED])}{', ...' if len(options) > MAX_LISTED else ''}"


def duration(seconds: float) -> str:
    """Returns a time for people: "45 s", "12 min", "3.4 h", "2.1 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
