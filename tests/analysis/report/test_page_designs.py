"""What a report says about a declared design: its levels, its looks, and the runs that it spared."""

from dataclasses import replace
from pathlib import Path

import pytest

from analysis.report.evidence import FIXED_N, Question, gather
from analysis.report.numbers import summary_json
from analysis.report.page import write_report
from analysis.report.paragraph import paragraph
from analysis.stats import main
from analysis.tables.claims import verdict_table
from analysis.tables.table import level_text
from analysis.tables.tests import design_table, power_table
from tests.support.ledgers import Logged, fill

DESIGN = {"looks": [10, 20, 30], "alpha": 0.05, "futility": 0.1, "compare": ["l2t_www", "l2t_ww"]}


def designed(shift, n, samples, **settings):
    """Two methods of 30 seeds: the runs of the first n, and the others."""
    runs = [
        Logged(method=m, samples=samples, seed=i, accuracy=50 + i * 7 % 30 / 10 + shift * (m == "l2t_www"), **settings)
        for m in ("l2t_ww", "l2t_www")
        for i in range(30)
    ]
    return [run for run in runs if run.seed < n], [run for run in runs if run.seed >= n]


def test_a_declared_design_is_stated_with_its_levels_and_what_it_spared(database):
    parts = [designed(5, 10, "10"), designed(0.0, 20, "30"), designed(0.9, 10, "50")]
    fill(database, "s", [run for done, _ in parts for run in done], wanted=[run for _, rest in parts for run in rest],
         further={"design": DESIGN})  # fmt: skip
    evidence = gather()
    state = {item.condition.samples_per_class: item.decision.state for item in evidence.comparisons}
    assert state == {"10": "significant", "30": "futile", "50": "continue"}
    assert {gap.wanted.samples_per_class for gap in evidence.gaps} == {"50"}  # the others are not needed
    assert sum(len(item.seeds) for item in evidence.spared) == 40 + 20
    page = write_report(evidence, Path("report")).read_text()
    for words in (
        "looks after 10 seeds: p ≤ 0.00021, 20 seeds: p ≤ 0.0120, 30 seeds: p ≤ 0.0463",
        "(look 1, level 0.00021)",
        "20 runs of L2T-www on CIFAR-10, 10 images a class were not trained: the cell had stopped.",
        "two-sided Mann-Whitney by the declared group-sequential design, at levels that spend 0.05 a cell",
    ):
        assert words in page, words


def test_the_family_of_a_design_is_corrected_with_the_p_adjusted_for_its_looks(database):
    parts = [designed(5, 10, "10"), designed(0.9, 20, "50")]
    fill(database, "s", [run for done, _ in parts for run in done], wanted=[run for _, rest in parts for run in rest],
         further={"design": DESIGN})  # fmt: skip
    first, second = gather().comparisons
    assert (first.decision.look, second.decision.look) == (1, 2)
    assert all(item.p == item.decision.p_adjusted > item.decision.p for item in (first, second))
    assert [first.p_holm, second.p_holm] == pytest.approx([2 * first.p, max(2 * first.p, second.p)])
    pairs = [item for item in gather().all_pairs if item.condition.samples_per_class == "10"]
    assert [item.p for item in pairs] == [first.p]


def test_a_cell_that_a_design_has_decided_is_complete(database):
    done, rest = designed(5, 10, "10")
    fill(database, "s", done, wanted=rest, further={"design": DESIGN})
    cell = gather().cells[0]
    assert (cell.mean.n, cell.n_wanted, cell.gaps) == (10, 10, ())
    assert main([]) == 0
    ufm = [Logged(method="ufm", samples="10", seed=seed, accuracy=40.0 + seed) for seed in range(30)]
    fill(database, "s", ufm, wanted=[*done, *rest], further={"design": DESIGN})
    assert main(["--compare", "l2t_www", "ufm"]) == 0  # the design has spared those runs, whatever pair is compared


def test_a_design_holds_for_runs_that_another_sweep_wants_too(database, capsys):
    done, rest = designed(5, 10, "10")
    fill(database, "pilot", done[:3], wanted=[run for run in done if run.seed < 5])  # older, and without a design
    fill(database, "s", done[3:], wanted=[*done[:3], *rest], further={"design": DESIGN})
    evidence = gather()
    assert evidence.comparisons[0].decision.state == "significant"
    assert evidence.gaps == ()
    assert "pilot and s share 10 runs, counted once and under pilot" in evidence.results.notices
    fill(database, "whole", [], wanted=[*done, *rest])  # wants what the design has spared
    assert len(gather().gaps) == 40
    assert len(gather(["s"]).gaps) == 0


def test_before_the_first_look_nothing_is_claimed(database):
    done, rest = designed(5, 9, "10")
    fill(database, "s", done, wanted=rest, further={"design": DESIGN})
    page = write_report(gather(), Path("report")).read_text()
    assert "no look of the declared design has been reached, so there is no test yet" in page


def test_a_manifest_with_an_impossible_design_is_refused(database, capsys):
    fill(database, "s", [Logged()], further={"design": {**DESIGN, "looks": [30, 10]}})
    assert main([]) == 2
    assert "s: the manifest's design is impossible: looks must be rising" in capsys.readouterr().err


def test_each_sweep_s_design_is_named_for_its_own_cells(database):
    strict = {**DESIGN, "looks": [10, 30], "alpha": 1e-6}
    for sweep, data, design in (("a", "cifar10", DESIGN), ("b", "stl10", strict)):
        done, rest = designed(5, 10, "10", data=data)
        fill(database, sweep, done, wanted=rest, further={"design": design})
    fill(database, "c", designed(5, 30, "10", data="cub")[0])
    evidence = gather()
    assert [(item.declared_by, item.alpha) for item in evidence.comparisons] == [("a", 0.05), ("", 0.05), ("b", 1e-6)]
    text = paragraph(evidence)
    declared = "by a group-sequential design declared in the sweep file, which spends"
    for words in (
        "in 3 cells by two-sided Mann-Whitney tests (Mann and Whitney 1947) at 0.05 (",
        f"1 of them after 10, 20 and 30 seeds {declared} 0.05 a cell",
        f"and 1 of them after 10 and 30 seeds {declared} 1e-06 a cell",
    ):
        assert words in text, words
    assert " at 0.05" not in paragraph(gather(["a"]))
    by_cell = summary_json(evidence)["answer"][-2]
    assert (
        "Mann-Whitney at 0.05, in 2 cells by the declared group-sequential designs, at levels that spend 1e-06 or 0.05"
        in by_cell
    )
    power, design = power_table(evidence.comparisons), design_table(evidence.comparisons, evidence.designs)
    assert [(table.header[-1], [row[-1] for row in table.rows]) for table in (power, design)] == [
        ("alpha", ["0.05", "0.05", "1e-06"]), ("alpha", ["0.05", "1e-06"]),
    ]  # fmt: skip
    assert "below each cell's alpha (1e-06 or 0.05)" in power.notes[0]
    rows = summary_json(evidence)["comparisons"]
    assert [(row["declared_by"], row["alpha"]) for row in rows] == [("a", 0.05), (None, 0.05), ("b", 1e-6)]
    page = write_report(evidence, Path("report")).read_text()
    assert "correction over all 3 comparisons of this report at each cell&#39;s alpha (1e-06 or 0.05)" in page
    assert "The alpha of a panel is the smallest of its cells." in page


def test_small_levels_and_the_p_beside_them_have_two_digits(database):
    done, rest = designed(5, 10, "10")
    fill(database, "s", done, wanted=rest, further={"design": {**DESIGN, "alpha": 1e-4}})
    evidence = gather()
    level = evidence.designs["s"].levels[0]
    assert level < 5e-9
    page = write_report(evidence, Path("report")).read_text()
    assert f"(look 1, level {level:.2g})" in page
    assert f"10 seeds: p ≤ {level:.2g}, 20 seeds: p ≤ " in page
    assert "0.0000" not in page.split('id="design"')[1].split("</section>")[0]
    table = design_table(evidence.comparisons, evidence.designs)
    p = evidence.comparisons[0].decision.p
    assert (table.rows[0][5], table.rows[0][6]) == (f"{p:.2g}", f"{level:.2g}")


@pytest.mark.parametrize(
    ("level", "text"),
    [(None, "–"), (0.0463, "0.0463"), (0.012, "0.0120"), (0.000207, "0.00021"), (3.14e-7, "3.1e-07")],
)
def test_a_level_has_two_digits_that_count(level, text):
    assert level_text(level) == text


def test_a_cell_before_its_first_look_has_no_verdict_though_others_are_decided(database):
    parts = [designed(5, 10, "10"), designed(5, 9, "50")]
    fill(database, "s", [run for done, _ in parts for run in done], wanted=[run for _, rest in parts for run in rest],
         further={"design": DESIGN})  # fmt: skip
    evidence = gather()
    first, second = verdict_table(evidence.comparisons).rows
    assert (first[2], first[5][-23:]) == ("better", "(look 1, level 0.00021)")
    assert (second[2], second[5]) == ("no test", "no look yet")
    assert "Of these cells, 1 had no test yet, as no look of the design" in paragraph(evidence)


def test_a_look_with_too_few_values_is_named_as_such(database):
    done, rest = designed(5, 10, "10")
    lost = [replace(run, accuracy=None, outcome="diverged") if run.seed > 3 else run for run in done]
    later = [replace(run, key="") for run in rest if run.seed < 14]
    fill(database, "s", [*lost, *later], wanted=[run for run in rest if run.seed >= 14], further={"design": DESIGN})
    evidence = gather()
    (item,) = evidence.comparisons
    assert (item.decision.look, item.decision.p, item.test.p is None) == (1, None, False)
    assert verdict_table([item]).rows[0][5] == "too few values at look 1"
    first = summary_json(evidence)["answer"][0]
    assert first == "L2T-www against L2T-ww: too few values at look 1, so there is no test yet."


def test_equivalence_is_named_among_what_a_design_does_not_adjust(database):
    done, rest = designed(5, 10, "10")
    fill(database, "s", done, wanted=rest, further={"design": DESIGN})
    evidence = gather()
    *_, note = design_table(evidence.comparisons, evidence.designs).notes
    assert note.startswith("Differences, their intervals and equivalence are not adjusted")


def test_the_smallest_class_of_a_designed_sweep_has_the_p_of_a_fixed_n(database):
    done, rest = designed(5, 10, '{"*":100,"cat":10}', data="stl10")
    for run in (*done, *rest):
        run.samples, run.params = "imbalanced", {"data.samples_per_class": '{"*": 100, "cat": 10}'}
        run.curves = {"test_accuracy_class_cat_percent": [(200, 10.0 + run.seed)]}
    fill(database, "s", done, wanted=rest, further={"design": DESIGN})
    (table,) = gather().minority_tables()
    assert table.notes[-1] == FIXED_N
    fill(database, "plain", [replace(run, key="", run_id="") for run in done])
    (table,) = gather(["plain"]).minority_tables()
    assert not any("fixed n" in note for note in table.notes)


def test_a_design_decides_by_accuracy_whatever_metric_is_asked_for(database):
    done, rest = designed(5, 10, "10")
    for run in done:
        run.curves = {"test_ece_percent": [(200, 10.0 + run.seed % 3)]}
    fill(database, "s", done, wanted=rest, further={"design": DESIGN})
    evidence = gather(question=Question(metric="test_ece_percent"))
    assert sum(len(item.seeds) for item in evidence.spared) == 40
    assert evidence.gaps == ()
    (item,) = evidence.comparisons
    assert (item.decision, item.a.mean.n) == (None, 10)
    assert evidence.main_tables()[0].notes[-1] == FIXED_N


def test_another_pair_of_a_designed_sweep_is_that_of_a_fixed_n(database):
    done, rest = designed(5, 10, "10")
    done += [Logged(method="scratch", samples="10", seed=seed, accuracy=40.0 + seed % 3) for seed in range(10)]
    fill(database, "s", done, wanted=rest, further={"design": DESIGN})
    other = gather(question=Question(pair=("l2t_www", "scratch"))).main_tables()[0]
    assert other.notes[-1] == FIXED_N
    assert FIXED_N not in gather().main_tables()[0].notes
