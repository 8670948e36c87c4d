"""What the seeds of a sweep can show: the smallest difference between two methods that is found with 80 % power.

Two normal methods of equal spread; Mann-Whitney at the level that the correction for the family's first claim leaves
(Holm: alpha / m). A difference of d standard deviations is A12 = Phi(d / sqrt 2).
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from l2t_ray.config import Run
from l2t_ray.ledger.entries import Entry

ALPHA, POWER = 0.05, 0.8
LEAST_SEEDS = 5  # fewer get no test
SIMULATED_BELOW = 100  # seeds; from there on Noether's formula (1987) alone, within 1 %
N_SIMULATIONS, N_STEPS = 1_000, 5


@dataclass(frozen=True)
class Detectable:
    """What so many seeds a method can show.

    Attributes:
        n_seeds: of each of the two methods.
        n_comparisons: m, of the family: every pair of methods in every condition.
        alpha: 0.05 / m.
        a12: the smallest that is found with 80 % power; None with too few seeds.
        sds: the same as a difference of means, in standard deviations.
        sd_percent: of one run's test accuracy within its cell, pooled over the ledger's runs; None with too few.
        accuracy_points: `sds` by `sd_percent`.
    """

    n_seeds: int
    n_comparisons: int
    alpha: float
    a12: float | None
    sds: float | None
    sd_percent: float | None
    accuracy_points: float | None


def detectable(runs: Mapping[str, Run], cells: Mapping[str, str], entries: Iterable[Entry]) -> Detectable | None:
    """What a sweep can show once all its runs are finished.

    Args:
        runs: wanted, by key.
        cells: key to cell.
        entries: of the ledger, for the spread.

    Returns:
        For the smallest number of seeds that a compared cell has; None where no condition has two methods.
    """
    counts: dict[str, int] = defaultdict(int)
    for key in runs:
        counts[cells[key]] += 1
    conditions: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for cell in counts:
        data, samples, _, *variant = cell.split("/")
        conditions[data, samples, *variant].append(cell)
    compared = [members for members in conditions.values() if len(members) > 1]
    if not compared:
        return None
    n_seeds = min(counts[cell] for members in compared for cell in members)
    m = sum(math.comb(len(members), 2) for members in compared)
    alpha = ALPHA / m
    sds = smallest_difference(n_seeds, alpha)
    spread = spread_percent(runs, cells, entries)
    a12 = None if sds is None else statistics.NormalDist().cdf(sds / math.sqrt(2))
    return Detectable(n_seeds, m, alpha, a12, sds, spread, None if sds is None or spread is None else sds * spread)


def smallest_difference(n_seeds: int, alpha: float) -> float | None:
    """The smallest difference of means that Mann-Whitney finds with 80 % power.

    Args:
        n_seeds: of each method.
        alpha: the threshold of the two-sided p.

    Returns:
        In standard deviations of one run; None where no difference is found that often.
    """
    if n_seeds < LEAST_SEEDS or 2 / math.comb(2 * n_seeds, n_seeds) >= alpha:
        return None  # not even two methods that never overlap get so small a p
    normal = statistics.NormalDist()
    z = normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(POWER)
    a12 = min(0.999, 0.5 + z / math.sqrt(6 * n_seeds))  # Noether: n = z^2 / (6 (A12 - 1/2)^2)
    guess = math.sqrt(2) * normal.inv_cdf(a12)
    if n_seeds >= SIMULATED_BELOW:
        return guess
    from l2t_ray.statistics.power import mann_whitney_power  # heavy: SciPy

    def is_found(difference: float) -> bool:
        return mann_whitney_power(difference, (1.0, 1.0), n_seeds, alpha=alpha, n_simulations=N_SIMULATIONS) >= POWER

    low, high = 0.7 * guess, 1.3 * guess
    while is_found(low):
        low, high = low / 1.5, low
    while not is_found(high):
        low, high = high, 1.5 * high
    for _ in range(N_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_found(middle) else (middle, high)
    return high


def spread_percent(runs: Mapping[str, Run], cells: Mapping[str, str], entries: Iterable[Entry]) -> float | None:
    """The standard deviation of a run's test accuracy within its cell.

    Args:
        runs: wanted, by key.
        cells: key to cell.
        entries: of the ledger.

    Returns:
        Percentage points, pooled over cells; None with fewer than 5 degrees of freedom.
    """
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for entry in entries:
        if entry.status == "FINISHED" and entry.key in runs and "test_accuracy_percent" in entry.metrics:
            values[cells[entry.key]].setdefault(entry.key, entry.metrics["test_accuracy_percent"])
    several = [list(found.values()) for found in values.values() if len(found) > 1]
    freedom = sum(len(found) - 1 for found in several)
    if freedom < LEAST_SEEDS:
        return None
    return math.sqrt(sum(statistics.variance(found) * (len(found) - 1) for found in several) / freedom)
