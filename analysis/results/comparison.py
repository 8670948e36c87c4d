"""Compares two methods in every cell that both have: tests, effect sizes, and the claims they support."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Literal

from analysis.results.cells import Cell, Condition, matched
from l2t_ray.statistics.correction import benjamini_hochberg, by_family, holm
from l2t_ray.statistics.effect import Estimate, a12, hodges_lehmann, mean_difference, paired_superiority, rank_biserial
from l2t_ray.statistics.hypothesis import Finding, brunner_munzel, equivalence, mann_whitney, wilcoxon
from l2t_ray.statistics.power import needed_seeds
from l2t_ray.statistics.sequential import Decision

Family = Literal["sweep", "data", "all"]
ENDED = frozenset({"diverged", "failed", "invalid"})  # outcomes of runs that will give no result


@dataclass(frozen=True)
class Comparison:
    """One method against another under one condition."""

    a: Cell
    b: Cell
    test: Finding  # Mann-Whitney, two-sided
    alpha: float  # threshold of one test; with a declared design, the error rate over all its looks
    margin: float  # smallest difference that matters, in the metric's unit
    family: tuple[str, ...] = ()  # p is corrected over all comparisons with the same family
    p_holm: float | None = None  # corrected by Holm
    p_bh: float | None = None  # corrected by Benjamini and Hochberg
    decision: Decision | None = None  # of the group-sequential design, where a sweep declared one
    declared_by: str = ""  # that sweep

    @property
    def condition(self) -> Condition:
        """The condition of the first cell."""
        return self.a.condition

    @property
    def difference(self) -> float | None:
        """Mean of a minus mean of b; None where one of them has no run."""
        a, b = self.a.mean.mean, self.b.mean.mean
        return None if a is None or b is None else a - b

    @property
    def p(self) -> float | None:
        """The p that a claim rests on: the test's own or, with a declared design, the p adjusted for its looks."""
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
        """The Hodges-Lehmann estimate of a minus b."""
        return hodges_lehmann(*self._values)

    @cached_property
    def mean_difference(self) -> Estimate:
        """The difference of the means with its interval."""
        return mean_difference(*self._values)

    @cached_property
    def paired(self) -> Estimate | None:
        """P(a above b) on equal seeds, ties counting half; None where no seed has both."""
        return paired_superiority(self.a.values, self.b.values)

    @cached_property
    def wilcoxon(self) -> Finding:
        """Wilcoxon's signed-rank test over the seeds that both have."""
        return wilcoxon(self.a.values, self.b.values)

    @cached_property
    def brunner_munzel(self) -> Finding:
        """The Brunner-Munzel test, which does not assume equal shapes."""
        return brunner_munzel(*self._values)

    @cached_property
    def equivalence(self) -> Finding:
        """Two one-sided tests against the margin."""
        return equivalence(*self._values, self.margin)

    @cached_property
    def shown_within(self) -> float | None:
        """The margin above which the two are equivalent: the larger end of a 1 - 2 alpha interval."""
        found = hodges_lehmann(*self._values, 1 - 2 * self.alpha)
        return None if found.low is None or found.high is None else max(abs(found.low), abs(found.high))

    @cached_property
    def is_shown_at_limit(self) -> bool:
        """Whether the two are equivalent with the margin `shown_within` itself; on tied data perhaps only above it."""
        if not self.shown_within:
            return False
        p = equivalence(*self._values, self.shown_within).p
        return p is not None and p < self.alpha

    @cached_property
    def ranked_last(self) -> tuple[int, int]:
        """Wanted runs of a and of b that count as the worst in `worst_ranked`.

        Those that diverged, failed or gave no number; missing ones, too, if only one side has any.
        """
        ended = [sum(gap.outcome in ENDED for gap in cell.gaps) for cell in (self.a, self.b)]
        missing = [len(cell.gaps) - n for cell, n in zip((self.a, self.b), ended, strict=True)]
        if 0 in missing:
            ended = [n + m for n, m in zip(ended, missing, strict=True)]
        return ended[0], ended[1]

    @cached_property
    def worst_ranked(self) -> Finding:
        """Mann-Whitney's test with the runs of `ranked_last` below all results, as ties."""
        worst = min(*self._values[0], *self._values[1]) - 1 if self.has_values else 0.0
        x, y = ([*values, *[worst] * n] for values, n in zip(self._values, self.ranked_last, strict=True))
        return mann_whitney(x, y)

    @property
    def sds(self) -> tuple[float, float] | None:
        """Standard deviation of one run of each method; None where one has fewer than two runs."""
        a, b = self.a.mean.sd, self.b.mean.sd
        return None if a is None or b is None else (a, b)

    @cached_property
    def needed(self) -> int | None:
        """Seeds per method that find a difference of the margin with 80 % power; None if more than 1,000."""
        return self.needed_in(1)

    def needed_in(self, n_tests: int) -> int | None:
        """The same at alpha / n_tests, the level of Holm's first step in a family of so many tests."""
        return None if self.sds is None else _needed(self.margin, self.sds, self.alpha / n_tests)

    @property
    def _values(self) -> tuple[list[float], list[float]]:
        return [*self.a.values.values()], [*self.b.values.values()]


def compare(
    cells: Sequence[Cell], a: str, b: str, *, alpha: float = 0.05, margin: float = 1.0, family: Family = "sweep"
) -> list[Comparison]:
    """Compares a (expected to be better) with b under every condition that both have; corrects p over `family`."""
    compared = [_compare(left, right, alpha, margin) for left, right in matched(cells, a, b)]
    return corrected([replace(item, family=_family(item, family)) for item in compared])


def compare_all(cells: Sequence[Cell], *, alpha: float = 0.05, margin: float = 1.0) -> list[Comparison]:
    """Compares every two arms of each place, the later in the tables minus the earlier; corrects p over all pairs."""
    compared: list[Comparison] = []
    for place in dict.fromkeys(cell.place for cell in cells):
        here = [cell for cell in cells if cell.place == place]
        compared.extend(_compare(b, a, alpha, margin) for a, b in combinations(here, 2))
    return corrected([replace(item, family=("all",)) for item in compared])


def compare_pairs(pairs: Sequence[tuple[Cell, Cell]], *, alpha: float = 0.05, margin: float = 1.0) -> list[Comparison]:
    """Compares the cells of each pair, the first minus the second; corrects p over all pairs."""
    return corrected([replace(_compare(a, b, alpha, margin), family=("pairs",)) for a, b in pairs])


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with `p_holm` and `p_bh`, each corrected over the comparisons of the same family."""
    p, families = [item.p for item in comparisons], [item.family for item in comparisons]
    p_holm, p_bh = by_family(holm, p, families), by_family(benjamini_hochberg, p, families)
    return [
        replace(item, p_holm=by_holm, p_bh=by_bh)
        for item, by_holm, by_bh in zip(comparisons, p_holm, p_bh, strict=True)
    ]


def family_size(item: Comparison, comparisons: Sequence[Comparison]) -> int:
    """How many of the comparisons p of this one is corrected over, itself included."""
    return sum(other.family == item.family for other in comparisons)


@lru_cache(maxsize=1024)  # simulated: table and JSON ask for the same
def _needed(margin: float, sds: tuple[float, float], alpha: float) -> int | None:
    return needed_seeds(margin, sds, alpha=alpha)


def _compare(a: Cell, b: Cell, alpha: float, margin: float) -> Comparison:
    return Comparison(a, b, mann_whitney([*a.values.values()], [*b.values.values()]), alpha, margin)


def _family(item: Comparison, family: Family) -> tuple[str, ...]:
    if family == "all":
        return ("all",)
    return (item.a.sweep,) if family == "sweep" else (item.a.sweep, item.condition.data)
