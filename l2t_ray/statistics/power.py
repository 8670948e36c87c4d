"""The chance to find a difference, and the number of seeds that takes, by simulation from the observed spread.

Power is computed for differences that matter, not for the observed one: that would only restate the p-value.
"""

import math
from functools import partial

import numpy as np
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
    generator = np.random.default_rng([SEED, n])
    exact = n < EXACT_BELOW and min(sds) > 0  # as `mann_whitney` chooses: normal values have no ties
    test = partial(stats.mannwhitneyu, method="exact" if exact else "asymptotic", use_continuity=True)
    simulated = stats.power(
        lambda x, y, axis=-1: test(x, y, axis=axis).pvalue,
        [partial(generator.normal, difference, sds[0]), partial(generator.normal, 0.0, sds[1])],
        (n, n),
        significance=alpha,
        vectorized=True,
        n_resamples=n_simulations,
    )
    return float(simulated.power)


def needed_seeds(difference: float, sds: tuple[float, float], *, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """Returns the fewest seeds a method with which Mann-Whitney finds a difference; None above 1,000.

    By simulation; above 200 seeds by Noether's formula (1987), which is within 3 % there.

    Args:
        difference: of the means; other than 0.
        sds: standard deviation of one run of each method.
        power: the chance to find it.
        alpha: the threshold of the two-sided p.
    """
    if max(sds) == 0:
        return MIN_SEEDS
    z = float(stats.norm.isf(alpha / 2) + stats.norm.ppf(power))
    guess = (sds[0] ** 2 + sds[1] ** 2) * z**2 / difference**2 * math.pi / 3  # 3 / pi: the efficiency at normal values
    if guess > FORMULA_ABOVE:
        return math.ceil(guess) if guess <= MOST_SEEDS else None
    if guess > SEARCHED_BELOW:
        # one simulation at the formula's n corrects it: power = Phi(slope sqrt(n) - z_(1 - alpha / 2))
        n = math.ceil(guess)
        simulated = mann_whitney_power(difference, sds, n, alpha=alpha, n_simulations=N_SEARCH)
        found = float(stats.norm.ppf(min(simulated, 1 - 1 / N_SEARCH)) + stats.norm.isf(alpha / 2))
        return math.ceil(n * (z / found) ** 2)
    low, high = max(MIN_SEEDS, math.floor(guess * 0.8)), max(MIN_SEEDS, math.ceil(guess * 1.25))
    while mann_whitney_power(difference, sds, high, alpha=alpha, n_simulations=N_SEARCH) < power:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        if mann_whitney_power(difference, sds, middle, alpha=alpha, n_simulations=N_SEARCH) >= power:
            high = middle
        else:
            low = middle + 1
    return high
