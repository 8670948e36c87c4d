"""A run as another tool has written it, with the place where it stands; and how its values are read."""

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2t_ray.errors import InputError
from l2t_ray.trainer.names import dotted

SHOWN = 8  # names in a message
FAILED = frozenset({"crashed", "failed", "killed", "preempted"})  # W&B's words for a run that has not come to its end
OPEN = frozenset({"running", "pending"})


@dataclass(frozen=True)
class Row:
    """One run."""

    place: str  # FILE:LINE, or the run's folder
    values: Mapping[str, Any]  # settings and results by dotted name
    state: str = "finished"  # in W&B's words
    name: str = ""  # in the other tool
    settings: frozenset[str] | None = None  # which values are settings, where the tool keeps them apart from results


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
        return plain(text)
    return plain(found)


def plain(value: Any) -> Any:
    """A value with one spelling for one number: 0.10, 1e-1 and "0.1" are the same setting."""
    if isinstance(value, str):
        try:
            value = float(value) if "_" not in value else value
        except ValueError:
            return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by their dotted names, each value plain."""
    return {name: plain(value) for name, value in dotted(values).items()}


def seed_of(row: Row, name: str) -> int:
    """Reads the seed of a row.

    Returns:
        A whole number.

    Raises:
        InputError: if it is not a whole number of at least 0.
    """
    value = row.values.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        got = "nothing" if name not in row.values else json.dumps(value)
        raise InputError(f"{row.place}: {name} must be a seed, a whole number >= 0, got {got}; name the column: --seed")
    return value


def metric_of(row: Row, name: str) -> float:
    """Reads the metric of a row.

    Returns:
        A number; NaN where the table's cell is empty.

    Raises:
        InputError: if it is absent, or no number.
    """
    if name not in row.values:
        results = [one for one in row.values if one not in (row.settings or ())]
        raise InputError(
            f"{row.place}: {name} must be among the results of a run that has ended; {_nearest(name, results)}"
        )
    value = row.values.get(name)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{row.place}: {name} must be a number, got {json.dumps(value)}; correct it")
    return float(value)


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
