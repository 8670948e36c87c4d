"""The tests of hypotheses against R, the 1947 paper and identities."""

import math
import warnings
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from l2t_ray.statistics.hypothesis import brunner_munzel, equivalence, mann_whitney, seed_list, wilcoxon
from l2t_ray.statistics.means import half_width, mean_interval, spread
from l2t_ray.statistics.permutation import rank_sum_p

X = [20.1, 22.4, 19.7, 25.3, 24.8, 21.9, 23.3]
Y = [18.2, 19.9, 17.5, 21.0, 20.6, 22.0]
TIED_X = [41.2, 40.8, 41.2, 43.0, 42.5, 41.9, 40.1, 42.5]
TIED_Y = [40.8, 39.9, 41.2, 40.1, 38.7, 40.5, 41.0]

# R 4.2.2, options(digits = 15), X, Y, TX, TY as above:
R_EXACT = (34, 0.0734265734265734)  # wilcox.test(X, Y)
R_TIED = (48, 0.0231515546376316)  # wilcox.test(TX, TY)
R_PAIRED = (20, 0.0625)  # wilcox.test(X[1:6], Y, paired = TRUE)
R_PAIRED_TIED = 18.5  # wilcox.test(TX[1:7], TY, paired = TRUE)$statistic
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


# R 4.2.2, coin 1.4: pvalue(wilcox_test(v ~ g, distribution = "exact", alternative = a)), x as the first group
R_TIES = [
    (TIED_X, TIED_Y, "two-sided", 0.0169386169386169),
    (TIED_X, TIED_Y, "greater", 0.00901320901320901),
    (TIED_X, TIED_Y, "less", 0.993317793317793),
    ([1, 1, 2, 2, 2], [2, 3, 3, 3, 4], "two-sided", 0.0317460317460317),
    ([1, 1, 2, 2, 2], [2, 3, 3, 3, 4], "less", 0.0158730158730159),
]
# set.seed(1); round(rnorm(30) * 2) / 2 and round((rnorm(25) + 0.5) * 2) / 2
R_U = [-0.5, 0, -1, 1.5, 0.5, -1, 0.5, 0.5, 0.5, -0.5, 1.5, 0.5, -0.5, -2, 1, 0, 0, 1, 1, 0.5, 1, 1, 0, -2, 0.5, 0, 0,
       -1.5, -0.5, 0.5]  # fmt: skip
R_V = [2, 0.5, 1, 0.5, -1, 0, 0, 0.5, 1.5, 1.5, 0.5, 0, 1, 1, 0, 0, 1, 1.5, 0.5, 1.5, 1, 0, 1, -0.5, 2]


@pytest.mark.parametrize(
    ("x", "y", "alternative", "p"),
    [*R_TIES, (R_U, R_V, "two-sided", 0.0230137916729773), (R_U, R_V, "less", 0.0116086219041866)],
)
def test_ties_are_counted_exactly_as_in_rs_coin(x, y, alternative, p):
    assert rank_sum_p(np.array(x, float), np.array(y, float), alternative) == pytest.approx(p, rel=1e-12)
    if alternative == "two-sided":
        assert (mann_whitney(x, y).p, mann_whitney(x, y).method) == (pytest.approx(p, rel=1e-12), "exact")


def test_the_statistic_with_ties_is_rs():
    assert mann_whitney(TIED_X, TIED_Y).statistic == R_TIED[0]


def test_from_50_values_on_p_is_normal_with_corrections_as_in_r():
    # x <- rep(TX, 7); y <- rep(TY, 8); wilcox.test(x, y): W = 2688, p-value = 9.0563e-09
    found = mann_whitney(TIED_X * 7, TIED_Y * 8)
    expected = stats.mannwhitneyu(TIED_X * 7, TIED_Y * 8, method="asymptotic")
    assert (found.statistic, found.method) == (48 * 56, "normal, tie and continuity correction")
    assert found.p == pytest.approx(expected.pvalue, rel=1e-12)


def test_every_relabelling_gives_the_same_p():
    """The slow, obvious twin of the shift algorithm."""
    ranks = stats.rankdata(TIED_X + TIED_Y)
    sums = np.array([ranks[list(chosen)].sum() for chosen in combinations(range(len(ranks)), len(TIED_X))])
    centre = len(TIED_X) * ranks.mean()
    p = np.mean(np.abs(sums - centre) >= abs(ranks[: len(TIED_X)].sum() - centre) - 1e-9)
    assert mann_whitney(TIED_X, TIED_Y).p == pytest.approx(p, rel=1e-12)


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


def test_brunner_munzel_of_few_values_is_permuted_as_by_scipys_statistic():
    both, n_x = np.array(X + Y), len(X)
    found = brunner_munzel(X, Y)

    def t_of(chosen):
        mine = np.isin(np.arange(len(both)), chosen)
        with np.errstate(divide="ignore", invalid="ignore"):
            return abs(stats.brunnermunzel(both[~mine], both[mine]).statistic)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy warns of samples that do not overlap, whose t is infinite
        every = [t_of(list(chosen)) for chosen in combinations(range(len(both)), n_x)]
    assert found.statistic == pytest.approx(float(stats.brunnermunzel(Y, X).statistic))
    assert found.p == pytest.approx(np.mean(np.array(every) >= abs(found.statistic) - 1e-9))
    assert found.method == "exact permutation"


def test_brunner_munzel_of_few_against_many_is_permuted_at_random_and_the_same_every_time():
    x, y = R_U[:9], R_V
    found = brunner_munzel(x, y)
    assert found.method == "20,000 permutations"
    assert found == brunner_munzel(x, y)
    assert found.p == pytest.approx(float(stats.brunnermunzel(y, x).pvalue), abs=0.05)


@pytest.mark.slow
def test_brunner_munzel_keeps_its_level_at_five_values():
    """With the t approximation 7.3 % of equal pairs were different at 5 %."""
    draws = np.random.default_rng(3)
    p = [brunner_munzel(draws.normal(size=5), draws.normal(size=5)).p for _ in range(4000)]
    assert np.mean(np.array(p) < 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)


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


def test_wilcoxons_statistic_with_ties_and_zeros_is_rs():
    assert wilcoxon(by_seed(TIED_X[:7]), by_seed(TIED_Y)).statistic == R_PAIRED_TIED


@pytest.mark.parametrize(
    "differences", [[1.0] * 5, [0.5, 0.5, 1.0, -0.5, 2.0, 2.0, 0.0], [3.0, -1.0, 0.0, 0.0, 1.0, 1.0, 2.0, -2.0]]
)
def test_wilcoxon_counts_ties_over_every_change_of_signs(differences):
    """The slow, obvious twin; five equal differences cannot come below 2 / 2^5, and their normal p is 0.037."""
    nonzero = np.array([value for value in differences if value])
    ranks = stats.rankdata(np.abs(nonzero))
    sums = np.array([ranks @ signs for signs in product((0, 1), repeat=len(ranks))])
    centre = ranks.sum() / 2
    p = np.mean(np.abs(sums - centre) >= abs(ranks[nonzero > 0].sum() - centre) - 1e-9)
    found = wilcoxon(by_seed(differences), dict.fromkeys(range(len(differences)), 0.0))
    assert (found.method, found.p) == ("exact", pytest.approx(p, rel=1e-12))
    assert found.p >= 2 / 2 ** len(nonzero)


@given(st.lists(st.integers(-6, 6).map(float), min_size=5, max_size=10).filter(any))
def test_wilcoxon_is_scipys_over_all_changes_of_signs(differences):
    zeros = dict.fromkeys(range(len(differences)), 0.0)
    nonzero = [value for value in differences if value]
    every = stats.PermutationMethod(n_resamples=np.inf)
    expected = stats.wilcoxon(nonzero, method=every).pvalue if len(nonzero) > 1 else 1.0
    assert wilcoxon(by_seed(differences), zeros).p == pytest.approx(expected, rel=1e-9)


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


@pytest.mark.parametrize(("n", "method"), [(49, "exact"), (50, "normal")])
def test_wilcoxon_is_exact_below_fifty_pairs_as_in_r(n, method):
    differences = {i: (i + 1) * (-1.0) ** i for i in range(n)}
    found = wilcoxon(differences, dict.fromkeys(range(n), 0.0))
    assert found.method.startswith(method)
    expected = stats.wilcoxon([*differences.values()], correction=method == "normal",
                              method="asymptotic" if method == "normal" else "exact")  # fmt: skip
    assert found.p == pytest.approx(expected.pvalue, rel=1e-12)


def test_a_tie_hidden_in_the_last_bit_is_one():
    # 0.3 - 0.1 is 0.19999999999999998, which ties with 0.2; 1.1 - 1.0 is 0.10000000000000009
    # R, coin: the larger of the two one-sided exact p of round(x + 0.1, 9) and round(x - 0.1, 9) against y
    assert equivalence([0.3, 7.0, 8.0, 9.0, 11.0], [0.2, 1.5, 2.0, 3.0, 4.0], 0.1).p == pytest.approx(0.956349206349206)
    hidden = wilcoxon(by_seed([0.2, 1.1, 1.5, 2.0, 3.0, 4.0]), by_seed([0.3, 1.0, 1.0, 0.0, 0.0, 0.0]))
    assert hidden.statistic == 1.5 + 3 + 4 + 5 + 6
