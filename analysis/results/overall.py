"""One method against another over all cells together, and the order of the methods that this gives."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import mean

from analysis.results.comparison import Comparison
from l2t_ray.statistics.correction import holm
from l2t_ray.statistics.effect import Estimate, paired_difference
from l2t_ray.statistics.hypothesis import MIN_SEEDS, Finding
from l2t_ray.statistics.stratified import average_difference, mean_a12, van_elteren


@dataclass(frozen=True)
class Overall:
    """One arm against another over the cells in which each has at least five results."""

    arm: str
    base: str  # the arm that it is compared with
    comparisons: tuple[Comparison, ...]  # of these cells
    n_left_out: int  # cells in which one of them has fewer results
    alpha: float
    p_holm: float | None = None  # van Elteren's, corrected by Holm over all arms

    @cached_property
    def test(self) -> Finding:
        """Van Elteren's stratified Mann-Whitney test."""
        return van_elteren(self._samples)

    @cached_property
    def a12(self) -> Estimate:
        """The mean over cells of the chance that a run of the arm beats one of the base."""
        return mean_a12(self._samples)

    @cached_property
    def difference(self) -> Estimate:
        """The mean over cells of the difference: paired by the seeds that all cells share, else of the means."""
        pairs, seeds = self._pairs, self._shared
        if len(seeds) < MIN_SEEDS:
            return average_difference(self._samples)
        # a seed's cells are not independent (same initial weights, overlapping images): their mean is one value
        first, second = ({seed: mean(pair[side][seed] for pair in pairs) for seed in seeds} for side in (0, 1))
        return paired_difference(first, second)

    @property
    def n_shared(self) -> int | None:
        """The seeds behind `difference`, where it is paired and a cell has results of further ones; else None."""
        n = len(self._shared)
        return n if MIN_SEEDS <= n < max(len(values) for pair in self._pairs for values in pair) else None

    @property
    def is_higher(self) -> bool:
        """Whether the arm is the higher one by van Elteren's test, which decides; means may point the other way."""
        return (self.test.statistic or 0.0) > 0

    @property
    def is_significant(self) -> bool:
        """Whether the arm differs from the base over all cells, after Holm's correction."""
        return self.p_holm is not None and self.p_holm < self.alpha

    @property
    def _pairs(self) -> list[tuple[Mapping[int, float], Mapping[int, float]]]:
        return [(item.a.values, item.b.values) for item in self.comparisons]

    @property
    def _shared(self) -> set[int]:
        return set.intersection(*({*a.keys()} & {*b.keys()} for a, b in self._pairs))

    @property
    def _samples(self) -> list[tuple[list[float], list[float]]]:
        return [([*item.a.values.values()], [*item.b.values.values()]) for item in self.comparisons]


def overall(comparisons: Sequence[Comparison], alpha: float, *, is_lower_better: bool = False) -> list[Overall]:
    """Sums up the comparisons of each two arms.

    Args:
        comparisons: those that a declared design decided are left out, because their n depends on the values.
        alpha: the threshold of van Elteren's test.
        is_lower_better: whether a lower value is the better one.

    Returns:
        One item for each two arms with enough results somewhere, the best mean difference first.
    """
    groups: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    for item in comparisons:
        if item.decision is None:
            groups[item.a.arm, item.b.arm].append(item)
    found = []
    for (arm, base), items in groups.items():
        enough = tuple(item for item in items if min(item.a.mean.n, item.b.mean.n) >= MIN_SEEDS)
        if enough:
            found.append(Overall(arm, base, enough, len(items) - len(enough), alpha))
    found.sort(key=lambda item: item.difference.value if is_lower_better else -item.difference.value)
    return [replace(item, p_holm=p) for item, p in zip(found, holm([item.test.p for item in found]), strict=True)]
