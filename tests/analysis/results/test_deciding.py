"""The words of a report follow the test that decides: its direction, its tie rule, its power, its lost runs."""

import pytest

from analysis.report.answer import answer
from analysis.report.evidence import gather
from analysis.results.cells import Cell, Condition
from analysis.results.comparison import compare
from l2t_ray.statistics.hypothesis import brunner_munzel, mann_whitney
from l2t_ray.statistics.power import needed_seeds
from l2t_ray.statistics.stratified import van_elteren
from tests.support.ledgers import Logged, fill

MINUS = "\N{MINUS SIGN}"
A = [80 + seed / 10 for seed in range(8)]
B = [10.0, *(82 + seed / 10 for seed in range(1, 8))]  # better but for one seed that collapsed


def cell(method, values, samples="10"):
    return Cell(Condition("cifar10", samples), method, dict(enumerate(values)), len(values), (), {})


def sweep(database, *, places=("10", "30"), lower=False, n=8):
    sign = -1 if lower else 1
    runs = [
        Logged(data="wine", samples=place, method=method, seed=seed, accuracy=None,
               curves={"rmse": [(3, sign * value)]}, params={"trainer.file": "t.py"})
        for place in places for method, values in (("a", A), ("b", B)) for seed, value in enumerate(values)
        if method == "b" or seed < n
    ]  # fmt: skip
    told = {"metric": {"name": "rmse", "lower_is_better": lower, "margin": 1.0},
            "factors": {"data": "set", "axis": "n", "method": "model"}}  # fmt: skip
    fill(database, "mine", runs, further=told)


@pytest.mark.parametrize(("lower", "mean", "ranks", "shown"), [
    (False, "lower", "higher", f"{MINUS}7.00"), (True, "higher", "lower", "+7.00"),
])  # fmt: skip
def test_over_all_cells_the_better_one_is_that_of_van_elterens_test(database, lower, mean, ranks, shown):
    sweep(database, lower=lower)
    evidence = gather()
    (item,) = evidence.overall
    sign = -1 if lower else 1
    cells = [([sign * value for value in B], [sign * value for value in A])] * 2
    assert item.test == van_elteren(cells)
    assert item.is_higher is (item.test.statistic > 0) is not lower
    first = answer(evidence)[0]
    assert first.startswith(f"Over 2 cells b ({shown} [")
    assert f", by ranks {ranks} although its mean is {mean}, p = 0.0004) is better than a" in first
    tables = {table.name: table for table in evidence.claim_tables()}
    assert "b: ranks decide, and the mean difference points the other way." in tables["overall"].notes
    note = "wine, n 10; wine, n 30: ranks decide, and the mean difference points the other way."
    assert note in tables["verdicts"].notes
    assert {row[2] for row in tables["verdicts"].rows} == {"better"}


def test_a_single_cell_says_so_too_and_a_mean_that_agrees_says_nothing(database):
    sweep(database, places=("10",))
    assert ", by ranks higher although its mean is lower, p = 0.0218) is better than a" in answer(gather())[0]
    fill(database, "plain", [Logged(method=m, seed=s, accuracy=v) for m, values in (("scratch", A), ("ufm", A[::-1]))
                             for s, v in enumerate(values)])  # fmt: skip
    assert "by ranks" not in answer(gather(["plain"]))[0]


@pytest.mark.parametrize("places", [("10",), ("10", "30")])
def test_a_difference_of_fewer_seeds_than_all_tells_how_many(database, places):
    sweep(database, places=places, n=6)  # a has six seeds, b eight
    assert "] over 6 common seeds" in answer(gather())[0]


def test_without_further_seeds_no_number_of_them_is_told(database):
    sweep(database)
    assert "common seed" not in answer(gather())[0]


def test_spreads_of_constant_methods_are_alike():
    (item,) = compare([(cell("ufm", [91.1] * 6), cell("scratch", [90.1] * 6))])
    assert item.sds == (0.0, 0.0)
    assert not item.is_unlike
    assert item.deciding is item.test


def test_values_that_differ_in_their_last_bit_do_not_win():
    tied = [0.1 + 0.2] * 6
    (item,) = compare([(cell("ufm", tied), cell("scratch", [0.3] * 6))])
    assert (item.a12.value, item.p, item.paired_superiority.value) == (0.5, 1.0, 0.5)


def test_seeds_are_counted_for_the_test_that_decides():
    wide = [value * 4 for value in (-1.3, 0.2, 0.9, -0.4, 1.6, -0.8, 0.1, -0.3)]
    narrow = [value / 16 for value in wide]
    (unlike,), (alike,) = compare([(cell("ufm", wide), cell("scratch", narrow))]), compare([
        (cell("ufm", wide), cell("scratch", wide))
    ])  # fmt: skip
    assert unlike.needed_in(1) == needed_seeds(1.0, unlike.sds, is_unlike=True) > needed_seeds(1.0, unlike.sds)
    assert alike.needed_in(1) == needed_seeds(1.0, alike.sds)


def test_lost_runs_are_ranked_last_in_the_test_that_decides(database):
    # the method with the wider spread has lost five runs
    wide = [53 + 4 * (seed * 7 % 20 - 8) / 5 for seed in range(20)]
    narrow = [50 + (seed * 7 % 20 - 10) / 20 for seed in range(20)]
    runs = [
        Logged(method=method, seed=seed, accuracy=None if lost else value, outcome="diverged" if lost else "finished")
        for method, values in (("ufm", wide), ("scratch", narrow)) for seed, value in enumerate(values)
        for lost in [method == "ufm" and seed < 5]
    ]  # fmt: skip
    fill(database, "s", runs)
    (item,) = gather().comparisons
    assert item.deciding is item.brunner_munzel
    x, y = [*wide[5:], *[0.0] * 5], narrow
    assert item.worst_ranked.test == "Brunner-Munzel"
    assert item.worst_ranked.p == pytest.approx(brunner_munzel(x, y).p)
    assert item.worst_ranked.p != pytest.approx(mann_whitney(x, y).p)


def test_lost_runs_are_below_the_worst_result_however_large_it_is():
    huge = [1e17 + 32 * seed for seed in range(6)]
    (item,) = compare([(cell("ufm", huge), cell("scratch", huge))])
    object.__setattr__(item, "ranked_last", (2, 0))
    x, y = item._with_worst
    assert len(x) == 8
    assert max(x[6:]) < min(y)
