"""What the metric of a report is: its unit, its better end, and two metrics that follow from a run's learning curve.

| derived metric | of a run |
| --- | --- |
| `accuracy_auc_percent` | test accuracy averaged over epochs: trapezoids between logged epochs, divided by their span |
| `epochs_to_50_percent` | first logged epoch with a test accuracy of 50 % or more; any number in place of 50 |

A run that never reaches it is censored: its epoch is known to lie after its last one. It counts as one epoch after the
last one of all runs, so it ranks after every run that gets there, and tests of ranks are right. Means are those of
times cut there (restricted means).
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from l2t_ray.errors import InputError

CURVE = "test_accuracy_percent"
AUC = "accuracy_auc_percent"
EPOCHS_TO = re.compile(r"epochs_to_(\d+(?:\.\d+)?)_percent")
EXAMPLES = (AUC, "epochs_to_50_percent")  # for suggestions
LOW = ("loss", "ece_percent", "wall_s", "peak_bytes")  # ends of names of metrics that should be low
UNITS = {
    CURVE: "test accuracy (%)",
    "test_ece_percent": "expected calibration error (%, lower is better)",
    AUC: "test accuracy averaged over epochs (%)",
}


@dataclass(frozen=True)
class Derived:
    """A derived metric of every run that has a learning curve."""

    values: dict[str, float]  # by run id; runs with fewer than two logged epochs have none
    unreached: frozenset[str] = frozenset()  # runs that never reach the accuracy
    counts_as: float = math.nan  # the value of those
    last_epochs: tuple[int, int] = (0, 0)  # the earliest and the latest end of a run

    def restricted(self, metric: str, run_ids: Iterable[str]) -> str:
        """What a reader of these runs' numbers must know of those that never reach the accuracy; empty without any."""
        shown = [*run_ids]
        n_unreached = sum(run_id in self.unreached for run_id in shown)
        if not n_unreached:
            return ""
        first, last = self.last_epochs
        ends = f"; runs end after {first} to {last} epochs, and a short one may rank last for that" * (first < last)
        return (
            f"{metric}: {n_unreached} of {len(shown)} runs never reach {target(metric):g} %; each counts as "
            f"{self.counts_as:g}, one epoch after the last, and ranks after all others; means and differences of means "
            f"with them are restricted to {self.counts_as:g} epochs{ends}"
        )


def target(metric: str) -> float | None:
    """Returns the accuracy of `epochs_to_..._percent`; None for every other metric.

    Raises:
        InputError: if it is not above 0 and at most 100.
    """
    found = EPOCHS_TO.fullmatch(metric)
    if found is None:
        return None
    accuracy = float(found[1])
    if not 0 < accuracy <= 100:
        raise InputError(f"metric epochs_to_X_percent must have an X above 0 and at most 100, got {found[1]}")
    return accuracy


def is_derived(metric: str) -> bool:
    """Whether the metric follows from the learning curve and is not logged itself."""
    return metric == AUC or target(metric) is not None


def is_lower_better(metric: str) -> bool:
    """Whether a lower value is the better one, by its name; of one that nobody knows the higher counts as better."""
    return metric.endswith(LOW) or target(metric) is not None


@dataclass(frozen=True)
class Declared:
    """What a sweep file of a trainer of the user's own says of its metric."""

    name: str
    lower_is_better: bool
    margin: float = 1.0  # the smallest difference that matters


def digits_of(declared: Declared | None) -> int:
    """The decimals with which a metric is shown: two; more where a smaller difference matters."""
    return 2 if declared is None else 2 + max(0, math.ceil(-math.log10(declared.margin)))


def difference_noun(metric: str) -> str:
    """The unit of a difference of the metric: point, epoch, or the metric's name."""
    if target(metric) is not None:
        return "epoch"
    return "point" if metric.endswith("_percent") else metric


def unit(metric: str, *, is_declared_lower: bool | None = None) -> str:
    """The label of an axis that shows the metric; `is_declared_lower` where a sweep file says which end is better."""
    if is_declared_lower is not None:
        stem = metric.removesuffix("_percent").replace("_", " ")
        notes = ["%"] * metric.endswith("_percent") + ["lower is better"] * is_declared_lower
        return f"{stem} ({', '.join(notes)})" if notes else stem
    accuracy = target(metric)
    if accuracy is not None:
        return f"epochs to {accuracy:g} % test accuracy (lower is better)"
    return UNITS.get(metric, metric.replace("_percent", " (%)").replace("_", " "))


def percent_sign(metric: str) -> str:
    """What follows a number of the metric in a sentence: ` %`, or nothing."""
    return " %" if metric.endswith("_percent") and target(metric) is None else ""


def derive(metric: str, history: Sequence[tuple[str, int, float]]) -> Derived:
    """Returns a derived metric of all runs.

    Args:
        metric: for which `is_derived` holds.
        history: of `CURVE`, as (run id, epoch, value), sorted.
    """
    curves: dict[str, dict[int, float]] = {}
    for run_id, points in groupby(history, key=lambda point: point[0]):
        curve = {epoch: value for _, epoch, value in points if math.isfinite(value)}
        if len(curve) > 1:
            curves[run_id] = curve
    accuracy = target(metric)
    if accuracy is None:
        return Derived({run_id: _average([*curve], [*curve.values()]) for run_id, curve in curves.items()})
    first = {
        run_id: next((epoch for epoch, value in curve.items() if value >= accuracy), None)
        for run_id, curve in curves.items()
    }
    ends = [max(curve) for curve in curves.values()] or [0]
    counts_as = float(max(ends) + 1)
    return Derived(
        values={run_id: counts_as if epoch is None else float(epoch) for run_id, epoch in first.items()},
        unreached=frozenset(run_id for run_id, epoch in first.items() if epoch is None),
        counts_as=counts_as,
        last_epochs=(min(ends), max(ends)),
    )


def _average(epochs: Sequence[int], values: Sequence[float]) -> float:
    return float(np.trapezoid(values, epochs) / (epochs[-1] - epochs[0]))
