"""How large a difference is, with intervals.

| measure | of | interval |
| --- | --- | --- |
| A12 (Vargha and Delaney 2000) | P(X > Y) + P(X = Y)/2 | Newcombe 2006, method 5: a score interval, valid at 0 and 1 |
| the same, for unlike spreads or sizes | | Brunner and Munzel 2000 |
| rank-biserial | 2 A12 - 1 | the same |
| paired superiority | P(A > B) + P(A = B)/2 on equal seeds | Clopper and Pearson 1934, exact; ties count half |
| Hodges-Lehmann | the median of all x - y | the Mann-Whitney test inverted, as R's `wilcox.test(conf.int = TRUE)` |
| difference of means | mean x - mean y | Welch's t (1947) |
| the same, paired by seed | mean of x - y over common seeds | Student's t |
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from l2t_ray.statistics.hypothesis import EXACT_BELOW, checked, ranked
from l2t_ray.statistics.means import average, deviation, half_width, welch
from l2t_ray.statistics.permutation import rank_sums
from l2t_ray.statistics.ties import differences, is_constant

TINY = 1e-9  # distance from A12, 0 and 1, where the equation of its interval is degenerate
MIN_VALUES = 3  # on each side; with fewer a difference of means has no interval
WELCH, PAIRED, NO_SPREAD = "Welch's t", "t of paired differences", "no spread"
MEANINGFUL = 0.75  # paired superiority above which a difference matters (Bouthillier et al. 2021)


@dataclass(frozen=True)
class Estimate:
    """A number and its confidence interval."""

    value: float  # the estimate
    low: float | None  # None where there are too few values
    high: float | None  # as `low`
    method: str  # of the interval


def a12(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Returns Vargha and Delaney's A12, 0 to 1: how often a run of x beats one of y, ties counting half."""
    x, y = ranked(x, y)
    m, n = len(x), len(y)
    ranks = stats.rankdata(np.concatenate([x, y]))
    value = float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))
    z = float(stats.norm.ppf((1 + confidence) / 2))
    star = (m + n) / 2 - 1

    def excess(theta: float) -> float:  # > 0 outside the interval
        variance = theta * (1 - theta) * (1 + star * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / (m * n)
        return float((theta - value) ** 2 - z**2 * variance)

    low = 0.0 if value == 0 else float(optimize.brentq(excess, 0.0, value - TINY))
    high = 1.0 if value == 1 else float(optimize.brentq(excess, value + TINY, 1.0))
    return Estimate(value, low, high, "Newcombe's method 5")


def a12_brunner_munzel(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Returns A12 with Brunner and Munzel's interval (2000), which allows unlike spreads and numbers of values.

    Where the samples do not overlap their variance is 0, and the interval is Newcombe's.
    """
    x, y = ranked(x, y)
    m, n = len(x), len(y)
    both = stats.rankdata(np.concatenate([x, y]))
    # each value's share of the other sample below it
    over_y = (both[:m] - stats.rankdata(x)) / n
    over_x = (both[m:] - stats.rankdata(y)) / m
    value = float(over_y.mean())
    if min(m, n) < 2 or (np.ptp(over_y) == 0 and np.ptp(over_x) == 0):
        return a12(x, y, confidence)
    u, v = over_y.var(ddof=1) / m, over_x.var(ddof=1) / n
    degrees = (u + v) ** 2 / (u**2 / (m - 1) + v**2 / (n - 1))
    half = float(stats.t.ppf((1 + confidence) / 2, degrees) * (u + v) ** 0.5)
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), "Brunner and Munzel's t")


def rank_biserial(share: Estimate) -> Estimate:
    """Returns the rank-biserial correlation of an A12, -1 to 1: 2 A12 - 1 = P(X > Y) - P(Y > X)."""
    low, high = (None if end is None else 2 * end - 1 for end in (share.low, share.high))
    return Estimate(2 * share.value - 1, low, high, share.method)


def paired_superiority(x: Mapping[int, float], y: Mapping[int, float], confidence: float = 0.95) -> Estimate | None:
    """Returns how often x is above y with the same seed, 0 to 1, ties counting half (Bouthillier et al. 2021).

    A bootstrap over seeds, as they use it, is empty where one method always wins, and too short with few seeds. With
    ties the interval is that of a whole or half number of wins, which is wider than needed.

    Args:
        x: seed to one method's value.
        y: seed to the other's.
        confidence: of the interval.

    Returns:
        None where no seed has both.
    """
    seeds = sorted(x.keys() & y.keys())
    found = differences(checked([x[seed] for seed in seeds], "x"), checked([y[seed] for seed in seeds], "y"))
    n = len(found)
    if n == 0:
        return None
    wins = float((found > 0).sum() + (found == 0).sum() / 2)
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, wins, n - wins + 1)) if wins else 0.0
    high = float(stats.beta.isf(tail, wins + 1, n - wins)) if wins < n else 1.0
    return Estimate(wins / n, low, high, "Clopper and Pearson")


def hodges_lehmann(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Returns the Hodges-Lehmann shift, the median of all differences x - y, in the values' unit.

    Args:
        x: one method's values.
        y: the other's.
        confidence: of the interval; with few values no interval may reach it.
    """
    x, y = ranked(x, y)
    m, n = len(x), len(y)
    shifts = np.sort(differences(x[:, None], y[None, :]), axis=None)
    value = float(np.median(shifts))
    both = np.concatenate([x, y])
    tail = (1 - confidence) / 2
    if len(np.unique(both)) == m + n and max(m, n) < EXACT_BELOW:
        method = "exact, Mann-Whitney inverted"
        cumulative = np.cumsum(rank_sums(x, y)[1][m * (m + 1) : m * (m + 1 + 2 * n) + 1 : 2])  # of U = 0 .. mn
        # R: qwilcox(tail), the smallest u with P(U <= u) >= tail, and 1 where that is 0
        rank = max(1, int(np.searchsorted(cumulative, tail * (1 - 1e-12))))
        if cumulative[0] > tail:
            return Estimate(value, None, None, "too few values for an interval")
    else:
        method = "normal, Mann-Whitney inverted"
        # shifted by less than the next difference, the samples share no value: only ties within each count
        counts = np.concatenate([np.unique(sample, return_counts=True)[1] for sample in (x, y)])
        total = m + n
        variance = m * n / 12 * (total + 1 - (counts**3 - counts).sum() / (total * (total - 1)))
        # the k-th difference is where U, with continuity correction, crosses the quantile
        rank = int(np.floor(m * n / 2 - 0.5 - stats.norm.isf(tail) * np.sqrt(variance))) + 1
        if rank < 1:
            return Estimate(value, None, None, "too few values for an interval")
    return Estimate(value, float(shifts[rank - 1]), float(shifts[-rank]), method)


def mean_difference(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Returns mean x - mean y with Welch's t interval (1947); none with fewer than 3 values on a side.

    A BCa bootstrap covers too little even with 30 values (82 to 93 % instead of 95 %; docs/statistics.md).
    """
    x, y = checked(x, "x"), checked(y, "y")
    value = average(x) - average(y)
    if min(len(x), len(y)) < MIN_VALUES:
        return Estimate(value, None, None, "too few values for an interval")
    if is_constant(x, y):
        return Estimate(value, value, value, NO_SPREAD)
    _, error, degrees = welch(average(x), deviation(x), len(x), average(y), deviation(y), len(y))
    half = float(stats.t.ppf((1 + confidence) / 2, degrees) * error)
    return Estimate(value, value - half, value + half, WELCH)


def paired_difference(x: Mapping[int, float], y: Mapping[int, float], confidence: float = 0.95) -> Estimate:
    """Returns the mean of x - y over the seeds that both have, with its t interval; nan without a common seed.

    A seed fixes the training images, the initial weights and the batches of both methods, so what it does to both
    cancels, and the interval is usually narrower than Welch's.

    Args:
        x: seed to one method's value.
        y: seed to the other's.
        confidence: of the interval, which needs 3 common seeds.
    """
    seeds = sorted(x.keys() & y.keys())
    found = differences(checked([x[seed] for seed in seeds], "x"), checked([y[seed] for seed in seeds], "y"))
    if not seeds:
        return Estimate(float("nan"), None, None, "no common seed")
    value = average(found)
    if len(seeds) < MIN_VALUES:
        return Estimate(value, None, None, "too few values for an interval")
    half = half_width(deviation(found), len(seeds), confidence)
    return Estimate(value, value - half, value + half, PAIRED)
