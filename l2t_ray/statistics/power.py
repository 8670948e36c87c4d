"""The chance to find a difference, and the number of seeds that takes, by simulation from the observed spread.

Power is computed for differences that matter, not for the observed one: that would only restate the p-value.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from l2t_ray.statistics.hypothesis import EXACT_BELOW, MIN_SEEDS, SEED

N_SIMULATIONS = 2_000
N_SEARCH = 1_000
SEARCHED_BELOW, FORMULA_ABOVE = 15, 200  # seeds: p of few seeds has steps, of many the formula is enough
MOST_SEEDS = 1_000


def mann_whitney_power(
    difference: float, sds: tuple[float, float], n: int, *, alpha: float = 0.05, n_simulations: int = N_SIMULATIONS
) -> float:
    """Returns the chance, 0 to 1, that Mann-Whitney finds a difference between two normal methods.

    Args:
        difference: of the means.
        sds: standard deviation of one run of each method.
        n: seeds a method.
        alpha: the threshold of the two-sided p.
        n_simulations: the error of the result is at most 0.5 / sqrt(n_simulations).
    """
    if max(sds) == 0:
        return float(difference != 0 and n >= MIN_SEEDS)
    exact = n < EXACT_BELOW and min(sds) > 0  # as `mann_whitney` chooses: normal values have no ties
    test = partial(stats.mannwhitneyu, method="exact" if exact else "asymptotic", use_continuity=True)
    return _simulated(lambda x, y, axis=-1: test(x, y, axis=axis).pvalue, difference, sds, n, alpha, n_simulations)


def brunner_munzel_power(
    difference: float, sds: tuple[float, float], n: int, *, alpha: float = 0.05, n_simulations: int = N_SIMULATIONS
) -> float:
    """Returns the chance that Brunner and Munzel's test finds it; arguments as `mann_whitney_power`.

    The t approximation stands for the permutations below 10 values, too, but no p is below theirs, 2 / C(2n, n).
    """
    if max(sds) == 0:
        return float(difference != 0 and n >= MIN_SEEDS)
    return _simulated(_brunner_munzel_p, difference, sds, n, alpha, n_simulations)


def _simulated(
    p: Callable[..., Any], difference: float, sds: tuple[float, float], n: int, alpha: float, n_simulations: int
) -> float:
    generator = np.random.default_rng([SEED, n])
    simulated = stats.power(
        p,
        [partial(generator.normal, difference, sds[0]), partial(generator.normal, 0.0, sds[1])],
        (n, n),
        significance=alpha,
        vectorized=True,
        n_resamples=n_simulations,
    )
    return float(simulated.power)


def _brunner_munzel_p(x: NDArray[np.float64], y: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """The two-sided p of many pairs of samples of n values each, a pair a row: the t approximation."""
    n = x.shape[axis]
    both = stats.rankdata(np.concatenate([x, y], axis=axis), axis=axis)
    shares = [(rank - stats.rankdata(own, axis=axis)) / n
              for rank, own in zip(np.split(both, 2, axis=axis), (x, y), strict=True)]  # fmt: skip
    errors = [share.var(axis=axis, ddof=1) / n for share in shares]
    variance, distance = errors[0] + errors[1], np.abs(shares[0].mean(axis=axis) - 0.5)
    least = 2 / math.comb(2 * n, n)  # of the permutations: samples that do not overlap, and have no variance
    has_spread = variance > 0
    squares = np.where(has_spread, errors[0] ** 2 + errors[1] ** 2, 1.0)
    degrees = np.where(has_spread, (n - 1) * variance**2 / squares, 1.0)
    t = distance / np.sqrt(np.where(has_spread, variance, 1.0))
    found: NDArray[np.float64] = np.where(has_spread, np.maximum(2 * stats.t.sf(t, degrees), least), least)
    return found


def needed_seeds(
    difference: float, sds: tuple[float, float], *, power: float = 0.8, alpha: float = 0.05, is_unlike: bool = False
) -> int | None:
    """Returns the fewest seeds a method with which the deciding test finds a difference; None above 1,000.

    By simulation; above 200 seeds by Noether's formula (1987), which is within 3 % there.

    Args:
        difference: of the means; other than 0.
        sds: standard deviation of one run of each method.
        power: the chance to find it.
        alpha: the threshold of the two-sided p.
        is_unlike: whether Brunner and Munzel's test decides, and not Mann-Whitney's.
    """
    if max(sds) == 0:
        return MIN_SEEDS
    chance = brunner_munzel_power if is_unlike else mann_whitney_power
    z = float(stats.norm.isf(alpha / 2) + stats.norm.ppf(power))
    sd = math.hypot(*sds)
    ratio = sd / abs(difference)  # a product, unlike a power, may overflow to infinity
    # the variance of P(X > Y) is (asin of each share of sd^2) / (2 pi n): pi / 3 for equal spreads, as Noether's
    efficiency = sum(math.asin((one / sd) ** 2) for one in sds) if is_unlike else math.pi / 3
    guess = ratio * ratio * z**2 * efficiency
    if not guess <= FORMULA_ABOVE:  # also nan, of spreads near the largest number
        return math.ceil(guess) if guess <= MOST_SEEDS else None
    if guess > SEARCHED_BELOW:
        # one simulation at the formula's n corrects it: power = Phi(slope sqrt(n) - z_(1 - alpha / 2))
        n = math.ceil(guess)
        simulated = chance(difference, sds, n, alpha=alpha, n_simulations=N_SEARCH)
        found = float(stats.norm.ppf(min(simulated, 1 - 1 / N_SEARCH)) + stats.norm.isf(alpha / 2))
        return math.ceil(n * (z / found) ** 2)
    low, high = max(MIN_SEEDS, math.floor(guess * 0.8)), max(MIN_SEEDS, math.ceil(guess * 1.25))
    while chance(difference, sds, high, alpha=alpha, n_simulations=N_SEARCH) < power:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        if chance(difference, sds, middle, alpha=alpha, n_simulations=N_SEARCH) >= power:
            high = middle
        else:
            low = middle + 1
    return high
