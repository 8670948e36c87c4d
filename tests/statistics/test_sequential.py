"""The group-sequential design: boundaries against rpact, decisions, error rate and the runs it saves."""

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from l2t_ray.statistics import sequential
from l2t_ray.statistics.boundaries import LEAST_ALPHA, boundaries, level, smallest_alpha, spending
from l2t_ray.statistics.hypothesis import Finding
from l2t_ray.statistics.sequential import Design, decide, in_order


@pytest.mark.parametrize(
    ("information", "expected"),
    # R 4.2.2, rpact 3.3.2: getDesignGroupSequential(kMax = K, alpha = 0.025, sided = 1, typeOfDesign = "asOF"),
    # and informationRates = c(1/3, 1/2, 1) for the last
    [
        ((1 / 2, 1), (2.96258804273, 1.96859564632)),
        ((1 / 3, 2 / 3, 1), (3.71030287326, 2.51142748445, 1.99304748327)),
        ((1 / 4, 1 / 2, 3 / 4, 1), (4.33263364605, 2.96313159913, 2.35904427618, 2.01409014314)),
        ((1 / 5, 2 / 5, 3 / 5, 4 / 5, 1), (4.87688494879, 3.35701192170, 2.68028006703, 2.28981677443, 2.03103206307)),
        ((1 / 3, 1 / 2, 1), (3.71030287326, 2.96973709017, 1.96868851036)),
    ],
    ids=["2 looks", "3 looks", "4 looks", "5 looks", "uneven"],
)
def test_boundaries_are_rpacts(information, expected):
    assert boundaries(information) == pytest.approx(expected, abs=1e-6)


def test_one_look_is_an_ordinary_test():
    assert boundaries((1.0,)) == pytest.approx((1.959963985,))
    assert Design(looks=(30,)).levels == pytest.approx((0.05,))


def test_spending_is_lan_and_demets():
    # rpact's alphaSpent for three looks, one side: 0.000103505718147, 0.006048389077275, 0.025
    assert [spending(k / 3) / 2 for k in (1, 2, 3)] == pytest.approx([0.000103505718, 0.006048389077, 0.025])
    assert spending(0) == 0


def test_gaussian_paths_cross_in_alpha_of_the_cases():
    draws = np.random.default_rng(2)
    n, bounds = 400_000, boundaries((1 / 3, 2 / 3, 1.0))
    scores = np.cumsum(draws.normal(0, math.sqrt(1 / 3), (n, 3)), axis=1)
    crossed = np.abs(scores / np.sqrt([1 / 3, 2 / 3, 1])) >= bounds
    assert crossed.any(axis=1).mean() == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / n))


@pytest.mark.parametrize("p", [0.5, 0.05, 1e-3, 1e-6])
def test_an_adjusted_p_lies_on_the_boundary_of_the_design_with_that_error(p):
    looks = (1 / 3, 2 / 3, 1.0)
    for k in (1, 2, 3):
        adjusted = smallest_alpha(looks[:k], p)
        assert p <= adjusted
        assert adjusted == 1 or level(looks[:k], adjusted) == pytest.approx(p, rel=1e-6)
    assert smallest_alpha((1.0,), p) == pytest.approx(p, rel=1e-6)  # one look needs no adjustment


def test_an_adjusted_p_is_alpha_at_the_design_s_own_levels():
    # levels of rpact's three-look design above: 2 Phi(-c_k)
    for k, bound in enumerate((3.71030287326, 2.51142748445, 1.99304748327), start=1):
        p = math.erfc(bound / math.sqrt(2))
        assert smallest_alpha((1 / 3, 2 / 3, 1.0)[:k], p) == pytest.approx(0.05, rel=1e-5)


@pytest.mark.parametrize(
    "looks", [(10, 20, 80), (10, 20, 100), (5, 10, 40), (5, 10, 100), (5, 3000), (5, 10, 15, 400)], ids=str
)
def test_looks_far_below_the_last_have_bounds_and_adjusted_p(looks):
    design = Design(looks=looks, futility=0)
    assert list(design.levels) == sorted(design.levels)
    assert spent_by_simulation_of_the_last_look(design) == pytest.approx(0.05, abs=0.003)
    for k, level_k in enumerate(design.levels, start=1):
        for p in (level_k * 0.99, level_k * 1.01, 1e-300, 1.0):
            assert (smallest_alpha(design.information[:k], p) <= 0.05) == (p <= level_k)
    draws = np.random.default_rng(5)
    for shift in (0, 8):
        found = decide(design, runs(draws, shift, looks[1]), runs(draws, 0, looks[1]))
        assert (found.state == "significant") == (found.p_adjusted <= design.alpha)


def spent_by_simulation_of_the_last_look(design, n=200_000):
    draws, t = np.random.default_rng(9), np.array(design.information)
    scores = np.cumsum(draws.normal(0, np.sqrt(np.diff(t, prepend=0)), (n, len(t))), axis=1)
    return (np.abs(scores / np.sqrt(t)) >= design.bounds).any(axis=1).mean()


def test_a_hundred_random_designs_have_bounds_that_agree_with_their_adjusted_p():
    draws = np.random.default_rng(12)
    for _ in range(100):
        looks = np.unique(draws.integers(5, draws.choice([40, 300, 3000]), draws.integers(2, 6))).tolist()
        design = Design(looks=tuple(looks), alpha=float(draws.choice([0.001, 0.01, 0.05, 0.2])))
        k = int(draws.integers(1, len(looks) + 1))
        for p in (design.levels[k - 1] * 0.99, min(1.0, design.levels[k - 1] * 1.01)):
            adjusted = smallest_alpha(design.information[:k], p)
            assert (adjusted <= design.alpha) == (p <= design.levels[k - 1]), (design, k, p)


def test_adjusted_p_values_end_where_numbers_do():
    assert smallest_alpha((1 / 3,), 1.0) == 1
    assert smallest_alpha((1 / 3, 1.0), 1e-80) == LEAST_ALPHA


def runs(draws, mean, n=30):
    return dict(enumerate(draws.normal(mean, 1, n).tolist()))


def first(values, n):
    return {seed: value for seed, value in values.items() if seed < n}


def test_a_large_difference_is_decided_at_the_first_look_and_stays_so():
    draws = np.random.default_rng(3)
    x, y = runs(draws, 4), runs(draws, 0)
    design = Design()
    early = decide(design, first(x, 10), first(y, 10))
    assert (early.state, early.look, early.n, early.n_next) == ("significant", 1, (10, 10), 10)
    assert early.p <= design.levels[0] == early.level
    assert decide(design, x, y) == early  # later runs change nothing


def test_the_adjusted_p_agrees_with_every_decision_and_never_rises():
    draws, design = np.random.default_rng(11), Design(futility=0)
    for shift in (0, 0, 0, 0.6, 0.6, 0.6, 1.2, 4):
        x, y = runs(draws, shift), runs(draws, 0)
        found = [decide(design, first(x, n), first(y, n)) for n in design.looks]
        assert all((d.state == "significant") == (d.p_adjusted <= design.alpha) for d in found)
        assert sorted((d.p_adjusted for d in found), reverse=True) == [d.p_adjusted for d in found]


def test_before_a_look_is_complete_nothing_is_decided():
    draws = np.random.default_rng(3)
    x, y = runs(draws, 4), runs(draws, 0)
    found = decide(Design(), first(x, 10), first(y, 9))
    assert (found.state, found.look, found.p, found.n_next) == ("continue", 0, None, 10)
    assert not found.is_decided
    assert decide(Design(), {}, {}).n_next == 10


def test_a_run_that_diverged_for_good_does_not_hold_the_look_up():
    draws = np.random.default_rng(3)
    x, y = first(runs(draws, 4), 10), first(runs(draws, 0), 10)
    found = decide(Design(), {**x, 3: None}, y)
    assert (found.look, found.n) == (1, (9, 10))


def test_no_difference_stops_for_futility_or_ends_without_a_claim():
    draws = np.random.default_rng(4)
    states = {decide(Design(), runs(draws, 0), runs(draws, 0)).state for _ in range(40)}
    assert {"futile", "not significant"} <= states
    without = {decide(Design(futility=0), runs(draws, 0), runs(draws, 0)).state for _ in range(20)}
    assert "futile" not in without


def test_equal_values_everywhere_are_futile_at_once_or_at_the_second_look():
    same = dict.fromkeys(range(30), 5.0)
    assert decide(Design(), same, same).state == "futile"


def test_too_few_values_at_a_look_go_on():
    lost = dict.fromkeys(range(10)) | {0: 1.0}
    found = decide(Design(), lost, runs(np.random.default_rng(1), 0, 10))
    assert (found.state, found.p, found.n_next) == ("continue", None, 20)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"looks": [20, 10]}, "looks must be rising numbers of seeds"),
        ({"looks": []}, "looks must be rising"),
        ({"looks": [3, 30]}, "looks must begin at 5 seeds or more, got 3"),
        ({"alpha": 1.5}, "alpha must be between 0 and 1"),
        ({"futility": 1.0}, "futility must be from 0 to below 1"),
        ({"compare": ["ufm", "ufm"]}, "compare must name two methods"),
        ({"look": [10]}, "look must be one of alpha, compare, futility, looks"),
        ({"looks": "10, 20"}, "looks must be a list of whole numbers, got '10, 20'"),
        ({"looks": [10.5, 20]}, "looks must be a list of whole numbers"),
        ({"looks": None}, "looks must be a list of whole numbers, got None"),
        ({"alpha": "small"}, "alpha must be a number, got 'small'"),
        ({"futility": True}, "futility must be a number"),
        ({"compare": "ufm"}, "compare must be a list of two methods"),
    ],
)
def test_an_impossible_design_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Design.from_json(settings)


def test_a_design_comes_back_from_a_manifest():
    design = Design(looks=(10, 30), futility=0.2)
    assert Design.from_json(design.to_json()) == design


def test_looks_take_seeds_by_rising_number():
    assert in_order([7, 3, 5], {7: 70.0, 3: 30.0}, ended=[5]) == {0: 30.0, 1: None, 2: 70.0}


def test_a_sweep_may_ask_without_pandas_or_mlflow():
    heavy = "('pandas', 'mlflow', 'torch', 'ray')"
    code = f"import sys, l2t_ray.statistics.sequential; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_two_thousand_null_experiments_keep_the_error_and_save_runs():
    draws, design, n = np.random.default_rng(6), Design(), 2000
    found = [decide(design, runs(draws, 0), runs(draws, 0)) for _ in range(n)]
    claims = sum(decision.state == "significant" for decision in found)
    for alpha in (0.01, 0.1, 0.3):  # the adjusted p is a p
        share = sum(decision.p_adjusted <= alpha for decision in found) / n
        assert share <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / n)
    assert claims / n <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / n)  # discrete p and futility make it smaller, never larger
    assert claims / n > 0.03
    saved = 1 - sum(decision.n_next for decision in found) / (n * design.looks[-1])
    assert 0.15 < saved < 0.25  # measured: 0.20 of the runs of cells without a difference


@pytest.mark.slow
def test_a_clear_difference_keeps_its_power_and_saves_runs():
    draws, design, n = np.random.default_rng(7), Design(), 500
    pairs = [(runs(draws, 1.0), runs(draws, 0)) for _ in range(n)]
    found = [decide(design, *pair) for pair in pairs]
    fixed = [decide(Design(looks=(30,)), *pair) for pair in pairs]
    power, most = (sum(d.state == "significant" for d in each) / n for each in (found, fixed))
    assert power > most - 0.05
    assert 1 - sum(decision.n_next for decision in found) / (n * 30) > 0.2


def predictive(p, t, last):
    """P(|Z(1)| >= last | z), the drift integrated over its posterior N(z / sqrt t, 1 / t) (Choi et al. 1985)."""
    z = stats.norm.isf(p / 2)
    mean, sd, left = z / math.sqrt(t), 1 / math.sqrt(t), math.sqrt(1 - t)

    def ends_beyond(drift):
        centre = z * math.sqrt(t) + drift * (1 - t)
        return stats.norm.sf((last - centre) / left) + stats.norm.cdf((-last - centre) / left)

    return integrate.quad(lambda d: stats.norm.pdf(d, mean, sd) * ends_beyond(d), mean - 12 * sd, mean + 12 * sd)[0]


@pytest.mark.parametrize("t", [1 / 3, 2 / 3])
@pytest.mark.parametrize("p", [1.0, 0.5, 0.05, 0.001])
def test_the_predictive_probability_is_the_integral_over_the_drift(p, t):
    assert sequential._predictive(p, t, 1.993) == pytest.approx(predictive(p, t, 1.993), rel=1e-6)


@pytest.mark.parametrize("look", [0, 1])
@pytest.mark.parametrize(("side", "state"), [(1 + 1e-6, "futile"), (1 - 1e-6, "continue")])
def test_a_cell_is_futile_where_the_predictive_probability_of_the_last_boundary_is_below_the_declared_one(
    monkeypatch, look, side, state
):
    design = Design(futility=(0.3, 0.1)[look])  # at a third of the seeds, 0.16 is the least there is
    t = design.information[look]
    edge = optimize.brentq(lambda p: predictive(p, t, design.bounds[-1]) - design.futility, 1e-4, 1.0 - 1e-9)
    p_of = {10: 0.2 if look else edge * side, 20: edge * side}
    monkeypatch.setattr(sequential, "mann_whitney", lambda x, y, **_: Finding("", "", (0, 0), p=p_of[len(x)]))
    n = design.looks[look]
    found = decide(design, dict.fromkeys(range(n), 1.0), dict.fromkeys(range(n), 1.0))
    assert (found.look, found.state) == (look + 1, state)


def test_a_p_on_the_level_is_significant(monkeypatch):
    design = Design()
    monkeypatch.setattr(sequential, "mann_whitney", lambda x, y, **_: Finding("", "", (0, 0), p=design.levels[0]))
    some = dict.fromkeys(range(10), 1.0)
    assert decide(design, some, some).state == "significant"
