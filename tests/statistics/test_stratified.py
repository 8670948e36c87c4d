"""One answer over several cells against R, every relabelling and identities; level and coverage by simulation."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from l2t_ray.statistics import stratified
from l2t_ray.statistics.effect import a12, mean_difference
from l2t_ray.statistics.stratified import average_difference, mean_a12, van_elteren

X = [20.1, 22.4, 19.7, 25.3, 24.8, 21.9, 23.3]
Y = [18.2, 19.9, 17.5, 21.0, 20.6, 22.0]
TIED_X = [41.2, 40.8, 41.2, 43.0, 42.5, 41.9, 40.1, 42.5]
TIED_Y = [40.8, 39.9, 41.2, 40.1, 38.7, 40.5, 41.0]
CELLS = [(X, Y), (TIED_X, TIED_Y)]

# R 4.2.2, coin 1.4.2, d with columns y, g (x first) and b (the cell):
# t <- independence_test(y ~ g | b, data = d, ytrafo = function(data)
#   trafo(data, numeric_trafo = function(y) rank(y) / (length(y) + 1), block = d$b)); statistic(t); pvalue(t)
R_VAN_ELTEREN = (2.97010810739724, 0.00297694965848083)
# wilcox_test(y ~ g, data = d[d$b == 1, ]): one cell, where the weight does not matter
R_ONE_CELL = (1.85714285714286, 0.0632908322333452)
# s <- list(X, Y, TX, TY); n <- lengths(s); v <- sapply(s, var) / n; df <- sum(v)^2 / sum(v^2 / (n - 1))
# d <- (mean(X) - mean(Y) + mean(TX) - mean(TY)) / 2; d + c(-1, 1) * qt(.975, df) * sqrt(sum(v)) / 2
# (nlme: gls(y ~ 0 + c, weights = varIdent(form = ~ 1 | c)) has the same error of the contrast, 0.587003)
R_DIFFERENCE = (1.98452380952381, 0.734766915525761, 3.234280703521854)


def test_van_elterens_test_is_as_in_r():
    found = van_elteren(CELLS)
    assert (found.statistic, found.p) == pytest.approx(R_VAN_ELTEREN, rel=1e-9)
    assert found.n == (15, 13)


def test_in_one_cell_van_elterens_test_is_the_mann_whitney_test_without_continuity_correction():
    found = van_elteren([(X, Y)])
    assert (found.statistic, found.p) == pytest.approx(R_ONE_CELL, rel=1e-9)
    assert found.p == pytest.approx(
        stats.mannwhitneyu(X, Y, use_continuity=False, method="asymptotic").pvalue, rel=1e-12
    )


def test_the_variance_is_that_of_every_relabelling_within_cells():
    cells = [([1.0, 2.0, 2.0], [2.0, 3.0, 5.0]), ([4.0, 8.0, 9.0], [8.0, 7.0, 1.0, 1.0])]

    def distances(x, y):
        ranks = stats.rankdata([*x, *y])
        return [sum(ranks[list(some)] - ranks.mean()) / (len(ranks) + 1)
                for some in combinations(range(len(ranks)), len(x))]  # fmt: skip

    every = [sum(parts) for parts in product(*(distances(*cell) for cell in cells))]
    observed = every[0]  # the first relabelling is the one at hand
    assert van_elteren(cells).statistic == pytest.approx(observed / np.std(every), rel=1e-12)
    assert np.mean(every) == pytest.approx(0, abs=1e-12)


def test_exchanged_methods_have_the_opposite_answer():
    swapped = [(y, x) for x, y in CELLS]
    one, other = van_elteren(CELLS), van_elteren(swapped)
    assert (one.p, one.statistic) == pytest.approx((other.p, -other.statistic), rel=1e-12)
    assert mean_a12(swapped).value == pytest.approx(1 - mean_a12(CELLS).value)
    assert average_difference(swapped).high == pytest.approx(-average_difference(CELLS).low)


def test_a_cells_level_and_unit_do_not_change_the_ranks():
    moved = [(X, Y), ([2 * v + 70 for v in TIED_X], [2 * v + 70 for v in TIED_Y])]
    assert van_elteren(moved) == van_elteren(CELLS)
    assert mean_a12(moved) == mean_a12(CELLS)


def test_cells_of_equal_values_have_p_1_and_change_nothing_beside_others():
    assert van_elteren([([1.0] * 3, [1.0] * 4)]).p == 1.0
    assert van_elteren([*CELLS, ([1.0] * 3, [1.0] * 4)]).p == van_elteren(CELLS).p
    same = average_difference([([2.0] * 3, [1.0] * 3)] * 2)
    assert (same.value, same.low, same.high) == (1, 1, 1)


def test_the_mean_difference_over_cells_is_as_in_r_and_welchs_in_one_cell():
    found = average_difference(CELLS)
    assert (found.value, found.low, found.high) == pytest.approx(R_DIFFERENCE, rel=1e-9)
    one, welch = average_difference([(X, Y)]), mean_difference(X, Y)
    assert (one.low, one.high) == pytest.approx((welch.low, welch.high), rel=1e-9)


def test_the_mean_a12_is_that_of_the_cells_with_the_interval_of_redrawn_values():
    found = mean_a12(CELLS)
    assert found.value == pytest.approx((a12(X, Y).value + a12(TIED_X, TIED_Y).value) / 2)
    draws = np.random.default_rng(0)
    slow = [np.mean([a12(draws.choice(x, len(x)), draws.choice(y, len(y))).value for x, y in CELLS])
            for _ in range(2_000)]  # fmt: skip
    assert (found.low, found.high) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.02)
    assert mean_a12(CELLS) == found  # the same bytes every time


@pytest.mark.parametrize("function", [van_elteren, mean_a12, average_difference])
def test_a_cell_with_too_few_values_is_refused(function):
    with pytest.raises(ValueError, match="at least 3 values of each method, got 2; leave it out"):
        function([(X, Y), ([1.0, 2.0], [1.0, 2.0, 3.0])])
    with pytest.raises(ValueError, match="at least 3 values"):
        function([])


def cells_of(draws, n_cells, n, difference=0.0, decimals=6):
    """Normal values: cells of very different means, and spreads from 0.5 to 2."""
    spreads = np.linspace(0.5, 2, n_cells)
    return [
        (np.round(draws.normal(30 * k + difference * sd, sd, n), decimals),
         np.round(draws.normal(30 * k, sd, n), decimals))
        for k, sd in enumerate(spreads)
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("decimals", [6, 0], ids=["no ties", "ties"])
@pytest.mark.parametrize(("n_cells", "n"), [(2, 3), (2, 5), (5, 3), (5, 5), (15, 10)])
def test_van_elterens_test_keeps_its_level(n_cells, n, decimals):
    draws = np.random.default_rng(n)
    p = np.array([van_elteren(cells_of(draws, n_cells, n, decimals=decimals)).p for _ in range(4_000)])
    print(f"van Elteren, {n_cells} cells, n = {n}, {decimals} decimals: {(p < 0.05).mean():.2%}")
    assert (p < 0.05).mean() < 0.05 + 3 * 0.0035  # standard error of a share near 0.05 of 4,000


@pytest.mark.slow
@pytest.mark.parametrize(("n_cells", "n", "least"), [(5, 3, 0.85), (5, 5, 0.90), (5, 10, 0.92), (15, 30, 0.93)])
@pytest.mark.parametrize("difference", [0.0, 1.0])
def test_the_interval_of_the_mean_a12_holds_the_truth(monkeypatch, n_cells, n, least, difference):
    monkeypatch.setattr(stratified, "N_RESAMPLES", 1_000)
    draws, truth = np.random.default_rng(n), stats.norm.cdf(difference / 2**0.5)
    found = [mean_a12(cells_of(draws, n_cells, n, difference)) for _ in range(1_000)]
    share = np.mean([item.low <= truth <= item.high for item in found])
    print(f"mean A12, {n_cells} cells, n = {n}, d = {difference}: {share:.1%}")
    assert share > least


@pytest.mark.slow
@pytest.mark.parametrize(("n_cells", "n"), [(2, 3), (5, 3), (5, 5), (5, 10), (15, 30)])
def test_the_interval_of_the_mean_difference_holds_the_truth(n_cells, n):
    draws, truth = np.random.default_rng(n), np.linspace(0.5, 2, n_cells).mean()
    found = [average_difference(cells_of(draws, n_cells, n, 1.0)) for _ in range(4_000)]
    share = np.mean([item.low <= truth <= item.high for item in found])
    print(f"mean difference, {n_cells} cells, n = {n}: {share:.1%}")
    assert 0.95 - 3 * 0.0035 < share < 0.975  # with 3 values a little too wide, as Welch's own interval
