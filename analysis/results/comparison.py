"""Two methods against each other in every cell that both have: the tests, the sizes, and the claims they support."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Literal

from analysis.results.cells import Cell, Condition, matched
from l2t_ray.statistics.correction import benjamini_hochberg, by_family, holm
from l2t_ray.statistics.effect import Estimate, a12, hodges_lehmann, mean_difference, rank_biserial
from l2t_ray.statistics.hypothesis import Finding, brunner_munzel, equivalence, mann_whitney, wilcoxon
from l2t_ray.statistics.power import needed_seeds
from l2t_ray.statistics.sequential import Decision

Family = Literal["sweep", "data", "all"]


@dataclass(frozen=True)
class Comparison:
    """One method against another under one condition.

    Attributes:
        a: the first cell.
        b: the second.
        test: Mann-Whitney, two-sided.
        alpha: the threshold of a single test; the error over all looks where a design was declared.
        margin: the smallest difference that matters, in the metric's unit.
        family: what p is corrected over.
        p_holm: corrected over the family.
        p_bh: the same.
        decision: of a group-sequential design, where a sweep declared one.
        declared_by: that sweep.
    """

    a: Cell
    b: Cell
    test: Finding
    alpha: float
    margin: float
    family: tuple[str, ...] = ()
    p_holm: float | None = None
    p_bh: float | None = None
    decision: Decision | None = None
    declared_by: str = ""

    @property
    def condition(self) -> Condition:
        """Of the first cell."""
        return self.a.condition

    @property
    def difference(self) -> float | None:
        """Of the means, a - b; None where one has no run."""
        a, b = self.a.mean.mean, self.b.mean.mean
        return None if a is None or b is None else a - b

    @property
    def p(self) -> float | None:
        """What a claim rests on: the test's p; where a design was declared, the one adjusted for its looks."""
        return self.test.p if self.decision is None else self.decision.p_adjusted

    @property
    def is_significant(self) -> bool:
        """Whether this test by itself, or the declared design, finds a difference."""
        if self.decision is not None:
            return self.decision.state == "significant"
        return self.test.p is not None and self.test.p < self.alpha

    @property
    def is_significant_in_family(self) -> bool:
        """Whether the difference stands after Holm's correction."""
        return self.p_holm is not None and self.p_holm < self.alpha

    @property
    def has_values(self) -> bool:
        """Whether both cells have results."""
        return bool(self.a.values and self.b.values)

    @cached_property
    def a12(self) -> Estimate:
        """P(a beats b), ties counting half."""
        return a12(*self._values)

    @cached_property
    def rank_biserial(self) -> Estimate:
        """2 A12 - 1."""
        return rank_biserial(*self._values)

    @cached_property
    def shift(self) -> Estimate:
        """Hodges-Lehmann."""
        return hodges_lehmann(*self._values)

    @cached_property
    def mean_difference(self) -> Estimate:
        """With its interval."""
        return mean_difference(*self._values)

    @cached_property
    def wilcoxon(self) -> Finding:
        """On equal seeds."""
        return wilcoxon(self.a.values, self.b.values)

    @cached_property
    def brunner_munzel(self) -> Finding:
        """Without the assumption of equal shapes."""
        return brunner_munzel(*self._values)

    @cached_property
    def equivalence(self) -> Finding:
        """Against the margin."""
        return equivalence(*self._values, self.margin)

    @cached_property
    def shown_within(self) -> float | None:
        """The smallest margin within which the two would be equivalent: the larger end of a 1 - 2 alpha interval."""
        found = hodges_lehmann(*self._values, 1 - 2 * self.alpha)
        return None if found.low is None or found.high is None else max(abs(found.low), abs(found.high))

    @property
    def sds(self) -> tuple[float, float] | None:
        """The spread of one run of each method; None below two runs."""
        a, b = self.a.mean.sd, self.b.mean.sd
        return None if a is None or b is None else (a, b)

    @cached_property
    def needed(self) -> int | None:
        """Seeds a method that find a difference of the margin with 80 % power; None where more than 1,000."""
        return None if self.sds is None else needed_seeds(self.margin, self.sds, alpha=self.alpha)

    @property
    def _values(self) -> tuple[list[float], list[float]]:
        return [*self.a.values.values()], [*self.b.values.values()]


def compare(
    cells: Sequence[Cell], a: str, b: str, *, alpha: float = 0.05, margin: float = 1.0, family: Family = "sweep"
) -> list[Comparison]:
    """Compares two methods under every condition that both have.

    Args:
        cells: all.
        a: the one expected to be better.
        b: the other.
        alpha: the threshold.
        margin: the smallest difference that matters.
        family: what p is corrected over: all cells of a sweep, of a data set, or all there are.

    Returns:
        One comparison a condition, p corrected over the family.
    """
    found = [_compare(left, right, alpha, margin) for left, right in matched(cells, a, b)]
    return corrected([replace(item, family=_family(item, family)) for item in found])


def compare_all(cells: Sequence[Cell], *, alpha: float = 0.05, margin: float = 1.0) -> list[Comparison]:
    """Compares every two methods and variants under every data set and number of images.

    Args:
        cells: all.
        alpha: the threshold.
        margin: the smallest difference that matters.

    Returns:
        All pairs, the later in the tables' order first; p corrected over all of them.
    """
    places = dict.fromkeys(cell.place for cell in cells)
    found: list[Comparison] = []
    for place in places:
        here = [cell for cell in cells if cell.place == place]
        found.extend(_compare(b, a, alpha, margin) for a, b in combinations(here, 2))
    return corrected([replace(item, family=("all",)) for item in found])


def compare_pairs(pairs: Sequence[tuple[Cell, Cell]], *, alpha: float = 0.05, margin: float = 1.0) -> list[Comparison]:
    """Compares chosen cells.

    Args:
        pairs: the first minus the second.
        alpha: the threshold.
        margin: the smallest difference that matters.

    Returns:
        One comparison a pair; p corrected over all of them.
    """
    return corrected([replace(_compare(a, b, alpha, margin), family=("pairs",)) for a, b in pairs])


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Fills in the corrected p of each family.

    Args:
        comparisons: with their families.

    Returns:
        The same with `p_holm` and `p_bh`.
    """
    p, families = [item.p for item in comparisons], [item.family for item in comparisons]
    strict, lenient = by_family(holm, p, families), by_family(benjamini_hochberg, p, families)
    return [
        replace(item, p_holm=one, p_bh=other) for item, one, other in zip(comparisons, strict, lenient, strict=True)
    ]


def _compare(a: Cell, b: Cell, alpha: float, margin: float) -> Comparison:
    return Comparison(a, b, mann_whitney([*a.values.values()], [*b.values.values()], alpha=alpha), alpha, margin)


def _family(item: Comparison, family: Family) -> tuple[str, ...]:
    if family == "all":
        return ("all",)
    return (item.a.sweep,) if family == "sweep" else (item.a.sweep, item.condition.data)
