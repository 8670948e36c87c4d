"""Average ranks against R and Demsar's paper; level by simulation."""

import numpy as np
import pytest

from l2t_ray.statistics.ranks import Ranks, average_ranks

# R 4.2.2: friedman.test(matrix(c(...), byrow = TRUE, ncol = 4)) of these rows
ROWS = [[30, 32, 35, 36], [40, 41, 45, 44], [22, 25, 24, 28], [61, 60, 66, 67], [50, 55, 56, 56]]
R_FRIEDMAN = (11.4489795918367, 0.00953006489029747)
# R 4.2.2: qtukey(0.95, 2:10, Inf) / sqrt(2); Demsar 2006, Table 5 (a), prints the same with three digits
R_Q = [1.95996398476621, 2.34370058790214, 2.56903177742073, 2.72777438251855, 2.84970544327129, 2.94832006072218,
       3.03087852259520, 3.10173045750856, 3.16368375350279]  # fmt: skip
# Demsar 2006, Table 6: AUC of C4.5 without and with tuning of m, of cf, and of both, on 14 data sets
DEMSAR = [
    [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
]  # fmt: skip


def test_friedmans_test_is_as_in_r():
    found = average_ranks(ROWS)
    assert (found.statistic, found.p) == pytest.approx(R_FRIEDMAN, rel=1e-9)
    assert found.means == pytest.approx((3.8, 3.0, 1.9, 1.3))


def test_demsars_example_has_his_ranks_and_critical_difference():
    # Demsar 2006, 3.2.2: average ranks 3.143, 2.000, 2.893, 1.964; CD 1.25 at 0.05; chi-squared 9.28 without ties
    found = average_ranks(DEMSAR)
    assert found.means == pytest.approx((3.143, 2.000, 2.893, 1.964), abs=5e-4)
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    assert average_ranks(DEMSAR, alpha=0.1).critical_difference == pytest.approx(1.12, abs=0.005)
    ranks = np.array(found.means)
    assert 12 * 14 / (4 * 5) * ((ranks**2).sum() - 4 * 25 / 4) == pytest.approx(9.28, abs=0.005)
    assert found.statistic > 9.28  # SciPy corrects for ties


@pytest.mark.parametrize("k", range(3, 11))
def test_the_critical_difference_is_nemenyis(k):
    found = average_ranks(np.arange(6 * k).reshape(6, k))
    # R stops its own search at 1e-7
    assert found.critical_difference == pytest.approx(R_Q[k - 2] * (k * (k + 1) / 36) ** 0.5, rel=1e-6)


def test_the_best_is_the_highest_or_the_lowest_as_asked():
    assert average_ranks(np.negative(ROWS), is_lower_better=True) == average_ranks(ROWS)


def test_equal_methods_share_a_rank_and_have_p_1():
    found = average_ranks([[1.0, 1.0, 1.0]] * 4)
    assert (found.means, found.p) == ((2.0, 2.0, 2.0), 1.0)


def test_groups_are_the_longest_runs_within_the_critical_difference():
    assert average_ranks(ROWS).groups == [(3, 2, 1), (2, 1, 0)]
    far = Ranks((1.0, 3.0, 2.0), 50, 90.0, 0.0, 0.4)
    assert far.groups == []
    near = Ranks((1.0, 3.0, 2.0), 3, 6.0, 0.05, 1.9)
    assert near.groups == [(0, 2), (2, 1)]


@pytest.mark.parametrize("rows", [ROWS[:2], [row[:2] for row in ROWS], [1.0, 2.0]])
def test_too_few_cells_or_methods_are_refused(rows):
    with pytest.raises(ValueError, match="values must be of 3 cells and 3 methods or more"):
        average_ranks(rows)


def test_a_cell_without_a_result_is_refused():
    with pytest.raises(ValueError, match="values must be finite; leave out a cell"):
        average_ranks([*ROWS, [1.0, 2.0, np.nan, 3.0]])


@pytest.mark.slow
@pytest.mark.parametrize(("n_cells", "n_methods"), [(3, 3), (3, 4), (5, 4), (15, 4), (15, 10)])
def test_friedmans_test_and_nemenyis_difference_keep_their_level(n_cells, n_methods):
    draws = np.random.default_rng(n_cells)
    found = [average_ranks(draws.normal(size=(n_cells, n_methods))) for _ in range(2_000)]
    friedman = np.mean([item.p < 0.05 for item in found])
    nemenyi = np.mean([np.ptp(item.means) > item.critical_difference for item in found])
    print(f"{n_cells} cells, {n_methods} methods: Friedman {friedman:.2%}, Nemenyi {nemenyi:.2%}")
    assert max(friedman, nemenyi) < 0.05 + 3 * 0.005  # standard error of a share near 0.05 of 2,000
