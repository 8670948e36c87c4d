"""Which test decides, over what its p is corrected, and what is compared with what."""

import numpy as np
import pytest
from scipy import stats

from analysis.report.evidence import Question, gather
from analysis.report.numbers import summary_json
from analysis.results.cells import Cell, Condition, choose_pairs
from analysis.results.comparison import compare, equivalent_in_family, verdicts
from l2t_ray.errors import InputError
from l2t_ray.statistics.effect import a12_brunner_munzel, paired_difference
from tests.support.ledgers import Logged, fill


def cell(method, values, samples="10", variant=""):
    values = [float(value) for value in values]
    return Cell(Condition("cifar10", samples, variant), method, dict(enumerate(values)), len(values), (), {})


def test_a_page_over_many_sweeps_corrects_over_all_that_it_counts(database):
    draws = np.random.default_rng(4)
    for number in range(10):  # noise, one cell each
        runs = [
            Logged(data=f"set{number}", method=m, seed=seed, accuracy=50 + float(draws.normal()))
            for m in ("scratch", "ufm") for seed in range(8)
        ]  # fmt: skip
        fill(database, f"sweep{number}", runs)
    items = gather().comparisons
    smallest = min(item.p for item in items)
    assert {item.n_family for item in items} == {10}
    assert min(item.p_holm for item in items) == pytest.approx(min(1, 10 * smallest))
    assert smallest < 0.1  # one alone would look like something
    assert {row["n_family"] for row in summary_json(gather())["comparisons"]} == {10}


@pytest.mark.parametrize(
    ("n", "sds", "is_unlike"),
    [((30, 30), (1, 1.5), False), ((30, 30), (1, 2.5), True), ((30, 14), (1, 1), True), ((30, 15), (1, 1), False)],
)
def test_brunner_and_munzel_decide_where_spreads_or_sizes_are_unlike(n, sds, is_unlike):
    x, y = (sd * stats.norm.ppf((np.arange(size) + 0.5) / size) for size, sd in zip(n, sds, strict=True))
    (item,) = compare([(cell("ufm", x), cell("scratch", y))])
    assert item.is_unlike == is_unlike
    assert item.deciding is (item.brunner_munzel if is_unlike else item.test)
    assert item.p == item.deciding.p
    assert item.a12.method == ("Brunner and Munzel's t" if is_unlike else "Newcombe's method 5")


def test_the_interval_of_brunner_and_munzel_ends_where_their_p_says():
    draws = np.random.default_rng(5)
    for _ in range(50):
        x, y = draws.normal(0.8, 1, 12), draws.normal(0, 3, 30)
        p = stats.brunnermunzel(x, y).pvalue
        found = a12_brunner_munzel(x, y, confidence=1 - p)
        assert min(abs(found.low - 0.5), abs(found.high - 0.5)) == pytest.approx(0, abs=1e-9)
        assert found.value == pytest.approx(np.mean(x[:, None] > y[None, :]))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "sds"), [((30, 8), (1, 4)), ((30, 30), (1, 4)), ((10, 10), (1, 1)), ((5, 5), (1, 1))])
def test_the_deciding_test_keeps_its_level_where_mann_whitney_does_not(n, sds):
    draws, n_draws = np.random.default_rng(1), 500
    found = covered = 0
    for _ in range(n_draws):
        x, y = (draws.normal(0, sd, size) for size, sd in zip(n, sds, strict=True))
        (item,) = compare([(cell("ufm", x), cell("scratch", y))])
        found += item.is_significant
        covered += item.a12.low <= 0.5 <= item.a12.high
    assert found / n_draws < 0.05 + 3 * (0.05 * 0.95 / n_draws) ** 0.5
    assert covered / n_draws > 0.95 - 3 * (0.05 * 0.95 / n_draws) ** 0.5 - 0.01


def test_equivalence_is_corrected_over_the_family_too():
    x = stats.norm.ppf((np.arange(12) + 0.5) / 12)
    alike = [(cell("ufm", x * s, label), cell("scratch", x * s, label)) for label, s in (("10", 1.25), ("30", 3.0))]
    items = compare(alike)
    p = [item.equivalence.p for item in items]
    assert p[0] < 0.05 < 2 * p[0] < p[1]
    assert equivalent_in_family(items) == [False, False]
    assert equivalent_in_family(items[:1]) == [True]
    assert verdicts(items[:1]) == ["equivalent"]


def test_every_method_is_compared_with_scratch_and_variants_with_their_own():
    cells = [
        cell(method, [1, 2], variant=variant)
        for method, variant in [("scratch", ""), ("scratch", "wide"), ("ufm", ""), ("ufm", "wide"), ("hint", "deep")]
    ]
    found = [(a.arm, b.arm) for a, b in choose_pairs(cells)]
    assert found == [("ufm", "scratch"), ("ufm/wide", "scratch/wide"), ("hint/deep", "scratch")]
    named = [(a.arm, b.arm) for a, b in choose_pairs(cells, baseline="scratch/wide")]
    assert named == [(arm, "scratch/wide") for arm in ("scratch", "ufm", "ufm/wide", "hint/deep")]
    assert [(a.arm, b.arm) for a, b in choose_pairs(cells, declared=("ufm", "hint"))] == []
    with pytest.raises(InputError, match="--baseline must name methods of these sweeps, got 'ufn'; did you mean ufm"):
        choose_pairs(cells, baseline="ufn")


def test_a_declared_pair_comes_before_scratch_and_a_baseline_before_both(database):
    runs = [Logged(method=m, seed=s, accuracy=50 + s + len(m)) for m in ("scratch", "ufm", "hint") for s in range(6)]
    fill(database, "s", runs, further={"design": {"looks": [6], "compare": ["hint", "ufm"]}})
    assert {(item.a.method, item.b.method) for item in gather().comparisons} == {("hint", "ufm")}
    asked = gather(question=Question(baseline="ufm")).comparisons
    assert {(item.a.method, item.b.method) for item in asked} == {("scratch", "ufm"), ("hint", "ufm")}


def test_a_paired_difference_has_the_interval_of_r_and_only_common_seeds():
    x, y = {0: 1.0, 1: 4.0, 2: 2.5, 3: 9.0, 7: 99.0}, {0: 0.5, 1: 2.0, 2: 2.0, 3: 5.0, 8: -99.0}
    found = paired_difference(x, y)
    # R 4.2.2: t.test(c(1, 4, 2.5, 9), c(0.5, 2, 2, 5), paired = TRUE)$conf.int: -0.8887450775 4.3887450775
    assert (found.value, found.low, found.high) == pytest.approx((1.75, -0.8887450775, 4.3887450775))
    assert paired_difference({1: 1.0}, {2: 1.0}).low is None
