"""The smallest difference between two methods that a sweep's seeds can find with 80 % power.

Two normal methods of equal spread; Mann-Whitney at the level that the correction for the family's first claim leaves
(Holm: alpha / m). A difference of d standard deviations is A12 = Phi(d / sqrt 2).
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from l2t_ray.ledger.entries import Entry
from l2t_ray.ledger.limits import safe_name
from l2t_ray.run import ACCURACY, AnyRun, Metric

ALPHA, POWER = 0.05, 0.8
LEAST_SEEDS = 5  # with fewer there is no test
SIMULATED_BELOW = 100  # seeds; above, Noether's formula (1987) alone is within 1 %
N_SIMULATIONS, N_STEPS = 1_000, 5


@dataclass(frozen=True)
class Detectable:
    """The smallest difference that a number of seeds can show."""

    n_seeds: int  # of each of the two methods
    n_comparisons: int  # m: every pair of methods in every condition
    alpha: float  # 0.05 / m
    a12: float | None  # the smallest A12 found with 80 % power; None with too few seeds
    sds: float | None  # the same as a difference of means, in standard deviations
    sd: float | None  # of one run's metric within its cell, pooled over the ledger's runs; None with too few
    difference: float | None  # `sds` by `sd`, in the metric's unit
    metric: str = ACCURACY.name
    sd_percent: float | None = None  # `sd` of test accuracies
    accuracy_points: float | None = None  # `difference` of test accuracies


def detectable(
    runs: Mapping[str, AnyRun], cells: Mapping[str, str], entries: Iterable[Entry], metric: Metric = ACCURACY
) -> Detectable | None:
    """What a finished sweep can show of a metric, with the fewest seeds of a compared cell; None if nothing is."""
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
    sd = pooled_sd(runs, cells, entries, metric)
    a12 = None if sds is None else statistics.NormalDist().cdf(sds / math.sqrt(2))
    found = Detectable(n_seeds, m, alpha, a12, sds, sd, None if sds is None or sd is None else sds * sd, metric.name)
    return found if metric != ACCURACY else replace(found, sd_percent=found.sd, accuracy_points=found.difference)


def smallest_difference(n_seeds: int, alpha: float) -> float | None:
    """The smallest difference, in standard deviations, that Mann-Whitney finds with 80 % power; None if none."""
    if n_seeds < LEAST_SEEDS or 2 / math.comb(2 * n_seeds, n_seeds) >= alpha:
        return None  # even methods whose accuracies never overlap get no smaller p
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


def pooled_sd(
    runs: Mapping[str, AnyRun], cells: Mapping[str, str], entries: Iterable[Entry], metric: Metric = ACCURACY
) -> float | None:
    """The pooled standard deviation of a metric within cells, in its unit; None below 5 degrees of freedom."""
    name = safe_name(metric.name)
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for entry in entries:
        if entry.status == "FINISHED" and entry.key in runs and name in entry.metrics:
            values[cells[entry.key]].setdefault(entry.key, entry.metrics[name])
    several = [list(found.values()) for found in values.values() if len(found) > 1]
    freedom = sum(len(found) - 1 for found in several)
    if freedom < LEAST_SEEDS:
        return None
    return math.sqrt(sum(statistics.variance(found) * (len(found) - 1) for found in several) / freedom)
