"""The tests of hypotheses against R, the 1947 paper and identities."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from l2t_ray.statistics.hypothesis import brunner_munzel, equivalence, mann_whitney, permutation_p, seed_list, wilcoxon
from l2t_ray.statistics.means import half_width, mean_interval, spread

X = [20.1, 22.4, 19.7, 25.3, 24.8, 21.9, 23.3]
Y = [18.2, 19.9, 17.5, 21.0, 20.6, 22.0]
TIED_X = [41.2, 40.8, 41.2, 43.0, 42.5, 41.9, 40.1, 42.5]
TIED_Y = [40.8, 39.9, 41.2, 40.1, 38.7, 40.5, 41.0]

# R 4.2.2, options(digits = 15), X, Y, TX, TY as above:
R_EXACT = (34, 0.0734265734265734)  # wilcox.test(X, Y)
R_TIED = (48, 0.0231515546376316)  # wilcox.test(TX, TY)
R_PAIRED = (20, 0.0625)  # wilcox.test(X[1:6], Y, paired = TRUE)
R_PAIRED_TIED = (18.5, 0.114849609263286)  # wilcox.test(TX[1:7], TY, paired = TRUE)
R_HALF_WIDTH = 1.98859758447871  # diff(t.test(X)$conf.int) / 2


def by_seed(values):
    return dict(enumerate(values))


def test_a_nan_is_refused_with_its_place():
    with pytest.raises(ValueError, match="y must be finite, got nan at 1; list such a run as missing"):
        mann_whitney(X, [1.0, math.nan, 2.0])


def test_fewer_than_five_seeds_get_no_p_and_say_why():
    found = mann_whitney([1, 2, 3], [4, 5, 6])
    assert found.p is None
    assert found.note == "3 against 3 seeds; a p needs at least 5 each"
    assert brunner_munzel([1, 2, 3, 4, 5], [4, 5, 6]).p is None
    assert wilcoxon({0: 1.0}, {0: 2.0}).p is None


def test_mann_whitney_is_exact_without_ties_as_in_r():
    found = mann_whitney(X, Y)
    assert (found.method, found.statistic) == ("exact", R_EXACT[0])
    assert found.p == pytest.approx(R_EXACT[1], rel=1e-9)


def test_mann_whitney_with_ties_is_normal_with_corrections_as_in_r():
    found = mann_whitney(TIED_X, TIED_Y)
    assert found.statistic == R_TIED[0]
    assert found.p == pytest.approx(R_TIED[1], rel=1e-9)
    assert found.method == "normal, tie and continuity correction"


def test_a_p_near_the_threshold_is_cross_checked_by_permutation():
    found = mann_whitney(TIED_X, TIED_Y, alpha=0.04)
    # every relabelling: the exact conditional p
    both = np.array(TIED_X + TIED_Y)
    ranks = stats.rankdata(both)
    sums = np.array([ranks[list(chosen)].sum() for chosen in combinations(range(len(both)), len(TIED_X))])
    centre = len(TIED_X) * ranks.mean()
    exact = np.mean(np.abs(sums - centre) >= abs(ranks[: len(TIED_X)].sum() - centre) - 1e-9)
    assert found.permutation_p == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 100_000))
    assert found.note.startswith("permutation gives p = 0.0")


def test_no_cross_check_far_from_the_threshold():
    assert mann_whitney(TIED_X, [value - 5 for value in TIED_X]).permutation_p is None


def test_the_worked_table_of_mann_and_whitney_1947():
    # their Table I: the probability that U is at most the given value, for m = n = 5: U = 2 has 0.016, U = 4 has 0.048
    # (Mann and Whitney, Annals of Mathematical Statistics 18, 1947, p. 52); two-sided is twice that
    x, y = [1, 2, 3, 5, 6], [4, 7, 8, 9, 10]
    found = mann_whitney(x, y)
    assert found.statistic == 2
    assert round(found.p / 2, 3) == 0.016
    x, y = [1, 2, 3, 6, 7], [4, 5, 8, 9, 10]
    found = mann_whitney(x, y)
    assert found.statistic == 4
    assert round(found.p / 2, 3) == 0.048


@pytest.mark.parametrize("values", [(5.0,), (5.0, 5.0)], ids=["all seeds equal", "both methods equal"])
def test_without_any_spread_p_is_one(values):
    found = mann_whitney([values[0]] * 6, [values[-1]] * 7)
    assert (found.p, found.note) == (1.0, "all values are equal")
    assert brunner_munzel([5.0] * 6, [5.0] * 6).p == 1.0
    assert wilcoxon(by_seed([5.0] * 6), by_seed([5.0] * 6)).p == 1.0


values = st.lists(st.integers(0, 12).map(lambda k: k / 4), min_size=5, max_size=12)


@settings(max_examples=60, deadline=None)
@given(values, values)
def test_p_does_not_depend_on_the_order_of_methods_or_seeds(x, y):
    there, back = mann_whitney(x, y), mann_whitney(y[::-1], x)
    assert there.p == pytest.approx(back.p, rel=1e-12)
    assert there.statistic + back.statistic == len(x) * len(y)
    assert 0 <= there.p <= 1


@settings(max_examples=60, deadline=None)
@given(values, values)
def test_ranks_alone_matter(x, y):
    assert mann_whitney(np.exp(x), np.exp(y)).p == pytest.approx(mann_whitney(x, y).p, rel=1e-12)


def test_permutation_is_the_same_every_time():
    assert permutation_p(X, Y, n_permutations=2000) == permutation_p(X, Y, n_permutations=2000)


def test_brunner_munzel_reproduces_the_pain_scores():
    # Brunner and Munzel 2000; R: lawstat::brunner.munzel.test(x, y) gives 3.1375, df = 17.683, p-value = 0.005786
    x = [1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 1, 1]
    y = [3, 3, 4, 3, 1, 2, 3, 1, 1, 5, 4]
    found = brunner_munzel(y, x)
    assert found.statistic == pytest.approx(3.1374674823029505, rel=1e-9)
    assert found.p == pytest.approx(0.0057862086661515377, rel=1e-9)


def test_brunner_munzel_of_separate_samples_is_exact():
    # no overlap: 2 of the choose(12, 6) = 924 relabellings are as extreme
    assert brunner_munzel([1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]).p == pytest.approx(2 / 924)


def test_wilcoxon_is_exact_without_ties_as_in_r():
    found = wilcoxon(by_seed(X[:6]), by_seed(Y))
    assert (found.method, found.statistic) == ("exact", R_PAIRED[0])
    assert found.p == pytest.approx(R_PAIRED[1], rel=1e-9)


def test_wilcoxon_with_ties_and_zeros_is_as_in_r():
    found = wilcoxon(by_seed(TIED_X[:7]), by_seed(TIED_Y))
    assert found.statistic == R_PAIRED_TIED[0]
    assert found.p == pytest.approx(R_PAIRED_TIED[1], rel=1e-9)


def test_wilcoxon_pairs_by_seed_not_by_position_and_names_the_rest():
    x = by_seed(X[:6])
    shuffled = dict(reversed(x.items()))
    y = by_seed(Y) | {40: 1.0, 41: 2.0}
    assert wilcoxon(shuffled, y).p == wilcoxon(x, by_seed(Y)).p
    assert wilcoxon(x, y).note == "unpaired seeds left out: 40-41"


def test_seeds_are_listed_in_ranges():
    assert seed_list([0, 1, 2, 3, 7, 9, 10]) == "0-3, 7, 9-10"


def test_the_mean_and_its_interval_are_as_in_r():
    found = mean_interval(X)
    # R: t.test(X): mean 22.5, 95 percent confidence interval, half its width
    assert (found.n, found.mean) == (7, pytest.approx(22.5))
    assert found.half_width == pytest.approx(R_HALF_WIDTH, rel=1e-9)


def test_an_interval_of_one_or_no_value_is_none():
    assert mean_interval([]).mean is None
    assert (mean_interval([3.0]).mean, mean_interval([3.0]).half_width) == (3.0, None)


def test_spread_undoes_half_width():
    assert spread(half_width(2.5, 30), 30) == pytest.approx(2.5, rel=1e-12)
    assert spread(1.0, 30) == pytest.approx(math.sqrt(30) / 2.045, rel=2e-4)  # method.md section 8


@pytest.mark.parametrize(
    ("n_x", "n_y", "method"), [(49, 49, "exact"), (50, 50, "normal"), (49, 50, "normal"), (5, 50, "normal")]
)
def test_mann_whitney_is_exact_below_fifty_values_of_both_sides_as_in_r(n_x, n_y, method):
    # R: wilcox.test: exact <- (n.x < 50) && (n.y < 50) && !TIES
    assert mann_whitney([2.0 * i for i in range(n_x)], [2.0 * i + 1 for i in range(n_y)]).method.startswith(method)


@pytest.mark.parametrize(("alpha", "crossed"), [(0.011, False), (0.012, True), (0.046, True), (0.047, False)])
def test_the_cross_check_reaches_a_factor_of_two_to_both_sides(alpha, crossed):
    # p = 0.02315 (R): within 0.0116 and 0.0463
    assert (mann_whitney(TIED_X, TIED_Y, alpha=alpha).permutation_p is not None) == crossed


@pytest.mark.parametrize(
    ("permuted", "alpha", "told"),
    [(0.03, 0.025, True), (0.02, 0.025, False), (0.02, 0.021, True), (0.03, 0.021, False)],
)
def test_a_cross_check_on_the_other_side_of_alpha_is_told(monkeypatch, permuted, alpha, told):
    monkeypatch.setattr("l2t_ray.statistics.hypothesis.permutation_p", lambda x, y: permuted)
    assert (f"on the other side of {alpha:g}" in mann_whitney(TIED_X, TIED_Y, alpha=alpha).note) == told


def test_a_permutation_p_is_never_zero():
    # Phipson and Smyth 2010: (0 + 1) / (99 + 1)
    assert permutation_p(range(30), range(100, 130), n_permutations=99) == 0.01


@pytest.mark.parametrize(("n", "method"), [(49, "exact"), (50, "normal")])
def test_wilcoxon_is_exact_below_fifty_pairs_as_in_r(n, method):
    differences = {i: (i + 1) * (-1.0) ** i for i in range(n)}
    assert wilcoxon(differences, dict.fromkeys(range(n), 0.0)).method.startswith(method)


def test_a_zero_difference_or_a_tie_hidden_in_the_last_bit_is_no_exact_case():
    zero = wilcoxon({0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0, 4: 6.0, 5: 0.0}, dict.fromkeys(range(6), 0.0))
    assert zero.method.startswith("normal")  # R: exact only without zeros
    # 0.3 - 0.2 is 0.09999999999999998, 1.1 - 1.0 is 0.10000000000000009
    assert equivalence([0.3, 7.0, 8.0, 9.0, 11.0], [0.2, 1.5, 2.0, 3.0, 4.0], 0.1).method.startswith("normal")
    hidden = wilcoxon(by_seed([0.3, 1.1, 1.5, 2.0, 3.0, 4.0]), by_seed([0.2, 1.0, 1.0, 0.0, 0.0, 0.0]))
    assert hidden.method.startswith("normal")
