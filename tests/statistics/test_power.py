"""How many seeds a difference takes."""

import math

import numpy as np
import pytest
from scipy import stats

from l2t_ray.statistics.hypothesis import brunner_munzel
from l2t_ray.statistics.power import _brunner_munzel_p, mann_whitney_power, needed_seeds


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 15])
@pytest.mark.parametrize(
    ("difference", "sds"), [(1.0, (1, 1)), (0.75, (1, 1)), (0.5, (1, 1)), (1.0, (0.5, 3)), (2, (1, 1))]
)
def test_the_needed_seeds_have_the_power_that_was_asked_for(difference, sds, alpha):
    n = needed_seeds(difference, sds, alpha=alpha)
    # 20,000 simulations have an error of 0.003, the 2,000 behind n one of 0.009; few seeds have steps
    most = 0.84 if n > 15 else 0.9
    assert 0.77 < mann_whitney_power(difference, sds, n, alpha=alpha, n_simulations=20_000) < most


def chance(difference, sds, n, alpha, n_draws):
    """How often Brunner and Munzel's test itself finds the difference."""
    draws = np.random.default_rng(3)
    found = [
        brunner_munzel(draws.normal(difference, sds[0], n), draws.normal(0.0, sds[1], n)).p < alpha
        for _ in range(n_draws)
    ]
    return np.mean(found)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 15])
@pytest.mark.parametrize("sds", [(2.0, 0.5), (3.0, 0.01), (0.0, 2.0), (1.2, 0.3), (0.7, 0.1)])
def test_where_spreads_are_unlike_the_needed_seeds_have_the_power_of_the_test_that_decides(sds, alpha):
    n = needed_seeds(1.0, sds, alpha=alpha, is_unlike=True)
    # 1,000 draws have an error of 0.013, the 1,000 behind n one of 0.013
    most = 0.86 if n > 15 else 0.95  # few seeds have steps
    assert 0.75 < chance(1.0, sds, n, alpha, 1000 if n >= 10 else 200) < most
    assert needed_seeds(1.0, sds[::-1], alpha=alpha, is_unlike=True) == pytest.approx(n, rel=0.1, abs=1)


def test_far_more_seeds_than_simulated_follow_the_variance_of_brunner_and_munzel():
    # a constant method is a sign test: pi / 2 in the place of Noether's pi / 3
    assert needed_seeds(0.2, (1, 1), is_unlike=True) == needed_seeds(0.2, (1, 1)) == 411
    assert needed_seeds(0.2, (2**0.5, 0), is_unlike=True) == pytest.approx(411 * 3 / 2, abs=1)


def test_their_approximate_p_is_that_of_scipy_and_not_below_the_permutations():
    draws = np.random.default_rng(4)
    x, y = draws.normal(0.5, 2, (20, 12)), draws.normal(0, 0.5, (20, 12))
    least = 2 / math.comb(24, 12)
    expected = [max(stats.brunnermunzel(a, b).pvalue, least) for a, b in zip(x, y, strict=True)]
    assert _brunner_munzel_p(x, y) == pytest.approx(expected, rel=1e-9)
    apart = np.arange(5.0)[None, :]
    assert _brunner_munzel_p(apart + 9, apart) == pytest.approx([brunner_munzel(apart[0] + 9, apart[0]).p])


@pytest.mark.parametrize(("margin", "n"), [(1e300, 5), (1e-300, None), (5e-324, None)])
@pytest.mark.parametrize("is_unlike", [False, True])
def test_a_margin_that_is_tiny_or_huge_has_an_answer(margin, n, is_unlike):
    assert needed_seeds(margin, (1.0, 0.2), is_unlike=is_unlike) == n
    assert needed_seeds(1.0, (1.7e308, 1.7e308), is_unlike=is_unlike) is None
