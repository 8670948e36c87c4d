"""Effect sizes, equivalence, power and corrections against R, formulas and identities."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from l2t_ray.statistics.correction import benjamini_hochberg, holm
from l2t_ray.statistics.effect import (
    a12,
    hodges_lehmann,
    mean_difference,
    paired_superiority,
    rank_biserial,
)
from l2t_ray.statistics.hypothesis import equivalence
from l2t_ray.statistics.permutation import rank_sums
from l2t_ray.statistics.power import mann_whitney_power, needed_seeds

X = [20.1, 22.4, 19.7, 25.3, 24.8, 21.9, 23.3]
Y = [18.2, 19.9, 17.5, 21.0, 20.6, 22.0]
TIED_X = [41.2, 40.8, 41.2, 43.0, 42.5, 41.9, 40.1, 42.5]
TIED_Y = [40.8, 39.9, 41.2, 40.1, 38.7, 40.5, 41.0]

values = st.lists(st.integers(0, 12).map(lambda k: k / 4), min_size=5, max_size=12)


def test_hodges_lehmann_without_ties_is_exact_as_in_r():
    # R 4.2.2: wilcox.test(X, Y, conf.int = TRUE): 2.55, -0.2 to 5.1
    found = hodges_lehmann(X, Y)
    assert (found.value, found.low, found.high) == (pytest.approx(2.55), pytest.approx(-0.2), pytest.approx(5.1))
    assert found.method == "exact, Mann-Whitney inverted"


def test_hodges_lehmann_with_ties_is_as_in_r():
    # R 4.2.2: wilcox.test(TX, TY, conf.int = TRUE): 1.30005, 0.19999 to 2.49999, by a root search of tolerance 1e-4
    found = hodges_lehmann(TIED_X, TIED_Y)
    ours = (found.value, found.low, found.high)
    assert ours == pytest.approx((1.3000479306, 0.1999897848674394, 2.4999868876266840), abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(values, values)
def test_the_interval_of_tied_values_is_where_the_test_does_not_reject(x, y):
    found = hodges_lehmann(x, y)
    steps = np.unique(np.subtract.outer(x, y))
    between = [steps[0] - 1, *(steps[1:] + steps[:-1]) / 2, steps[-1] + 1]
    kept = [d for d in between if stats.mannwhitneyu(np.subtract(x, d), y, method="asymptotic").pvalue >= 0.05]
    if len(np.unique([*x, *y])) < len(x) + len(y) and found.low is not None:
        assert kept == [d for d in between if found.low < d < found.high]


def test_the_interval_of_accuracies_on_few_test_images_is_as_in_r():
    # one image in 50 is 2 points. R 4.2.2: wilcox.test(x, y, conf.int = TRUE): -1.99996 to 5.99998
    x = [58, 60, 60, 58, 66, 60, 66, 64, 58, 64]
    y = [62, 56, 56, 58, 56, 60, 60, 62, 60, 60]
    found = hodges_lehmann(x, y)
    assert (found.low, found.high) == (-2.0, 6.0)


@pytest.mark.parametrize(("m", "n"), [(5, 7), (30, 30)])
def test_the_null_distribution_of_u_has_its_mean_and_variance(m, n):
    _, shares = rank_sums(np.arange(float(m)), np.arange(float(n)) + m)
    p, u = shares[m * (m + 1) : m * (m + 1 + 2 * n) + 1 : 2], np.arange(m * n + 1)
    assert p.sum() == pytest.approx(1)
    assert p @ u == pytest.approx(m * n / 2)
    assert p @ (u - m * n / 2) ** 2 == pytest.approx(m * n * (m + n + 1) / 12)  # Mann and Whitney 1947, eq. 8
    assert p == pytest.approx(p[::-1])


def test_five_values_each_have_an_interval_and_three_have_none():
    assert hodges_lehmann([1.0, 2, 3, 4, 5], [2.5, 3.5, 6, 7, 8]).low is not None
    assert hodges_lehmann([1.0, 2, 3], [2.5, 3.5, 6]).low is None  # P(U = 0) = 1/20 > 0.025


def test_an_interval_holds_its_shift_whatever_the_numbers_of_values():
    # 1 against 39: P(U = 0) = 1 / 40 is the tail itself, so qwilcox(0.025, 1, 39) is 0; R 4.2.2 then takes 1
    for m in (1, 2, 3, 5, 39, 49, 60):
        for n in range(1, 61):
            x, y = np.arange(m) + 0.5, np.arange(n) * 1.001 - n / 3
            found = hodges_lehmann(x, y)
            assert found.low is None or found.low <= found.value <= found.high, (m, n)


def test_a12_counts_wins_and_half_of_the_ties():
    wins = sum((x > y) + (x == y) / 2 for x in TIED_X for y in TIED_Y)
    assert a12(TIED_X, TIED_Y).value == pytest.approx(wins / (len(TIED_X) * len(TIED_Y)))


def test_the_ends_of_a12s_interval_solve_newcombes_equation():
    # Newcombe 2006 (Statistics in Medicine 25, 559-573), method 5:
    # (theta - A)^2 = z^2 theta (1 - theta) (1 + N* ((1 - theta)/(2 - theta) + theta/(1 + theta))) / mn,
    # N* = (m + n)/2 - 1
    found, m, n = a12(X, Y), len(X), len(Y)
    for theta in (found.low, found.high):
        bracket = 1 + ((m + n) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        assert (theta - found.value) ** 2 == pytest.approx(1.959963985**2 * theta * (1 - theta) * bracket / (m * n))


def test_a12_of_separate_samples_has_an_interval_below_one():
    found = a12([6, 7, 8, 9, 10], [1, 2, 3, 4, 5])
    assert (found.value, found.high) == (1, 1)
    assert 0.5 < found.low < 1


@settings(max_examples=50, deadline=None)
@given(values, values)
def test_wins_of_both_sides_and_ties_add_up(x, y):
    there, back = a12(x, y), a12(y, x)
    ties = sum(a == b for a in x for b in y) / (len(x) * len(y))
    strict = sum(a > b for a in x for b in y) / (len(x) * len(y))
    assert there.value + back.value == pytest.approx(1)  # P(X > Y) + P(Y > X) + P(tie) = 1
    assert there.value == pytest.approx(strict + ties / 2)
    assert there.low == pytest.approx(1 - back.high, abs=1e-9)
    assert rank_biserial(there).value == pytest.approx(2 * there.value - 1)


@settings(max_examples=30, deadline=None)
@given(values, values, st.integers(-40, 40).map(lambda k: k / 8))
def test_hodges_lehmann_moves_with_the_values(x, y, shift):
    moved = hodges_lehmann([value + shift for value in x], y)
    assert -hodges_lehmann(y, x).value == pytest.approx(hodges_lehmann(x, y).value)
    assert hodges_lehmann([v + shift for v in x], [v + shift for v in y]).value == hodges_lehmann(x, y).value
    assert moved.value == pytest.approx(hodges_lehmann(x, y).value + shift)


@pytest.mark.parametrize(("x", "y"), [(X, Y), (TIED_X, TIED_Y), (X, TIED_X * 4), (X * 9, TIED_Y * 9)])
def test_the_interval_is_welchs(x, y):
    found = mean_difference(x, y)
    expected = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-12)
    assert found.method == "Welch's t"


def test_against_a_method_without_spread_welchs_interval_is_that_of_one_mean():
    found, expected = mean_difference(X, [4.0] * 6), stats.ttest_1samp(X, 4.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(np.subtract(expected, 4.0)))


@pytest.mark.parametrize("n", [6, 20])
def test_the_interval_of_a_difference_of_means_degenerates_with_the_values(n):
    flat = mean_difference([5.0] * n, [4.0] * n)
    assert (flat.low, flat.value, flat.high, flat.method) == (1.0, 1.0, 1.0, "no spread")
    half = mean_difference([0.1] * n, np.arange(n) * 1.0)
    assert half.low < half.value < half.high
    assert mean_difference([5.0, 6.0], [4.0] * n).low is None


def test_five_seeds_have_an_interval_that_holds_the_truth_nineteen_times_in_twenty():
    # the BCa interval of 5 and 5 normal values does so in about 87 % (docs/statistics.md)
    draws, n = np.random.default_rng(8), 600
    ends = [mean_difference(*draws.normal(0, 1, (2, 5))) for _ in range(n)]
    assert sum(e.low <= 0 <= e.high for e in ends) / n == pytest.approx(0.955, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("measure", [a12, hodges_lehmann], ids=["A12", "Hodges-Lehmann"])
def test_intervals_cover_the_truth_nineteen_times_in_twenty(measure):
    draws, shift = np.random.default_rng(5), 0.8
    truth = 0.5 * math.erfc(-shift / 2) if measure is a12 else shift  # Phi(shift / sqrt 2)
    n, hits = 1000, 0
    for _ in range(n):
        found = measure(draws.normal(shift, 1, 15), draws.normal(0, 1, 15))
        hits += found.low <= truth <= found.high
    assert hits / n == pytest.approx(0.95, abs=4 * math.sqrt(0.05 * 0.95 / n))


def test_equivalence_is_the_larger_of_two_one_sided_p_as_in_r():
    # R 4.2.2, coin 1.4: the larger exact p of x + 3 against y ("greater") and of x - 3 ("less")
    assert equivalence(X, Y, 3.0).p == pytest.approx(0.365384615384615, rel=1e-9)
    assert equivalence(TIED_X, TIED_Y, 3.0).p == pytest.approx(0.00248640248640249, rel=1e-9)


def test_equivalence_is_symmetric_and_easier_with_a_wider_margin():
    assert equivalence(X, Y, 3.0).p == pytest.approx(equivalence(Y, X, 3.0).p)
    found = [equivalence(X, Y, margin).p for margin in (0.5, 1, 2, 4, 8)]
    assert found == sorted(found, reverse=True)


def test_equal_methods_without_spread_are_equivalent_and_a_wrong_margin_is_refused():
    assert equivalence([5.0] * 10, [5.0] * 10, 1.0).p < 0.001
    assert equivalence([5.0] * 10, [6.0] * 10, 1.0).p == 1.0
    assert equivalence([5.0] * 3, [5.0] * 3, 1.0).p is None
    with pytest.raises(ValueError, match="margin must be > 0, got 0"):
        equivalence(X, Y, 0)


@pytest.mark.parametrize(
    ("effect", "alpha", "expected"),
    # simulated elsewhere with 30 against 30 normal seeds: 0.44, 0.80, 0.96 at 0.05; 0.52 at 0.05/7
    [(0.5, 0.05, 0.44), (0.75, 0.05, 0.80), (1.0, 0.05, 0.96), (0.75, 0.05 / 7, 0.52)],
)
def test_power_of_thirty_seeds(effect, alpha, expected):
    assert mann_whitney_power(effect, (1, 1), 30, alpha=alpha) == pytest.approx(expected, abs=0.035)


def test_power_of_five_seeds_is_of_the_exact_test():
    # without overlap the exact p is 2 / 252 = 0.0079, the normal one 0.0122
    assert mann_whitney_power(4.0, (1, 1), 5, alpha=0.01) == pytest.approx(0.95, abs=0.03)
    assert mann_whitney_power(40.0, (1, 0), 5, alpha=0.0077) == 1  # five ties: the normal p, 0.0075, as `mann_whitney`


def test_power_without_a_difference_is_the_level():
    assert mann_whitney_power(0, (1, 1), 30, n_simulations=4000) == pytest.approx(0.05, abs=4 * 0.0035)


def test_needed_seeds_agree_with_noethers_formula():
    # n = (z_0.975 + z_0.8)^2 * 2 / d^2 * pi / 3: 29.2 for d = 0.75, 65.7 for d = 0.5, 411 for d = 0.2
    assert needed_seeds(0.75, (1, 1)) == pytest.approx(29.2, rel=0.12)
    assert needed_seeds(0.5, (1, 1)) == pytest.approx(65.7, rel=0.12)
    assert needed_seeds(0.2, (1, 1)) == 411
    assert needed_seeds(0.01, (1, 1)) is None
    assert needed_seeds(1.0, (0, 0)) == 5


P = [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212, 0.216]  # Benjamini and Hochberg's kind of example


def test_holm_is_as_in_r():
    # R 4.2.2: p.adjust(P, "holm")
    assert holm(P) == pytest.approx([0.010, 0.072, *[0.312] * 5, *[0.615] * 3])


def test_benjamini_hochberg_is_as_in_r():
    # R 4.2.2: p.adjust(P, "BH")
    expected = [0.01, 0.04, 0.084, 0.084, 0.084, 0.1, 0.105714285714286, 0.216, 0.216, 0.216]
    assert benjamini_hochberg(P) == pytest.approx(expected)


@pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
def test_corrections_keep_the_order_and_never_help(correct):
    shuffled = [0.04, 0.001, 0.2, 0.03]
    corrected = correct(shuffled)
    by_size = [corrected[place] for place in np.argsort(shuffled)]
    assert by_size == sorted(by_size)
    assert all(after >= before for before, after in zip(shuffled, corrected, strict=True))
    assert correct([0.03]) == [0.03]
    assert correct([]) == []


def test_a_test_without_a_p_yet_counts_in_the_family():
    assert holm([0.01, None, None]) == [pytest.approx(0.03), None, None]


def test_a_test_without_a_p_yet_counts_as_one_in_benjamini_and_hochberg():
    assert benjamini_hochberg([0.3, None]) == [pytest.approx(0.6), None]  # R: p.adjust(c(0.3, 1), "BH")


def wins(n_wins, n_ties, n_losses):
    """Values of two methods by seed, of which the first wins, ties and loses so often."""
    signs = [1.0] * n_wins + [0.0] * n_ties + [-1.0] * n_losses
    return dict(enumerate(signs)), dict.fromkeys(range(len(signs)), 0.0)


@pytest.mark.parametrize(
    ("counts", "value", "low", "high"),
    [
        ((9, 0, 3), 0.75, 0.428141538121811, 0.945139355472007),  # R 4.2.2: binom.test(9, 12)$conf.int
        ((12, 0, 0), 1.0, 0.735351530602949, 1.0),  # R 4.2.2: binom.test(12, 12)$conf.int
        (
            (7, 1, 2),
            0.75,
            0.394181681851329,
            0.955940586447369,
        ),  # R 4.2.2: c(qbeta(.025, 7.5, 3.5), qbeta(.975, 8.5, 2.5))
    ],
)
def test_wins_on_equal_seeds_have_the_interval_of_r(counts, value, low, high):
    found = paired_superiority(*wins(*counts))
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), rel=1e-9)
    back = paired_superiority(*reversed(wins(*counts)))
    assert (back.low, back.high) == pytest.approx((1 - found.high, 1 - found.low), rel=1e-9)


def test_only_seeds_of_both_methods_are_paired_and_equal_decimals_tie():
    found = paired_superiority({0: 0.1 + 0.2, 1: 5.0, 2: 1.0}, {0: 0.3, 1: 4.0, 9: 7.0})
    assert found.value == 0.75  # one tie, one win
    assert paired_superiority({0: 1.0}, {1: 1.0}) is None


@pytest.mark.slow
@pytest.mark.parametrize("decimals", [6, 0], ids=["no ties", "ties"])
@pytest.mark.parametrize("n", [5, 10, 30])
def test_the_interval_of_wins_holds_the_truth_at_least_as_often_as_it_says(n, decimals):
    draws = np.random.default_rng(n)

    def share_of_wins(size):
        shared = draws.normal(0, 1, size)  # what a seed does to both methods
        x, y = (np.round(shared + draws.normal(mean, 1, size), decimals) for mean in (1.0, 0.0))
        return x, y

    x, y = share_of_wins(1_000_000)
    truth = (x > y).mean() + (x == y).mean() / 2
    found = [paired_superiority(*(dict(enumerate(v)) for v in share_of_wins(n))) for _ in range(2_000)]
    covered = np.mean([item.low <= truth <= item.high for item in found])
    print(f"paired, n = {n}, {decimals} decimals, truth {truth:.3f}: {covered:.1%}")
    assert covered > 0.95 - 3 * 0.005
