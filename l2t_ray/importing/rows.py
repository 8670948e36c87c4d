"""A run as another tool has written it, with the place where it stands; and how its values are read."""

import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from l2t_ray.errors import InputError
from l2t_ray.trainer.names import dotted

SHOWN = 8  # names in a message
FAILED = frozenset({"crashed", "failed", "killed", "preempted"})  # W&B's words for a run that has not come to its end
OPEN = frozenset({"running", "pending", "preempting"})
STATES = FAILED | OPEN | {"finished"}
WANDBS = frozenset({"_step", "_runtime", "_timestamp", "_wandb"})  # what W&B adds to settings and results
# a float has an exponent of at most three digits; 007 and 0012e3 are names, and so are git's 12e4567 and 0e12345
NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:e[+-]?\d{1,3})?", re.IGNORECASE | re.ASCII)
NO_NUMBER = re.compile(r"[+-]?(?:inf|infinity|nan)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Row:
    """One run."""

    place: str  # FILE:LINE, or the run's folder
    values: Mapping[str, Any]  # settings by dotted name; in a table every column that may be a setting or a result
    state: str = "finished"  # in W&B's words
    name: str = ""  # in the other tool
    results: Mapping[str, Any] | None = None  # where the tool keeps them apart from settings
    spare: Mapping[str, Any] = field(default_factory=dict)  # what the tool keeps for itself: counts where it is named

    def get(self, name: str) -> Any:
        """The value of a setting; else the result, or the tool's own value, of that name."""
        return next((part[name] for part in (self.values, self.results or {}, self.spare) if name in part), None)

    @property
    def ended_with(self) -> Mapping[str, Any]:
        """All that may be its metric."""
        return {**self.spare, **(self.values if self.results is None else self.results)}


class Unquoted(str):
    """A text that stands without quotes, and so may be a number."""

    __slots__ = ()


def value_of(text: str) -> Any:
    """A cell of a table as a number, true or false, a list, or text; None where it is empty."""
    text = text.strip()
    if text in {"", "None", "null"}:
        return None
    if text in {"True", "False"}:
        return text == "True"
    try:
        found = json.loads(text)  # also true, false, lists; NaN and Infinity
    except ValueError:
        return plain(Unquoted(text))
    return plain(Unquoted(text) if isinstance(found, float) else found)


def plain(value: Any) -> Any:
    """A value with one spelling for one number: 0.10 and 1e-1 are the same setting, the text "0.1" is another."""
    if isinstance(value, Unquoted):
        value = _number_in(str(value))
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _number_in(text: str) -> float | str:
    """The number that a text is; the text where a float would not tell it from others."""
    if NO_NUMBER.fullmatch(text):
        return float(text)
    if not NUMBER.fullmatch(text):
        return text
    value = float(text)
    is_lost = math.isinf(value) or (value == 0 and re.search("[1-9]", text.lower().partition("e")[0]))
    return text if is_lost or (text.lstrip("+-").isdigit() and int(text) != value) else value


def _counted(value: Any) -> Any:
    """A result or a seed, of which 007 and the text "7" are the number 7."""
    if isinstance(value, str) and "_" not in value:
        try:
            return plain(float(value))
        except ValueError:
            return value
    return value


def is_wandbs(name: str) -> bool:
    """Whether W&B adds a value of this dotted name itself."""
    return name.partition(".")[0] in WANDBS


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by their dotted names, each value plain."""
    return {name: plain(value) for name, value in dotted(values).items()}


def seed_of(row: Row, name: str) -> int:
    """Reads the seed of a row.

    Returns:
        A whole number.

    Raises:
        InputError: if it is not a whole number of at least 0 and below 2147483648.
    """
    given = row.get(name)
    value = _counted(given)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        is_large = isinstance(value, int | float) and value >= 2**31
        remedy = "number the seeds anew" if is_large else "name the column: --seed"
        got = "nothing" if given is None else json.dumps(given)
        rule = f"{row.place}: {name} must be a seed, a whole number >= 0 and below {2**31}"
        raise InputError(f"{rule}, got {got}; {remedy}")
    return value


def metric_of(row: Row, name: str) -> float:
    """Reads the metric of a row.

    Returns:
        A number; NaN where the table's cell is empty.

    Raises:
        InputError: if it is absent, or no number.
    """
    if name not in row.ended_with:
        results = [one for one in row.ended_with if one not in row.spare]
        raise InputError(
            f"{row.place}: {name} must be among the results of a run that has ended; {_nearest(name, results)}"
        )
    given = row.ended_with[name]
    value = _counted(given)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{row.place}: {name} must be a number, got {json.dumps(given)}; {_remedy(str(given))}")
    return float(value)


def _remedy(text: str) -> str:
    if re.search(r"\d\s*%", text):
        return "write it without %"
    if re.search(r"\d,\d", text):
        return "write a decimal point, and nothing between thousands"
    return "correct it; leave it empty, or write nan, for a run without a result"


def _nearest(name: str, results: list[str]) -> str:
    listed = f"there are {', '.join(results[:SHOWN])}" if results else "there is none"
    known = f"{name}."
    close = [one for one in results if one.startswith(known)] or difflib.get_close_matches(name, results, 1)
    return f"{listed}; did you mean {close[0]}?" if close else f"{listed}; export it too, or take the run out"


def read_text(path: Path) -> str:
    """Reads a file of text.

    Returns:
        Its text, without a byte order mark.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{path}: must be a file that can be read, got {error.strerror!r}; correct the path"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be text in UTF-8, got byte {error.start}; save it as UTF-8") from error
