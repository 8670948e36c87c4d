"""Compares two methods in every cell that both have: tests, effect sizes, and the claims they support."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Any, Literal

from analysis.results.cells import Cell, Condition
from l2t_ray.statistics.correction import benjamini_hochberg, holm
from l2t_ray.statistics.effect import (
    Estimate,
    a12,
    a12_brunner_munzel,
    hodges_lehmann,
    mean_difference,
    paired_difference,
    paired_superiority,
    rank_biserial,
)
from l2t_ray.statistics.hypothesis import Finding, brunner_munzel, equivalence, mann_whitney, wilcoxon
from l2t_ray.statistics.power import needed_seeds
from l2t_ray.statistics.sequential import Decision

Verdict = Literal["higher", "lower", "equivalent", "undecided", "untested"]
VERDICTS: tuple[Verdict, ...] = ("higher", "lower", "equivalent", "undecided", "untested")
MOST_UNLIKE = 2.0  # ratio of spreads, or of numbers of seeds, up to which Mann-Whitney keeps its level
ENDED = frozenset({"diverged", "failed", "invalid"})  # outcomes of runs that will give no result


@dataclass(frozen=True)
class Comparison:
    """One method against another under one condition."""

    a: Cell
    b: Cell
    test: Finding  # Mann-Whitney, two-sided
    alpha: float  # threshold of one test; with a declared design, the error rate over all its looks
    margin: float  # smallest difference that matters, in the metric's unit
    n_family: int = 1  # comparisons over which p is corrected
    p_holm: float | None = None  # corrected by Holm
    p_bh: float | None = None  # corrected by Benjamini and Hochberg
    decision: Decision | None = None  # of the group-sequential design, where a sweep declared one
    declared_by: str = ""  # that sweep
    is_lower_better: bool = False  # of the metric
    unit: str = "point"  # of a difference

    @property
    def condition(self) -> Condition:
        """The condition of the first cell."""
        return self.a.condition

    @property
    def digits(self) -> int:
        """Decimals of the metric."""
        return self.a.digits

    @property
    def difference(self) -> float | None:
        """Mean of a minus mean of b; None where one of them has no run."""
        a, b = self.a.mean.mean, self.b.mean.mean
        return None if a is None or b is None else a - b

    @property
    def is_unlike(self) -> bool:
        """Whether spreads or numbers of seeds differ so much that Mann-Whitney would find differences too often."""
        has_unlike_sds = self.sds is not None and are_unlike(*self.sds)
        return has_unlike_sds or are_unlike(self.a.mean.n, self.b.mean.n)

    @cached_property
    def deciding(self) -> Finding:
        """The test that decides: Mann-Whitney's; Brunner and Munzel's where spreads or numbers of seeds are unlike."""
        return self.brunner_munzel if self.is_unlike and self.test.p is not None else self.test

    @property
    def p(self) -> float | None:
        """The p that a claim rests on: the deciding test's or, with a declared design, the p adjusted for its looks."""
        return self.deciding.p if self.decision is None else self.decision.p_adjusted

    @property
    def is_significant(self) -> bool:
        """Whether this test by itself, or the declared design, finds a difference."""
        if self.decision is not None:
            return self.decision.state == "significant"
        return self.deciding.p is not None and self.deciding.p < self.alpha

    @property
    def is_significant_in_family(self) -> bool:
        """Whether the difference stands after Holm's correction."""
        return self.p_holm is not None and self.p_holm < self.alpha

    @property
    def has_values(self) -> bool:
        """Whether both cells have results."""
        return bool(self.a.values and self.b.values)

    @property
    def is_higher(self) -> bool:
        """Whether a run of a is more often above one of b than below it."""
        return self.a12.value > 0.5

    @cached_property
    def a12(self) -> Estimate:
        """P(a beats b), ties counting half."""
        return (a12_brunner_munzel if self.is_unlike else a12)(*self._values)

    @cached_property
    def rank_biserial(self) -> Estimate:
        """2 A12 - 1."""
        return rank_biserial(self.a12)

    @cached_property
    def shift(self) -> Estimate:
        """The Hodges-Lehmann estimate of a minus b."""
        return hodges_lehmann(*self._values)

    @cached_property
    def mean_difference(self) -> Estimate:
        """The difference of the means with Welch's interval."""
        return mean_difference(*self._values)

    @cached_property
    def paired_difference(self) -> Estimate:
        """The mean of a minus b over the seeds that both have, with its t interval."""
        return paired_difference(self.a.values, self.b.values)

    @property
    def n_shared(self) -> int | None:
        """The seeds behind `paired_difference`, where a method has results of further ones; else None."""
        n = len(self.a.values.keys() & self.b.values.keys())
        return n if n < max(len(self.a.values), len(self.b.values)) else None

    @cached_property
    def paired_superiority(self) -> Estimate | None:
        """How often a is above b with the same seed, ties counting half; None without a common seed."""
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
        """The deciding test with the runs of `ranked_last` worse than all results, as ties."""
        return (mann_whitney if self.deciding is self.test else brunner_munzel)(*self._with_worst)

    @property
    def _with_worst(self) -> tuple[list[float], list[float]]:
        every = [*self._values[0], *self._values[1]]
        ends = (min(every, default=0.0), max(every, default=0.0))
        beyond = 1 + max(map(abs, ends)) / 2  # not lost in the last digits of large values
        worst = ends[1] + beyond if self.is_lower_better else ends[0] - beyond
        x, y = ([*values, *[worst] * n] for values, n in zip(self._values, self.ranked_last, strict=True))
        return x, y

    @cached_property
    def is_undone_by_lost_runs(self) -> bool:
        """Whether the single test ends otherwise with the runs of `ranked_last` worse than all results."""
        if self.decision is not None or not sum(self.ranked_last) or self.p is None:
            return False
        found = self.worst_ranked
        if found.p is None or found.p >= self.alpha:
            return self.is_significant
        return not self.is_significant or (a12(*self._with_worst).value > 0.5) != self.is_higher

    @property
    def sds(self) -> tuple[float, float] | None:
        """Standard deviation of one run of each method; None where one has fewer than two runs."""
        a, b = self.a.mean.sd, self.b.mean.sd
        return None if a is None or b is None else (a, b)

    def needed_in(self, n_tests: int) -> int | None:
        """Seeds per method that find the margin with 80 % power at alpha / n_tests (Holm's first step), or None."""
        return None if self.sds is None else _needed(self.margin, self.sds, self.alpha / n_tests)

    @property
    def _values(self) -> tuple[list[float], list[float]]:
        return [*self.a.values.values()], [*self.b.values.values()]


@lru_cache(maxsize=1024)  # simulated: table and JSON ask for the same
def _needed(margin: float, sds: tuple[float, float], alpha: float) -> int | None:
    return needed_seeds(margin, sds, alpha=alpha, is_unlike=are_unlike(*sds))  # numbers of seeds are equal there


def are_unlike(one: float, other: float) -> bool:
    """Whether two spreads, or numbers of seeds, differ by more than `MOST_UNLIKE` to 1."""
    return max(one, other) > MOST_UNLIKE * min(one, other)


def opposes(difference: Estimate, *, is_higher: bool) -> bool:
    """Whether a difference of means points the other way than the test of ranks that decides."""
    return difference.value < 0 if is_higher else difference.value > 0


def compare(
    pairs: Sequence[tuple[Cell, Cell]], *, alpha: float = 0.05, margin: float = 1.0, **more: Any
) -> list[Comparison]:
    """Compares the cells of each pair, the first minus the second; corrects p over all pairs.

    Args:
        pairs: of cells.
        alpha: threshold of one test.
        margin: smallest difference that matters, in the metric's unit.
        **more: `is_lower_better` and `unit` of `Comparison`.

    Returns:
        A comparison for each pair.
    """
    return corrected([
        Comparison(a, b, mann_whitney([*a.values.values()], [*b.values.values()]), alpha, margin, **more)
        for a, b in pairs
    ])


def compare_all(cells: Sequence[Cell], *, alpha: float = 0.05, margin: float = 1.0, **more: Any) -> list[Comparison]:
    """Compares every two arms of each place, the later in the tables minus the earlier; arguments as `compare`."""
    by_place: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        by_place[cell.place].append(cell)
    pairs = [(b, a) for here in by_place.values() for a, b in combinations(here, 2)]
    return compare(pairs, alpha=alpha, margin=margin, **more)


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with `p_holm` and `p_bh`, each corrected over all of them."""
    p = [item.p for item in comparisons]
    return [
        replace(item, n_family=len(p), p_holm=by_holm, p_bh=by_bh)
        for item, by_holm, by_bh in zip(comparisons, holm(p), benjamini_hochberg(p), strict=True)
    ]


def equivalent_in_family(comparisons: Sequence[Comparison]) -> list[bool]:
    """For each comparison, whether its two methods are shown to be equivalent after Holm's correction over all."""
    p = holm([item.equivalence.p if item.has_values else None for item in comparisons])
    return [value is not None and value < item.alpha for value, item in zip(p, comparisons, strict=True)]


def verdicts(comparisons: Sequence[Comparison]) -> list[Verdict]:
    """What is shown of each comparison's first method after Holm's correction over all; undecided: neither."""
    found: list[Verdict] = []
    for item, is_equivalent in zip(comparisons, equivalent_in_family(comparisons), strict=True):
        if item.is_significant_in_family:
            found.append("higher" if item.is_higher else "lower")
        elif is_equivalent:
            found.append("equivalent")
        else:
            found.append("untested" if item.p is None else "undecided")
    return found
