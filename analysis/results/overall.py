"""One pair of methods over all cells together: a stratified test, the mean A12, the mean difference."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.results.comparison import Comparison
from l2t_ray.statistics.effect import MIN_VALUES, Estimate
from l2t_ray.statistics.hypothesis import Finding
from l2t_ray.statistics.stratified import average_difference, mean_a12, van_elteren

MIN_CELLS = 2  # of one cell its own tests are the answer


@dataclass(frozen=True)
class Overall:
    """The answer over cells; every cell counts the same in `a12` and `difference`."""

    comparisons: tuple[Comparison, ...]  # of the cells that count
    left_out: tuple[Comparison, ...]  # cells in which a method has fewer than `MIN_VALUES` results
    test: Finding  # van Elteren's, two-sided
    a12: Estimate  # mean over cells
    difference: Estimate  # mean over cells of the differences of means


def judge_overall(comparisons: Sequence[Comparison]) -> Overall | None:
    """Judges one pair of methods over its cells; None with fewer than two cells of `MIN_VALUES` results a method."""
    counted = [item for item in comparisons if min(item.a.mean.n, item.b.mean.n) >= MIN_VALUES]
    if len(counted) < MIN_CELLS:
        return None
    samples = [([*item.a.values.values()], [*item.b.values.values()]) for item in counted]
    return Overall(
        comparisons=tuple(counted),
        left_out=tuple(item for item in comparisons if item not in counted),
        test=van_elteren(samples),
        a12=mean_a12(samples),
        difference=average_difference(samples),
    )
