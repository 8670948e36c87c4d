"""Bad input and unreachable ledgers: the exceptions, the exit codes of the commands, and the words of messages."""

import codecs
import difflib
import errno
import io
import os
import re
import shutil
import sys
import textwrap
import traceback
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

MAX_LISTED = 50  # names in a message
TRACEBACK = "L2T_TRACEBACK"  # an environment variable: shows where in the code a disk or file failed
STDOUT, STDERR = "stdout", "stderr"
_UNFIT = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's categories: control characters, surrogates, ends of lines, paragraphs
HARMLESS = ("ImportWarning", "ResourceWarning", "BytesWarning", "EncodingWarning")  # no library that we use gives these
PLAIN = {  # for a terminal that takes ASCII alone
    "\N{PLUS-MINUS SIGN}": "+-", "\N{EN DASH}": "-", "\N{EM DASH}": "-", "\N{MINUS SIGN}": "-",
    "\N{MULTIPLICATION SIGN}": "x", "\N{HORIZONTAL ELLIPSIS}": "...", "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{GREATER-THAN OR EQUAL TO}": ">=", "\N{GREEK SMALL LETTER ALPHA}": "alpha", "\N{NO-BREAK SPACE}": " ",
    "\N{SQUARE ROOT}": "sqrt", "\N{RIGHTWARDS ARROW}": "->",
}  # fmt: skip
_ROOM = ("the disk must have room", "free some")
_OPEN = ("must be open to you", "change its permissions, or go elsewhere")
RULES = {  # by the kernel's number: the rule, the remedy
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: ("the file must be as large as it needs", "raise `ulimit -f`"),
    errno.EACCES: _OPEN,
    errno.EPERM: _OPEN,
    errno.EROFS: ("must be writable", "go elsewhere"),
    errno.ENOENT: ("must exist", "create it"),
    errno.ENOTDIR: ("must be in a folder", "move the file that is there"),
    errno.EISDIR: ("must be a file", "move the folder that is there"),
    errno.ENAMETOOLONG: ("the name must be shorter", "choose another"),
    errno.EMFILE: ("as many files must be open at once as are needed", "raise `ulimit -n`"),
    errno.ENFILE: ("as many files must be open at once as are needed", "end other programs"),
    errno.EIO: ("the disk must answer", "look after it"),
    errno.ESTALE: ("the disk must answer", "mount it again"),
}


class InputError(ValueError):
    """The user's input breaks a rule; the message lists every problem found, and the command exits with 2.

    Attributes:
        problems: one line each: place, rule, value, remedy (`sweeps/x.yaml:14: beta must be >= 0, got -1; correct it`).
            Control characters and line ends are escaped.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        lines = (problems,) if isinstance(problems, str) else problems
        self.problems = tuple(printable(line) for line in lines)
        super().__init__("\n".join(self.problems))


class LedgerUnavailableError(ConnectionError):
    """The tracking server or database does not answer; results stay in the spool until it does."""

    advice = "nothing is lost; launch again when it answers"


class LedgerClosedError(LedgerUnavailableError):
    """The tracking server wants another login; results stay in the spool until it lets the user in."""


class LedgerDamagedError(LedgerUnavailableError):
    """The database's file is damaged; results stay in the spool until it is replaced."""

    advice = "the next launch writes the results that wait in .l2t"


def exit_code(command: Callable[[], int]) -> int:
    """Runs a command and turns its exceptions into a message on stderr and an exit code.

    What stdout cannot show becomes ASCII (`+-`, `?`); what stderr does not take is dropped.

    Args:
        command: returns its exit code.

    Returns:
        2 for refused input or an unreachable ledger; 1 for an interruption, a disk or file that cannot be used, or a
        closed stdout; else the command's.

    Raises:
        ImportError: if a library is broken.
    """
    if not os.path.isabs(os.path.expanduser("~")):  # noqa: PTH111, PTH117  pathlib's raises
        os.environ["HOME"] = "/"  # nobody knows it, and libraries fail; Docker does the same
    with _streams():
        try:
            _refuse_modes()
            return _flushed(command)
        except InputError as error:
            say(*error.problems)
        except LedgerUnavailableError as error:
            say(str(error), error.advice)
        except ImportError as error:
            if "failed to map segment" not in str(error):
                raise
            say(f"ulimit -v: must leave room for libraries, got {error}; raise it (ulimit -v unlimited)")
        except KeyboardInterrupt:
            say("interrupted; launch again to go on")
            return 1
        except OSError as error:
            if os.environ.get(TRACEBACK):
                traceback.print_exc()
            if not (isinstance(error, BrokenPipeError) and error.filename == STDOUT):
                say(disk_problem(error))
            return 1
        return 2


def _refuse_modes() -> None:
    """Refuses modes of Python and a SOURCE_DATE_EPOCH in which libraries break, with messages that lead elsewhere."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is not None and not (epoch.isascii() and epoch.isdigit()):
        raise InputError(f"SOURCE_DATE_EPOCH: must be seconds since 1970, got {epoch!r}; unset it")
    if sys.flags.optimize > 1:
        raise InputError("PYTHONOPTIMIZE (or -OO): must be below 2, because Ray reads its docstrings, got 2; unset it")
    for option in sys.warnoptions:
        action, _, category, *narrower = (option + "::").split(":")
        if not action or not "error".startswith(action) or category in HARMLESS or any(narrower):
            continue
        rule = "must not make warnings errors, because libraries warn"
        raise InputError(f"PYTHONWARNINGS (or -W): {rule}, got {','.join(sys.warnoptions)}; unset it")


def _flushed(command: Callable[[], int]) -> int:
    """Runs a command and tells at once if its last lines cannot be written."""
    try:
        code = command()
    except SystemExit:  # help and wrong usage
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return code


class _Stream:
    """Standard output, whose errors name it; or standard error, which drops what cannot be written."""

    def __init__(self, stream: TextIO, name: str, *, may_fail: bool) -> None:
        self._stream, self._name, self._may_fail = stream, name, may_fail

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._telling():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._telling():
            self._stream.flush()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._may_fail:
                raise OSError(error.errno, error.strerror, self._name) from error


@contextmanager
def _streams() -> Iterator[None]:
    """Makes stdout and stderr take every letter, and be there even if they were closed; ends with them flushed."""
    with suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # a file must not get the number of a closed stdout
            os.set_inheritable(descriptor, True)
        os.close(descriptor)
    before = {name: getattr(sys, name) or _nowhere() for name in (STDOUT, STDERR)}
    for name, stream in before.items():
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="l2t")
        setattr(sys, name, _Stream(stream, name, may_fail=name == STDERR))
    try:
        yield
    finally:
        for name, stream in before.items():
            try:
                stream.flush()
            except OSError:  # the interpreter's last flush would fail, too
                setattr(sys, name, _nowhere())
            else:
                setattr(sys, name, stream)


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """What is written for a letter that a stream's encoding lacks; a file name's undecodable byte is kept."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    if "\udc80" <= letter <= "\udcff":
        return bytes([ord(letter) - 0xDC00]), error.start + 1
    return PLAIN.get(letter, "?"), error.start + 1


codecs.register_error("l2t", _plain)


def as_shown(text: str, stream: TextIO) -> str:
    """Returns a text in the letters that a stream will show, so that a table is laid out with their number."""
    encoding = stream.encoding or "utf-8"  # none in memory
    return text.encode(encoding, "l2t").decode(encoding, "surrogateescape")


def width_of(stream: TextIO) -> int | None:
    """Returns the columns of a terminal; None for a file or pipe."""
    if not stream.isatty():
        return None
    size = (80, 24)
    with suppress(OSError, ValueError):  # stdout may be a file where stderr is a terminal
        size = os.get_terminal_size(stream.fileno())
    return shutil.get_terminal_size(size).columns or 80


def wrapped(text: str, stream: TextIO) -> str:
    """Returns a text whose lines end at words where a terminal ends; for a file or pipe, the text as it is."""
    if (width := width_of(stream)) is None:
        return text
    lines = as_shown(text, stream).split("\n")
    fill = partial(textwrap.fill, width=width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(fill(line) if len(line) > width else line for line in lines)


def say(*lines: str) -> None:
    """Prints lines to stderr at once: progress, never results."""
    for line in lines:
        print(wrapped(line, sys.stderr), file=sys.stderr, flush=True)


def disk_problem(error: OSError) -> str:
    """Returns the line for a disk, file or connection that cannot be used: the place, the rule, the remedy."""
    rule, remedy = RULES.get(
        error.errno or 0, ("must be usable", f"correct that ({TRACEBACK}=1 shows where it failed)")
    )
    got = error.strerror or str(error) or type(error).__name__
    if error.filename == STDOUT:
        return f"stdout: {rule}, got {got!r}; send it elsewhere"
    place = error.filename if isinstance(error.filename, str | bytes | os.PathLike) else ""
    try:
        here = Path.cwd()
    except OSError:
        return f"the working folder: must stay while a command runs, got {got!r}; launch again in one that does"
    return f"{os.fsdecode(place) if place else here}: {rule}, got {got!r}; {remedy} and launch again: nothing is lost"


def printable(text: str) -> str:
    """Returns a text with control characters, line ends, and bytes that are no UTF-8, as escapes."""
    return "".join(_escape(letter) if unicodedata.category(letter) in _UNFIT else letter for letter in text)


def _escape(letter: str) -> str:
    byte = ord(letter) - 0xDC00  # of a name on the disk: Python's surrogateescape
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else letter.encode("unicode_escape").decode()


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


def count(number: int, noun: str) -> str:
    """Returns a number with its noun: "1 run", "2 runs"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Returns a time for people: "45 s", "12 min", "3.4 h", "2.1 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
