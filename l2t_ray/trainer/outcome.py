"""What a trainer's results must be: a map of numbers with the metric that counts."""

import math
from collections.abc import Callable, Mapping
from typing import Any

TAKEN = (  # what every run has: two metrics, and what tells a report which run it is (analysis/results/runs.py)
    "wall_s", "peak_bytes", "sweep", "cell", "data", "samples_per_class", "n_images", "method", "variant", "seed",
    "key", "run_id", "experiment_id", "git", "versions", "data_sha",
)  # fmt: skip
NAMES = 8  # shown in a message


class ResultError(ValueError):
    """A trainer's results break a law; training again would end the same way. The message says all."""


def number(name: str, value: Any, place: str) -> float:
    """Returns a result as a number.

    Args:
        name: of the result.
        value: a number, or an array or tensor of one.
        place: that gave it, for the message.

    Raises:
        ResultError: if it is none, or the name is taken.
    """
    if name in TAKEN:
        raise ResultError(f"{place}: a result must not be called {name}, which every run has; rename it")
    if not isinstance(value, bool | str | bytes):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise ResultError(f"{place}: {name} must be a number, got {_shown(value)}; return a float")


def results(found: Any, metric: str, place: str, tell: Callable[[str], object]) -> dict[str, float]:
    """Returns a trainer's results as numbers.

    Args:
        found: what it has returned, or written.
        metric: the result that counts.
        place: that gave it, for the message.
        tell: receives a line on what is left out: names that every run has.

    Raises:
        ResultError: if it is no map of numbers with that metric.
    """
    if not isinstance(found, Mapping):
        remedy = f"return e.g. {{'{metric}': 1.0}}"
        raise ResultError(f"{place}: the results must be a map of names to numbers, got {_shown(found)}; {remedy}")
    if metric not in found:
        names = ", ".join(str(name) for name in [*found][:NAMES]) or "none"
        remedy = "add it, or correct `metric:` in the sweep file"
        raise ResultError(f"{place}: the results must have {metric!r}, which counts, got {names}; {remedy}")
    spare = [str(name) for name in found if name in TAKEN and name != metric]
    if spare:
        tell(f"l2t-ray: left out of the results, as every run has its own: {', '.join(spare)}\n")
    return {str(name): number(str(name), value, place) for name, value in found.items() if str(name) not in spare}


def divergence(found: Mapping[str, float], metric: str) -> str:
    """Returns why a run counts as diverged; empty where its metric is finite."""
    return "" if math.isfinite(found[metric]) else f"{metric} is {found[metric]}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
