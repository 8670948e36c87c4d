"""One rule for ties: values that agree to 12 digits are the same for every statistic, however large or small."""

import math

import numpy as np
import pytest

from l2t_ray.statistics.effect import (
    NO_SPREAD,
    a12,
    a12_brunner_munzel,
    hodges_lehmann,
    mean_difference,
    paired_difference,
    paired_superiority,
)
from l2t_ray.statistics.hypothesis import brunner_munzel, equivalence, mann_whitney, wilcoxon
from l2t_ray.statistics.means import average, deviation, mean_interval, welch
from l2t_ray.statistics.ranks import average_ranks
from l2t_ray.statistics.stratified import average_difference, mean_a12, van_elteren
from l2t_ray.statistics.ties import differences, is_constant, rounded

X = [41.2, 40.8, 41.2, 43.0, 42.5, 41.9, 40.1, 42.5]
Y = [40.8, 39.9, 41.2, 40.1, 38.7, 40.5, 41.0, 42.5]
CELLS = [(X, Y), ([v + 9 for v in X], [v + 9 for v in Y])]
R_TIED = 0.0169386169386169  # R 4.2.2, coin 1.4: pvalue(wilcox_test(v ~ g, distribution = "exact")), X and Y[:7]


def by_seed(values):
    return dict(enumerate(values))


STATISTICS = {
    "mann_whitney": lambda x, y, unit: mann_whitney(x, y).p,
    "brunner_munzel": lambda x, y, unit: brunner_munzel(x, y).p,
    "wilcoxon": lambda x, y, unit: wilcoxon(by_seed(x), by_seed(y)).p,
    "equivalence": lambda x, y, unit: equivalence(x, y, 1.7 * unit).p,
    "a12": lambda x, y, unit: a12(x, y).value,
    "a12_brunner_munzel": lambda x, y, unit: a12_brunner_munzel(x, y).low,
    "paired_superiority": lambda x, y, unit: paired_superiority(by_seed(x), by_seed(y)).value,
    "hodges_lehmann": lambda x, y, unit: hodges_lehmann(x, y).low / unit,
    "van_elteren": lambda x, y, unit: van_elteren([(x, y), (y, x), (x, y)]).p,
    "mean_a12": lambda x, y, unit: mean_a12([(x, y), (x, y)]).low,
    "ranks": lambda x, y, unit: average_ranks([[a, b, b] for a, b in zip(x, y, strict=True)]).p,
}


@pytest.mark.parametrize("name", STATISTICS)
def test_values_that_differ_in_their_last_bit_are_ties(name):
    compute = STATISTICS[name]
    noisy = [math.nextafter(value, math.inf if place % 2 else 0.0) for place, value in enumerate(X)]
    assert compute(noisy, Y, 1.0) == pytest.approx(compute(X, Y, 1.0), rel=1e-12)


@pytest.mark.parametrize("unit", [1e-15, 1e-181, 1e100])
@pytest.mark.parametrize("name", STATISTICS)
def test_no_statistic_depends_on_the_unit(name, unit):
    compute = STATISTICS[name]
    x, y = ([value * unit for value in values] for values in (X, Y))
    assert compute(x, y, unit) == pytest.approx(compute(X, Y, 1.0), rel=1e-9)


def test_ties_by_a_computation_have_the_p_of_r():
    computed = [value + 1e4 - 1e4 if place % 4 else value for place, value in enumerate(X)]
    assert computed != X
    assert mann_whitney(computed, Y[:7]).p == pytest.approx(R_TIED, rel=1e-12)


def test_sums_of_decimals_are_the_decimals():
    assert 0.1 + 0.2 != 0.3
    assert rounded(np.array([0.1 + 0.2]))[0] == 0.3
    x, y = np.array([0.3, 0.4, 10.3, 100.3, 1e-300]), np.array([0.1, 0.2, 10.1, 100.1, 3e-300])
    assert differences(x, y).tolist() == [0.2, 0.2, 0.2, 0.2, -2e-300]
    # what is left of 1.1 + 2.2 - 3.3 is no difference, and 1e-10 of 1e-9 is one
    assert differences(np.array([1.1 + 2.2, 1.1e-9]), np.array([3.3, 1e-9])).tolist() == [0.0, 1e-10]
    assert rounded(np.array([0.0, -0.0, 5e-324, 1.7e308, 123456789012345.0])).tolist() == [
        0.0, 0.0, 5e-324, 1.7e308, 123456789012000.0,
    ]  # fmt: skip


def test_equal_values_have_no_spread():
    same = [91.1] * 6
    assert np.std(same, ddof=1) > 0  # the rounding of their sum
    assert (mean_interval(same).sd, mean_interval(same).half_width) == (0.0, 0.0)
    assert mean_interval([0.3, 0.1 + 0.2]).sd == 0.0
    assert mean_difference(same, [91.1 - 1.0] * 6).method == NO_SPREAD
    assert average_difference([(same, [90.1] * 6)]).method == NO_SPREAD
    shifted = paired_difference(by_seed(X), by_seed([value - 0.1 for value in X]))
    assert (shifted.value, shifted.low, shifted.high) == pytest.approx((0.1,) * 3, rel=1e-12)
    assert shifted.low == shifted.high
    assert is_constant(np.array(same), np.array([0.3, 0.1 + 0.2]))
    assert not is_constant(np.array(same), np.array([0.3, 0.30000000001]))


@pytest.mark.parametrize("unit", [2.0**500, 2.0**-500])
def test_spreads_of_very_large_and_small_values_neither_overflow_nor_vanish(unit):
    values, others = np.array(X), np.array(Y)
    assert average(values * unit) == values.mean() * unit  # a power of two is exact
    assert deviation(values * unit) == values.std(ddof=1) * unit
    plain, large = mean_difference(values, others), mean_difference(values * unit, others * unit)
    assert [plain.low * unit, plain.high * unit] == pytest.approx([large.low, large.high], rel=1e-12)
    assert welch(1.0, 2.0, 8, 0.0, 1.0, 6)[0] == pytest.approx(welch(unit, 2 * unit, 8, 0.0, unit, 6)[0], rel=1e-12)
    means = average_difference(CELLS).low * unit
    assert average_difference([(np.array(x) * unit, np.array(y) * unit) for x, y in CELLS]).low == pytest.approx(means)
