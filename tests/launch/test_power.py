"""The smallest difference that a sweep's seeds can show."""

import math
import statistics

import pytest

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.launch.power import detectable, pooled_sd, smallest_difference
from l2t_ray.ledger.entries import Entry
from l2t_ray.statistics.power import mann_whitney_power


def make_runs(methods, n_seeds, samples=(5,)):
    registry.load()
    found, cells = {}, {}
    for method in methods:
        for number in samples:
            for seed in range(n_seeds):
                data = {"name": "digits", "samples_per_class": number}
                run = Run.model_validate({"data": data, "method": method, "seed": seed})
                found[run.key], cells[run.key] = run, f"digits/{number}/{method}"
    return found, cells


# simulated power of 30 against 30 normal values (20,000 repetitions of SciPy's asymptotic mannwhitneyu):
# at 0.05 d = 0.75 is found with 80 %, at 0.05 / 7 d = 1 with 83 %, at 0.05 / 28 with 67 %
@pytest.mark.parametrize(("alpha", "low", "high"), [(0.05, 0.70, 0.80), (0.05 / 7, 0.9, 1.0), (0.05 / 28, 1.0, 1.2)])
def test_thirty_seeds_show_what_simulation_says(alpha, low, high):
    found = smallest_difference(30, alpha)
    assert low < found < high
    assert mann_whitney_power(found, (1.0, 1.0), 30, alpha=alpha, n_simulations=4000) == pytest.approx(0.8, abs=0.04)


def test_the_formula_for_many_seeds_agrees_with_simulation():
    found = smallest_difference(100, 0.01)
    assert mann_whitney_power(found, (1.0, 1.0), 100, alpha=0.01, n_simulations=4000) == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize(("n_seeds", "alpha"), [(1, 0.05), (3, 0.05), (4, 0.05), (5, 0.05 / 28)])
def test_too_few_seeds_show_nothing(n_seeds, alpha):
    assert smallest_difference(n_seeds, alpha) is None


# 5 against 5 without overlap: exact p = 2 / 252 = 0.0079, normal p = 0.0122, which is above 0.0100
@pytest.mark.parametrize(
    ("n_seeds", "alpha"),
    [(5, 0.05), (5, 0.01), (6, 0.005), (7, 0.05 / 28), (8, 0.05 / 100), (10, 0.05 / 1000), (49, 0.001), (50, 0.001)],
)
def test_the_smallest_difference_is_found_in_four_of_five_studies_and_a_smaller_one_is_not(n_seeds, alpha):
    found = smallest_difference(n_seeds, alpha)
    at, below = (mann_whitney_power(d, (1.0, 1.0), n_seeds, alpha=alpha, n_simulations=4000)
                 for d in (found, 0.9 * found))  # fmt: skip
    assert at == pytest.approx(0.8, abs=0.04)
    assert below < at - 0.05


def test_the_level_is_corrected_for_every_pair_of_methods_in_every_condition():
    runs, cells = make_runs(["scratch", "ufm", "l2t_ww"], 6, samples=(5, 10))
    found = detectable(runs, cells, [])
    assert (found.n_seeds, found.n_comparisons, found.alpha) == (6, 6, 0.05 / 6)
    assert found.a12 == pytest.approx(statistics.NormalDist().cdf(found.sds / math.sqrt(2)))
    assert (found.sd_percent, found.accuracy_points) == (None, None)
    assert detectable(*make_runs(["scratch"], 6), []) is None


def test_the_spread_is_pooled_within_cells():
    runs, cells = make_runs(["scratch", "ufm"], 4)
    values = dict(zip(runs, [50.0, 52.0, 54.0, 56.0, 80.0, 80.0, 81.0, 81.0], strict=True))

    def entry(key, value):
        return Entry("id", "s", "FINISHED", 0, {"kind": "run", "key": key}, {"test_accuracy_percent": value})

    entries = [entry(key, value) for key, value in values.items()]
    pooled = math.sqrt((3 * statistics.variance([50, 52, 54, 56]) + 3 * statistics.variance([80, 80, 81, 81])) / 6)
    assert pooled_sd(runs, cells, entries) == pytest.approx(pooled)
    assert pooled_sd(runs, cells, entries[:5]) is None
