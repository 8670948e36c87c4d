"""Two methods over several cells: one test, one effect size, one difference for all of them together.

Notation: in cell k there are m_k values x of one method and n_k values y of the other, N_k = m_k + n_k in all; W_k is
the rank sum of x among these N_k. Cells are ranked apart, so easy and hard ones count alike. The answer is about the
cells at hand, not about data sets that nobody has trained on.

| measure | what | source |
| --- | --- | --- |
| van Elteren's test | z of sum_k (W_k - E W_k) / (N_k + 1) | van Elteren 1960; Lehmann 1975, 3.3 |
| mean A12 | mean over cells of P(X > Y) + P(X = Y)/2 | "probability of improvement", Agarwal et al. 2021 |
| mean difference | mean over cells of mean x - mean y | Welch 1947; degrees of freedom by Satterthwaite 1946 |
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from l2t_ray.statistics.effect import MIN_VALUES, NO_SPREAD, Estimate
from l2t_ray.statistics.hypothesis import SEED, Finding, checked
from l2t_ray.statistics.means import average, deviation
from l2t_ray.statistics.ties import Values, rounded

N_RESAMPLES = 5_000
SATTERTHWAITE = "Welch's errors, Satterthwaite's t"
BOOTSTRAP = "stratified percentile bootstrap"

Samples = Sequence[tuple[ArrayLike, ArrayLike]]  # of each cell: one method's values, the other's


def van_elteren(cells: Samples) -> Finding:
    """Computes van Elteren's stratified Mann-Whitney test, two-sided: is one method larger in the cells together?

    The weights 1 / (N_k + 1) are the locally best ones for a shift that is the same in every cell. The variance is that
    of all relabellings within cells, ties included; p is normal, without a continuity correction.

    Args:
        cells: at least `MIN_VALUES` values on each side.

    Returns:
        The finding; its statistic is z, > 0 where the first method is the larger, and n counts the values of all cells.

    Raises:
        ValueError: if a cell has too few values.
    """
    pairs = _checked(cells)
    distance = variance = 0.0
    for x, y in pairs:
        m, total = len(x), len(x) + len(y)
        ranks = stats.rankdata(rounded(np.concatenate([x, y])))
        centred = ranks - (total + 1) / 2
        distance += float(centred[:m].sum()) / (total + 1)
        variance += float(m * len(y) * (centred**2).sum() / (total * (total - 1))) / (total + 1) ** 2
    n = (sum(len(x) for x, _ in pairs), sum(len(y) for _, y in pairs))
    if variance == 0:
        return Finding("van Elteren", "none needed", n, 0.0, 1.0, "all values of a cell are equal, in every cell")
    z = distance / variance**0.5
    return Finding("van Elteren", "normal, tie correction", n, z, float(2 * stats.norm.sf(abs(z))))


def mean_a12(cells: Samples, confidence: float = 0.95) -> Estimate:
    """Returns the mean A12 over cells, each counting the same, with a percentile interval.

    The interval is that of `N_RESAMPLES` bootstrap samples, drawn with a fixed seed within each cell and method.

    Args:
        cells: at least `MIN_VALUES` values on each side.
        confidence: of the interval.

    Raises:
        ValueError: if a cell has too few values.
    """
    pairs = _checked(cells)
    generator = np.random.default_rng(SEED)
    value, resampled = 0.0, np.zeros(N_RESAMPLES)
    for x, y in ((rounded(first), rounded(second)) for first, second in pairs):
        wins = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
        value += float(wins.mean()) / len(pairs)
        # how often each value is drawn
        drawn = [generator.multinomial(len(v), [1 / len(v)] * len(v), N_RESAMPLES) / len(v) for v in (x, y)]
        resampled += ((drawn[0] @ wins) * drawn[1]).sum(axis=1) / len(pairs)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, float(low), float(high), BOOTSTRAP)


def average_difference(cells: Samples, confidence: float = 0.95) -> Estimate:
    """Returns the mean over cells of mean x - mean y, each cell counting the same, with a t interval.

    Args:
        cells: at least `MIN_VALUES` values on each side.
        confidence: of the interval.

    Raises:
        ValueError: if a cell has too few values.
    """
    pairs = _checked(cells)
    value = average(np.array([average(x) - average(y) for x, y in pairs]))
    samples = [sample for pair in pairs for sample in pair]
    errors = [deviation(sample) / len(sample) ** 0.5 for sample in samples]  # of each mean
    error = math.hypot(*errors)
    if error == 0:
        return Estimate(value, value, value, NO_SPREAD)
    degrees = 1 / sum((one / error) ** 4 / (len(sample) - 1) for one, sample in zip(errors, samples, strict=True))
    half = float(stats.t.ppf((1 + confidence) / 2, degrees) * error / len(pairs))
    return Estimate(value, value - half, value + half, SATTERTHWAITE)


def _checked(cells: Samples) -> list[tuple[Values, Values]]:
    pairs = [(checked(x, "x"), checked(y, "y")) for x, y in cells]
    fewest = min((min(len(x), len(y)) for x, y in pairs), default=0)
    if fewest < MIN_VALUES:
        raise ValueError(f"a cell must have at least {MIN_VALUES} values of each method, got {fewest}; leave it out")
    return pairs
