"""Several methods over several cells by their average ranks (Demsar 2006).

| symbol | meaning |
| --- | --- |
| N, k | cells, methods |
| r_ij | rank of method j's mean in cell i: 1 is the best, ties share their mean rank |
| R_j | mean of r_ij over the cells |
| CD = q_alpha sqrt(k (k + 1) / (6 N)) | Nemenyi's critical difference; q_alpha: Studentized range over sqrt 2 |
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from l2t_ray.statistics.ties import rounded

MIN_CELLS, MIN_METHODS = 3, 3  # with 2 cells and up to 8 methods Friedman's p cannot come below 0.05


@dataclass(frozen=True)
class Ranks:
    """Average ranks, Friedman's test, and how far two averages must be apart."""

    means: tuple[float, ...]  # R_j, in the order of the methods
    n_cells: int
    statistic: float  # Friedman's chi-squared, with k - 1 degrees of freedom
    p: float
    critical_difference: float  # of two of `means`, for all pairs of methods together

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """The largest groups of methods whose averages lie within the critical difference, by place in `means`."""
        order = sorted(range(len(self.means)), key=lambda place: self.means[place])
        found: list[tuple[int, ...]] = []
        for start, best in enumerate(order):
            limit = self.means[best] + self.critical_difference
            group = tuple(place for place in order[start:] if self.means[place] <= limit)
            if len(group) > 1 and not any({*group} <= {*other} for other in found):
                found.append(group)
        return found


def average_ranks(values: Sequence[ArrayLike], *, is_lower_better: bool = False, alpha: float = 0.05) -> Ranks:
    """Ranks the methods in every cell and tests whether their average ranks differ.

    Args:
        values: a row for each cell with a value of each method, [N, k]; at least `MIN_CELLS` and `MIN_METHODS`.
        is_lower_better: whether rank 1 is the lowest value.
        alpha: of the critical difference, for all pairs of methods together.

    Returns:
        Everything that Demsar's diagram shows, by place of the method.

    Raises:
        ValueError: if there are too few cells or methods, or a value is not a finite number.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < MIN_CELLS or table.shape[1] < MIN_METHODS:
        raise ValueError(f"values must be of {MIN_CELLS} cells and {MIN_METHODS} methods or more, got {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError("values must be finite; leave out a cell in which a method has no result")
    table = rounded(table)
    n_cells, n_methods = table.shape
    ranks = stats.rankdata(table if is_lower_better else -table, axis=1)
    statistic, p = 0.0, 1.0
    if np.ptp(ranks):  # else all methods are equal in every cell
        found = stats.friedmanchisquare(*table.T)
        statistic, p = float(found.statistic), float(found.pvalue)
    q = float(stats.studentized_range.ppf(1 - alpha, n_methods, np.inf)) / 2**0.5
    distance = q * (n_methods * (n_methods + 1) / (6 * n_cells)) ** 0.5
    return Ranks(tuple(map(float, ranks.mean(axis=0))), n_cells, statistic, p, distance)
