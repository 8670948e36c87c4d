"""The thesis' printed numbers, and ours against them.

The tables do not say what their +- is. We read it as the 95 % half-width of a t interval of the mean over 30 seeds: of
the three readings that `readings` tries, only this one reproduces all 15 p-values of the thesis.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from scipy import stats

from analysis.results.cells import Cell
from l2t_ray.statistics.correction import holm
from l2t_ray.statistics.hypothesis import MIN_SEEDS
from l2t_ray.statistics.means import half_width, spread, welch

SEEDS = 30  # a cell, thesis 5.4
ALPHA = 0.05
MINORITY = "stl10_imbalanced_minority_class"

Reading = Literal["95 % half-width", "standard deviation", "standard error"]
READINGS: tuple[Reading, ...] = ("95 % half-width", "standard deviation", "standard error")
Verdict = Literal["reproduced", "compatible", "contradicted", "not enough seeds"]


@dataclass(frozen=True)
class Published:
    """One cell of the thesis' tables."""

    table: int
    data: str
    samples_per_class: str  # images per class
    method: str
    mean: float  # accuracy in percent
    plus_minus: float  # in points

    def sd(self, reading: Reading = "95 % half-width") -> float:
        """The standard deviation of one run, if the printed +- is what `reading` says."""
        if reading == "standard deviation":
            return self.plus_minus
        return spread(self.plus_minus, SEEDS) if reading == "95 % half-width" else self.plus_minus * SEEDS**0.5


@dataclass(frozen=True)
class Claim:
    """A p-value that the thesis prints, beside the one that its own means and +- give."""

    data: str
    samples_per_class: str
    difference: float  # as printed, in points
    recomputed_difference: float  # of the printed means
    p_printed: str  # "0.044", "0.000" or ">0.05"
    p: dict[Reading, float]  # Welch's from means and +-, by reading
    p_holm: float  # of the first reading, after Holm's correction over all 15

    @property
    def claims_significance(self) -> bool:
        """Whether the thesis claims a difference here."""
        return not self.p_printed.startswith(">") and float(self.p_printed) < ALPHA

    def holds(self, reading: Reading) -> bool:
        """Whether the recomputed p lies on the same side of 0.05 as the printed one."""
        return (self.p[reading] < ALPHA) == self.claims_significance


@dataclass(frozen=True)
class Reproduction:
    """One of our cells against the thesis'."""

    cell: Cell  # ours
    published: Published  # theirs
    p: float | None  # Welch's, from both summaries; None below five seeds
    p_equivalent: float | None  # larger p of two one-sided Welch tests against the margin; None likewise
    margin: float  # in points
    verdict: Verdict
    alpha: float = ALPHA  # threshold of both tests
    shown_within: float | None = None  # smallest margin that counts as reproduced, in points; None below five seeds


@cache
def load_published() -> tuple[Published, ...]:
    """The 63 cells of the thesis' Tables 1 to 4."""
    return tuple(
        Published(
            int(row["table"]), row["dataset"], row["samples_per_class"], row["method"],
            float(row["accuracy_percent"]), float(row["plus_minus"]),
        )
        for row in _rows("published_accuracy.csv")
    )  # fmt: skip


@cache
def load_claims() -> tuple[Claim, ...]:
    """The thesis' 15 p-values, recomputed from its own tables."""
    table = {(cell.data, cell.samples_per_class, cell.method): cell for cell in load_published()}
    rows, p_values = _rows("published_tests.csv"), []
    differences = []
    for row in rows:
        data, samples = row["dataset"], row["samples_per_class"]
        a, b = (table[data, samples, name.strip()] for name in row["comparison"].split(" - "))
        differences.append(a.mean - b.mean)
        p_values.append({
            reading: welch(a.mean, a.sd(reading), SEEDS, b.mean, b.sd(reading), SEEDS)[0] for reading in READINGS
        })
    strict = holm([p[READINGS[0]] for p in p_values])
    return tuple(
        Claim(
            row["dataset"], row["samples_per_class"], float(row["difference_points"]), difference, row["p_value"], p,
            1.0 if corrected is None else corrected,
        )
        for row, difference, p, corrected in zip(rows, differences, p_values, strict, strict=True)
    )  # fmt: skip


def readings() -> dict[Reading, int]:
    """How many of the 15 printed p-values each reading of the +- reproduces."""
    return {reading: sum(claim.holds(reading) for claim in load_claims()) for reading in READINGS}


def reproduce(cells: Sequence[Cell], margin: float = 1.0, alpha: float = ALPHA) -> list[Reproduction]:
    """Compares each cell that the thesis has too with its number (a variant has none); `margin` is in points."""
    table = {(plain(p.data), p.samples_per_class, p.method): p for p in load_published()}
    rows = []
    for cell in cells:
        key = (plain(cell.condition.data), cell.condition.samples_per_class, cell.method)
        if key in table and not cell.condition.variant and cell.values:
            rows.append(_reproduce(cell, table[key], margin, alpha))
    return rows


def plain(data: str) -> str:
    """A data set's name without case and separators: `CIFAR-10`, `cifar_10` and `cifar10` are all `cifar10`."""
    return re.sub(r"[\W_]", "", data.lower())


def interval(published: Published) -> tuple[float, float]:
    """The printed 95 % interval: mean minus and plus the half-width."""
    half = half_width(published.sd(), SEEDS)
    return published.mean - half, published.mean + half


def _reproduce(cell: Cell, published: Published, margin: float, alpha: float) -> Reproduction:
    mean = cell.mean
    if mean.n < MIN_SEEDS or mean.mean is None or mean.sd is None:
        return Reproduction(cell, published, None, None, margin, "not enough seeds", alpha)
    p, error, degrees = welch(mean.mean, mean.sd, mean.n, published.mean, published.sd(), SEEDS)
    distance = abs(mean.mean - published.mean)
    away = margin - distance
    p_equivalent = float(stats.t.sf(away / error, degrees)) if error else float(away <= 0)
    verdict: Verdict = "reproduced" if p_equivalent < alpha else "contradicted" if p < alpha else "compatible"
    shown_within = distance + float(stats.t.isf(alpha, degrees)) * error
    return Reproduction(cell, published, p, p_equivalent, margin, verdict, alpha, shown_within)


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files("analysis.results").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
