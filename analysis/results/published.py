"""The thesis' printed numbers, and ours against them.

The tables do not say what their +- is. We read it as the 95 % half-width of a t interval of the mean over 30 seeds: of
the three readings that `readings` tries, only this one reproduces all 15 p-values of the thesis.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
Verdict = Literal["reproduced", "undecided", "differs", "contradicted", "not enough seeds"]


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

    def found_again(self, *, significant: bool, higher: bool) -> Literal["found again", "not found", "opposite"]:
        """How a single test of ours agrees with the thesis' verdict; `higher`: whether L2T-www is."""
        if significant and self.claims_significance and higher != (self.difference > 0):
            return "opposite"
        return "found again" if significant == self.claims_significance else "not found"

    def holds(self, reading: Reading) -> bool:
        """Whether the recomputed p lies on the same side of 0.05 as the printed one."""
        return (self.p[reading] < ALPHA) == self.claims_significance


@dataclass(frozen=True)
class Reproduction:
    """One of our cells against the thesis'; each p is Welch's, from both summaries, and None below five seeds."""

    cell: Cell  # ours
    published: Published  # theirs
    margin: float  # in points
    alpha: float = ALPHA  # threshold of every test
    p: float | None = None  # two-sided: the means differ
    p_equivalent: float | None = None  # larger of two one-sided tests: they differ by less than the margin
    p_beyond: float | None = None  # twice the one-sided p: they differ by more than the margin
    p_holm: float | None = None  # the same three, each corrected by Holm over all cells of the report
    p_equivalent_holm: float | None = None
    p_beyond_holm: float | None = None
    shown_within: float | None = None  # smallest margin with which the two are equivalent, in points; uncorrected

    @property
    def verdict(self) -> Verdict:
        """The strongest statement that the corrected tests allow."""
        if self.p_holm is None or self.p_equivalent_holm is None or self.p_beyond_holm is None:
            return "not enough seeds"
        if self.p_equivalent_holm < self.alpha:
            return "reproduced"
        if self.p_beyond_holm < self.alpha:
            return "contradicted"
        return "differs" if self.p_holm < self.alpha else "undecided"


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
    corrected = zip(
        holm([row.p for row in rows]), holm([row.p_equivalent for row in rows]), holm([row.p_beyond for row in rows]),
        strict=True,
    )  # fmt: skip
    return [
        replace(row, p_holm=p, p_equivalent_holm=equivalent, p_beyond_holm=beyond)
        for row, (p, equivalent, beyond) in zip(rows, corrected, strict=True)
    ]


def plain(data: str) -> str:
    """A data set's name without case and separators: `CIFAR-10`, `cifar_10` and `cifar10` are all `cifar10`."""
    return re.sub(r"[\W_]", "", data.lower())


def interval(published: Published) -> tuple[float, float]:
    """The printed 95 % interval: mean minus and plus the half-width."""
    half = half_width(published.sd(), SEEDS)
    return published.mean - half, published.mean + half


def repeated_verdicts(claims: Sequence[Claim], n: Sequence[tuple[int, int]], alpha: float = ALPHA) -> float:
    """Computes how many of the claims' verdicts on significance a perfect repetition would find again.

    Perfect: the printed means and spreads are the true ones. The chance of significance is Welch's (a noncentral t).

    Args:
        claims: of `load_claims`.
        n: seeds of the repetition, L2T-www's and L2T-ww's, for each claim.
        alpha: the threshold of one test.

    Returns:
        The expected number.
    """
    table = {(cell.data, cell.samples_per_class, cell.method): cell for cell in load_published()}
    found = 0.0
    for claim, counts in zip(claims, n, strict=True):
        a, b = (table[claim.data, claim.samples_per_class, method] for method in ("l2t_www", "l2t_ww"))
        _, error, degrees = welch(a.mean, a.sd(), counts[0], b.mean, b.sd(), counts[1])
        limit, shift = float(stats.t.isf(alpha / 2, degrees)), (a.mean - b.mean) / error
        power = float(stats.nct.sf(limit, degrees, shift) + stats.nct.cdf(-limit, degrees, shift))
        found += power if claim.claims_significance else 1 - power
    return found


def _reproduce(cell: Cell, published: Published, margin: float, alpha: float) -> Reproduction:
    mean = cell.mean
    row = Reproduction(cell, published, margin, alpha)
    if mean.n < MIN_SEEDS or mean.mean is None or mean.sd is None:
        return row
    p, error, degrees = welch(mean.mean, mean.sd, mean.n, published.mean, published.sd(), SEEDS)
    distance = abs(mean.mean - published.mean)
    away = margin - distance
    p_equivalent = float(stats.t.sf(away / error, degrees)) if error else float(away <= 0)
    shown_within = distance + float(stats.t.isf(alpha, degrees)) * error
    # two-sided, since either direction would contradict
    p_beyond = min(1.0, 2 * float(stats.t.sf(-away / error, degrees))) if error else float(away >= 0)
    return replace(row, p=p, p_equivalent=p_equivalent, p_beyond=p_beyond, shown_within=shown_within)


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files("analysis.results").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
