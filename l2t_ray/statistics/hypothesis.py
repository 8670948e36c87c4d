"""Tests of one method's runs against another's: is there a difference?

Notation: x and y are the final accuracies of two methods in one cell, one value a seed.

| test | question | pairs seeds |
| --- | --- | --- |
| Mann-Whitney (the thesis') | is P(X > Y) + P(X = Y)/2 other than 1/2, if the shapes are equal | no |
| Brunner-Munzel | the same, for unequal shapes and spreads | no |
| Wilcoxon signed-rank | are the differences of equal seeds centred on 0 | yes |

Every p is two-sided. Fewer than `MIN_SEEDS` seeds get none: 3 against 3 cannot come below 0.1 whatever their values.
What counts as a tie: ties.py.

Two one-sided rank tests show equivalence within a margin (Schuirmann 1987; Wellek 2010).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from l2t_ray.statistics.permutation import brunner_munzel_p, rank_sum_p, signed_rank_p
from l2t_ray.statistics.ties import Values, differences, is_constant, rounded

MIN_SEEDS = 5
EXACT_BELOW = 50  # R's rule (wilcox.test), here also with ties
PERMUTED_BELOW = 10  # values on a side: Brunner and Munzel's t approximation finds too much there (7.3 % at 5)
SEED = 20220101  # of every resampling here: the same inputs give the same bytes

TEST = "two one-sided Mann-Whitney tests"


@dataclass(frozen=True)
class Finding:
    """The result of a test."""

    test: str  # its name
    method: str  # how p was computed
    n: tuple[int, int]  # values of x and of y; the number of pairs twice for a paired test
    statistic: float | None = None  # U of x, W+ or Brunner and Munzel's t
    p: float | None = None  # two-sided; None where there is none
    note: str = ""  # why there is no p, or what to know of it


def checked(values: ArrayLike, name: str = "values") -> Values:
    """Returns values as float64, of which every statistic here can be computed.

    Args:
        values: one-dimensional.
        name: for the message.

    Raises:
        ValueError: if one of them is not a finite number.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if not np.isfinite(array).all():
        place = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"{name} must be finite, got {array[place]} at {place}; list such a run as missing")
    return array


def ranked(x: ArrayLike, y: ArrayLike) -> tuple[Values, Values]:
    """Returns two samples as `checked` does, ready to be ranked: values that are the same are equal."""
    return rounded(checked(x, "x")), rounded(checked(y, "y"))


def mann_whitney(x: ArrayLike, y: ArrayLike) -> Finding:
    """Computes the Mann-Whitney U test, two-sided (Mann and Whitney 1947; thesis 5.4).

    Exact below 50 values each: with ties by the permutation distribution of the midranks, as R's
    `coin::wilcox_test(distribution = "exact")`. Else normal with tie and continuity correction, as R's `wilcox.test`.

    Args:
        x: one method's values.
        y: the other's.

    Returns:
        The finding; its statistic is U of x.
    """
    x, y = ranked(x, y)
    n = (len(x), len(y))
    if min(n) < MIN_SEEDS:
        return too_few("Mann-Whitney", n)
    both = np.concatenate([x, y])
    u = float(stats.rankdata(both)[: n[0]].sum() - n[0] * (n[0] + 1) / 2)
    if is_constant(both):
        return Finding("Mann-Whitney", "none needed", n, u, 1.0, "all values are equal")
    if max(n) < EXACT_BELOW:
        return Finding("Mann-Whitney", "exact", n, u, rank_sum_p(x, y))
    p = float(stats.mannwhitneyu(x, y, use_continuity=True, alternative="two-sided", method="asymptotic").pvalue)
    return Finding("Mann-Whitney", "normal, tie and continuity correction", n, u, p)


def brunner_munzel(x: ArrayLike, y: ArrayLike) -> Finding:
    """Computes Brunner and Munzel's test, two-sided; t > 0 where x is the larger.

    Below 10 values on a side by permutations of t (Neubert and Brunner 2007), else with the t approximation.

    Args:
        x: one method's values.
        y: the other's.

    Returns:
        The finding; its statistic is t, None where the samples do not overlap and t has no variance.
    """
    x, y = ranked(x, y)
    n = (len(x), len(y))
    if min(n) < MIN_SEEDS:
        return too_few("Brunner-Munzel", n)
    if is_constant(np.concatenate([x, y])):
        return Finding("Brunner-Munzel", "none needed", n, 0.0, 1.0, "all values are equal")
    if x.min() > y.max() or y.min() > x.max():
        p, note = rank_sum_p(x, y), "the samples do not overlap, so t has no variance"
        return Finding("Brunner-Munzel", "exact permutation", n, None, p, note)
    if min(n) < PERMUTED_BELOW:
        t, p, method = brunner_munzel_p(x, y, SEED)
        return Finding("Brunner-Munzel", method, n, t, p)
    result = stats.brunnermunzel(y, x, alternative="two-sided", distribution="t")  # SciPy's sign is y - x
    return Finding("Brunner-Munzel", "t approximation", n, float(result.statistic), float(result.pvalue))


def wilcoxon(x: Mapping[int, float], y: Mapping[int, float]) -> Finding:
    """Computes Wilcoxon's signed-rank test, two-sided, on the seeds that both methods have.

    Zeros are left out. Exact below 50 pairs: with ties over all changes of signs, as R's
    `coin::wilcoxsign_test(distribution = "exact", zero.method = "Wilcoxon")`. Else normal with tie and continuity
    correction, as R's `wilcox.test(paired = TRUE)`.

    Args:
        x: seed to one method's value.
        y: seed to the other's.

    Returns:
        The finding; its statistic is the rank sum of the positive differences.
    """
    seeds = sorted(x.keys() & y.keys())
    found = differences(checked([x[seed] for seed in seeds], "x"), checked([y[seed] for seed in seeds], "y"))
    n = (len(seeds), len(seeds))
    left = sorted(x.keys() ^ y.keys())
    note = f"unpaired seeds left out: {seed_list(left)}" if left else ""
    if len(seeds) < MIN_SEEDS:
        return too_few("Wilcoxon signed-rank", n, note)
    if not found.any():
        return Finding("Wilcoxon signed-rank", "none needed", n, 0.0, 1.0, "all differences are 0")
    nonzero = found[found != 0]
    positive = float(stats.rankdata(np.abs(nonzero))[nonzero > 0].sum())
    if len(found) < EXACT_BELOW:
        return Finding("Wilcoxon signed-rank", "exact", n, positive, signed_rank_p(nonzero), note)
    p = float(stats.wilcoxon(found, zero_method="wilcox", correction=True, method="asymptotic").pvalue)
    return Finding("Wilcoxon signed-rank", "normal, tie and continuity correction", n, positive, min(p, 1.0), note)


def too_few(test: str, n: tuple[int, int], note: str = "") -> Finding:
    """Returns a finding without a p, which says that there are too few seeds for one."""
    reason = f"{n[0]} against {n[1]} seeds; a p needs at least {MIN_SEEDS} each"
    return Finding(test, "none", n, note=f"{reason}; {note}" if note else reason)


def seed_list(seeds: Sequence[int]) -> str:
    """Returns sorted seeds for people: "0-3, 7"."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], seed]
        else:
            parts.append([seed])
    return ", ".join("-".join(map(str, part)) for part in parts)


def equivalence(x: ArrayLike, y: ArrayLike, margin: float) -> Finding:
    """Tests whether the shift of x against y is smaller than the margin, in both directions.

    Its p is the larger one of two one-sided rank tests, of x + margin against y ("greater") and of x - margin against y
    ("less"), exact below 50 values each, ties included.

    Args:
        x: one method's values.
        y: the other's.
        margin: the smallest difference that matters, in the values' unit; > 0.

    Returns:
        The finding: a small p says that the shift lies within the margin.

    Raises:
        ValueError: if the margin is not positive.
    """
    if not margin > 0:
        raise ValueError(f"margin must be > 0, got {margin}")
    x, y = ranked(x, y)
    n = (len(x), len(y))
    if min(n) < MIN_SEEDS:
        return too_few(TEST, n)
    sizes = np.maximum(np.abs(x), margin)
    with np.errstate(over="ignore"):
        higher, lower = rounded(x + margin, sizes), rounded(x - margin, sizes)
    above, method_above = _one_sided(higher, y, "greater")
    below, method_below = _one_sided(lower, y, "less")
    p, method = (above, method_above) if above >= below else (below, method_below)
    return Finding(TEST, method, n, None, p, f"margin {margin:g}")


def _one_sided(x: Values, y: Values, alternative: str) -> tuple[float, str]:
    if is_constant(np.concatenate([x, y])):
        return 1.0, "none needed"
    if max(len(x), len(y)) < EXACT_BELOW:
        return rank_sum_p(x, y, alternative), "exact"
    p = float(stats.mannwhitneyu(x, y, use_continuity=True, alternative=alternative, method="asymptotic").pvalue)
    return min(p, 1.0), "normal, tie and continuity correction"
