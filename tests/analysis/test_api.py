"""`analysis.compare`: the same numbers as the report's, from a table of runs or from `read_results`."""

import random

import pandas as pd
import pytest
from scipy.stats import mannwhitneyu

from analysis import compare, read_results
from analysis.report.evidence import Question, gather
from analysis.results.comparison import verdicts
from l2t_ray import results
from l2t_ray.errors import InputError
from tests.support.ledgers import Logged, fill


@pytest.fixture
def ledger(database):
    """Two methods on two sizes; ufm lacks a run on the larger one."""
    runs = [
        Logged(method=method, samples=samples, seed=seed, accuracy=base + seed + int(samples) / 10)
        for method, base in (("scratch", 40.0), ("ufm", 42.5))
        for samples in ("10", "50")
        for seed in range(6)
    ]
    fill(database, "s", runs[:-1], wanted=runs[-1:])


def test_a_table_has_a_row_for_each_condition(ledger):
    table = compare(results("s"), "ufm", "scratch").table()
    assert table["condition"].tolist() == ["cifar10/10", "cifar10/50"]
    assert table["n ufm"].tolist() == [6, 5]
    assert table["mean scratch"].tolist() == [43.5, 47.5]  # 40 + (0 + ... + 5) / 6 + 1, and + 5
    assert table["difference"][0] == pytest.approx(2.5)
    expected = mannwhitneyu([43.5 + k for k in range(6)], [41.0 + k for k in range(6)], method="exact").pvalue
    assert table["p"][0] == pytest.approx(expected)
    assert table["p_holm"][0] == pytest.approx(min(1.0, 2 * min(table["p"])) if table["p"][0] == min(table["p"]) else
                                               max(2 * min(table["p"]), table["p"][0]))  # fmt: skip


def test_results_with_their_gaps_give_the_same_numbers(ledger):
    found = read_results(["s"])
    one, other = compare(results("s"), "ufm", "scratch"), compare(found, "ufm", "scratch")
    assert one.table().equals(other.table())
    assert [len(item.a.gaps) for item in other.items] == [0, 1]


def test_a_notebook_shows_the_table_and_the_figure(ledger):
    comparison = compare(results("s"), "ufm", "scratch")
    assert "<table" in comparison._repr_html_()
    drawn = comparison.figure()
    assert "</svg>" in drawn._repr_svg_()
    *cells, together = drawn.numbers["difference"].tolist()
    assert cells == comparison.table()["difference"].tolist()
    assert together == pytest.approx(2.5)  # of the five seeds that both cells have


def test_methods_without_a_common_condition_are_refused(database):
    fill(database, "s", [Logged(method="ufm", samples="10"), Logged(method="scratch", samples="50")])
    with pytest.raises(InputError, match="must have a condition in common"):
        compare(results("s"), "ufm", "scratch")
    with pytest.raises(InputError, match="a and b must name methods of these sweeps, got 'ufn'"):
        compare(results("s"), "ufn", "scratch")


FACTORS = {"data": "trainer", "axis": "v", "method": "m"}
ERROR = {"metric": {"name": "error", "lower_is_better": True, "margin": 0.01}, "factors": FACTORS}
LOOKS = {"design": {"looks": [6, 12, 20], "alpha": 0.05, "futility": 0.1, "compare": ["x", "y"]}}


def own(method, seed, error, value="1", **more):
    curves = {"error": [(1, error)], **{name: [(1, value)] for name, value in more.items()}}
    return Logged(data="own", samples=value, method=method, seed=seed, accuracy=None, curves=curves)


@pytest.fixture
def designed(database):
    """Twelve conditions of 20 seeds, in which x is lower, with three looks; the last has a single finished run."""
    draw = random.Random(1)
    runs = [
        own(method, seed, draw.gauss(0.9 * (method == "y"), 1), str(value))
        for value in range(1, 13)
        for method in "xy"
        for seed in range(20)
    ]
    late = [run for run in runs if run.samples == "12" and (run.method, run.seed) != ("x", 0)]
    fill(database, "s", [run for run in runs if run not in late], wanted=late, further={**ERROR, **LOOKS})


def shown(comparison):
    return comparison.table()[["verdict", "p", "p_holm"]].to_dict("list")


@pytest.mark.parametrize("pair", [("x", "y"), ("y", "x")], ids="-".join)
def test_a_declared_design_decides_as_in_the_report(designed, pair):
    expected = gather(["s"], Question(pair=pair)).comparisons
    found = compare(read_results(["s"]), *pair)
    assert [item.p for item in found.items] == [item.p for item in expected]
    assert [item.p_holm for item in found.items] == [item.p_holm for item in expected]
    assert [*found.table()["verdict"]] == verdicts(expected)
    assert found.items[0].p > found.items[0].deciding.p  # adjusted for the looks
    assert found.items[-1].p is None  # and yet one of the family
    assert found.notes == ()
    assert "</svg>" in found.figure()._repr_svg_()


def test_a_table_of_a_design_is_refused_for_its_pair_alone(designed, database):
    table = results("s")
    told = r"s: looks of the design for x and y must know all wanted runs, .*; give read_results\(\['s'\]\)"
    with pytest.raises(InputError, match=told):
        compare(table, "y", "x")
    table["method"] = table["method"].replace("y", "z")
    assert "n depends on its decisions" in " ".join(compare(table, "x", "z").notes)


def test_a_table_keeps_what_the_sweep_says_of_its_metric(database):
    runs = [own(method, seed, 1 + seed / 100 + 0.004 * (method == "y")) for method in "xy" for seed in range(8)]
    fill(database, "s", runs, further=ERROR)
    table = results("s")
    found = compare(table, "x", "y")
    assert shown(found) == shown(compare(read_results(["s"]), "x", "y"))
    assert found.table()["verdict"].tolist() == ["undecided"]
    assert (found.metric, found.lower_is_better, found.items[0].margin) == ("error", True, 0.01)
    assert found.items[0].is_lower_better
    assert shown(compare(table[table["seed"] < 8].copy(), "x", "y")) == shown(found)
    table.to_csv("runs.csv", index=False)
    for lost in (pd.read_csv("runs.csv"), table.copy()):
        lost.attrs.clear()
        for given in ({}, {"margin": 1.0}, {"lower_is_better": True}):
            with pytest.raises(InputError, match=r"error: a table must know which end is better .*; give margin= and"):
                compare(lost, "x", "y", metric="error", **given)
        again = compare(lost, "x", "y", metric="error", margin=0.01, lower_is_better=True)
        assert again.table()["verdict"].tolist() == ["undecided"]
        assert again.items[0].is_lower_better
    coarse = compare(table, "x", "y", margin=1.0, lower_is_better=False)
    assert coarse.table()["verdict"].tolist() == ["equivalent"]
    assert not coarse.items[0].is_lower_better


def test_runs_without_the_metric_are_left_out_as_in_the_report(database):
    runs = [own(method, seed, seed, f1=seed / 9) for method in "xy" for seed in range(8)]
    runs[3].curves["f1"] = [(1, float("nan"))]
    del runs[5].curves["f1"]
    fill(database, "s", runs, further=ERROR)
    expected = gather(["s"], Question("f1", ("x", "y"))).comparisons
    found = compare(read_results(["s"]), "x", "y", metric="f1")
    assert [item.p for item in found.items] == [item.p for item in expected]
    assert found.table()[["n x", "n y"]].to_numpy().tolist() == [[6, 8]]
    assert found.notes == ("2 runs without a finite f1 are left out.",)
    assert found.notes[0] in found._repr_html_()
    table = compare(results("s"), "x", "y", metric="f1", margin=1, lower_is_better=False)
    assert (table.table().equals(found.table()), table.notes) == (True, found.notes)
    with pytest.raises(InputError, match="metric must be a column with finite numbers, got 'git'"):
        compare(results("s"), "x", "y", metric="git", margin=1, lower_is_better=False)


def test_the_direction_of_a_built_in_metric_follows_from_its_name(database):
    runs = [Logged(method=method, seed=seed, curves={"test_ece_percent": [(1, seed + 0.5 * (method == "ufm"))]})
            for method in ("ufm", "scratch") for seed in range(6)]  # fmt: skip
    fill(database, "s", runs)
    for found in (read_results(["s"]), results("s", metric="test_ece_percent")):
        (item,) = compare(found, "ufm", "scratch", metric="test_ece_percent").items
        assert item.is_lower_better
