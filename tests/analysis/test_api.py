"""`analysis.compare`: the same numbers as the report's, from a table of runs or from `read_results`."""

import pytest
from scipy.stats import mannwhitneyu

from analysis import compare, read_results
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
