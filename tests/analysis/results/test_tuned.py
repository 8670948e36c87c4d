"""Methods at their own settings and at their best ones: pairs, gains, their change, tables and figure."""

import json
import re
from dataclasses import replace

import pytest

from analysis.figures.tuned import draw_tuned
from analysis.report.evidence import gather
from analysis.report.numbers import summary_json
from analysis.report.page import write_report
from analysis.results.cells import Cell, Condition
from analysis.results.tuned import TUNED, find_tunings, own_condition
from analysis.tables.tuned import gains_table, reading, tuned_table
from l2t_ray.sweepfile.search import VARIANT
from tests.support.ledgers import Logged, fill

# Accuracy by method and variant for 8 seeds; scratch gains 10 points by tuning, l2t_www 4: its lead falls from 9 to 3.
NOISE = (0.0, 1.1, -0.7, 0.4, 2.0, -1.3, 0.9, -0.2)
BASE = {("scratch", ""): 40.0, ("scratch", "tuned"): 50.0, ("l2t_www", ""): 49.0, ("l2t_www", "tuned"): 53.0}

UNLIKE = {name: 0.013 if name == ("l2t_www", "tuned") else 0.0 for name in BASE}  # no two seeds change alike


def runs(samples="10"):
    return [
        Logged(
            samples=samples, method=method, variant=variant, seed=seed,
            accuracy=base + noise + 0.1 * (seed * len(method + variant) % 7) + UNLIKE[method, variant] * seed**2,
            params={"training.lr": "0.01" if variant and method == "scratch" else "0.05" if variant else "0.1"},
        )
        for (method, variant), base in BASE.items()
        for seed, noise in enumerate(NOISE)
    ]  # fmt: skip


@pytest.fixture
def evidence(folder, database):
    fill(database, "fair_best", [*runs(), *runs("50")])
    return gather(["fair_best"], folder=folder)


def mean(values):
    return sum(values) / len(values)


def test_the_search_and_the_report_mean_the_same_variant():
    assert TUNED == VARIANT


def test_a_tuned_condition_knows_its_own():
    assert own_condition(Condition("d", "10", "tuned")) == Condition("d", "10")
    assert own_condition(Condition("d", "10", "beta=1 tuned")) == Condition("d", "10", "beta=1")
    assert own_condition(Condition("d", "10", "finetuned")) is None


def test_every_method_stands_beside_itself_and_gains_are_differences_to_scratch(evidence):
    found = evidence.tunings
    assert [(item.own.place[1], item.own.method) for item in found.tunings] == [
        ("10", "scratch"), ("10", "l2t_www"), ("50", "scratch"), ("50", "l2t_www"),
    ]  # fmt: skip
    assert found.tunings[0].settings == {"training.lr": ("0.1", "0.01")}
    values = {(cell.method, cell.condition.variant): [*cell.values.values()] for cell in evidence.cells[:4]}
    means = {name: mean(found) for name, found in values.items()}
    gain = found.gains[0]
    own, tuned = (means["l2t_www", v] - means["scratch", v] for v in ("", "tuned"))
    assert gain.own.difference == pytest.approx(own)
    assert gain.tuned.difference == pytest.approx(tuned)
    assert gain.change.mean == pytest.approx(tuned - own)
    assert gain.test.p == pytest.approx(2 / 2**8)  # all eight changes are negative: the smallest exact p


def test_holm_corrects_over_all_rows_of_a_column(evidence):
    items = [item.comparison for item in evidence.tunings.tunings]
    ordered = sorted(item.test.p for item in items)
    assert min(item.p_holm for item in items) == pytest.approx(min(1, 4 * ordered[0]))
    gains = [item.own for item in evidence.tunings.gains]
    assert min(item.p_holm for item in gains) == pytest.approx(2 * min(item.test.p for item in gains))


def test_the_tables_and_the_reading_say_what_was_found(evidence):
    table = tuned_table(evidence.tunings.tunings)
    assert table.rows[0][2] == "From scratch"
    assert table.rows[0][-1] == "lr 0.01"
    assert table.rules == (2,)
    gains = gains_table(evidence.tunings.gains)
    assert [row[2] for row in gains.rows] == ["L2T-www", "L2T-www"]
    assert gains.rows[0][7].startswith("\N{MINUS SIGN}")
    first = reading(evidence.tunings.gains)[0]
    assert first.startswith("cifar10/10: L2T-www is +")
    assert "the difference falls by " in first


def test_changes_of_gains_are_corrected_over_the_table_and_the_reading_decides_by_that(evidence):
    gains = evidence.tunings.gains
    assert [gain.p_holm for gain in gains] == pytest.approx([2 * 2 / 2**8] * 2)
    table = gains_table(gains)
    assert table.header[-2:] == ("p (Wilcoxon)", "p (Holm)")
    assert [row[-2:] for row in table.rows] == [("0.0078", "0.0156")] * 2
    assert any("Holm's beside it over all changes" in note for note in table.notes)
    strict = [replace(gain, own=replace(gain.own, alpha=0.01)) for gain in gains]  # 0.0078 alone would be below it
    assert all("whether the difference changes is not settled" in text for text in reading(strict))
    assert summary_json(evidence)["gains"][0]["change_p_holm"] == gains[0].p_holm


def test_a_difference_that_was_never_a_gain_is_no_gain_of_unfit_settings(evidence):
    def behind(gain):  # the method below scratch before and after tuning
        return replace(gain, own=replace(gain.own, a=gain.own.b, b=gain.own.a))

    gains = evidence.tunings.gains
    assert any("unfit settings" in note for note in gains_table(gains).notes)
    assert not any("unfit settings" in note for note in gains_table([behind(gain) for gain in gains]).notes)
    assert "the difference falls by " in reading([behind(gains[0])])[0]
    rising = replace(gains[0], change=replace(gains[0].change, mean=2.0), rises=True)
    assert "the difference rises by 2.00" in reading([rising])[0]


def test_small_gains_of_large_numbers_that_change_alike_are_ties(folder, database):
    logged = [
        Logged(method=method, variant=variant, seed=seed, accuracy=base + gain + place * seed)
        for variant, base, place, gain_here in (("", 50, 0.1, 0.001), ("tuned", 60, 0.3, 0.003))
        for method, gain in (("scratch", 0.0), ("l2t_www", gain_here))
        for seed in range(8)
    ]
    fill(database, "fair_best", logged)
    (gain,) = gather(["fair_best"], folder=folder).tunings.gains
    assert (gain.change.mean, gain.change.half_width) == (pytest.approx(0.002), 0.0)
    assert gain.test.p == 2 / 2**8  # eight equal changes: of all changes of signs, these and their opposites
    assert gain.rises


def test_a_change_goes_where_wilcoxons_ranks_go_and_a_mean_that_does_not_is_told(folder, database):
    # every seed's gain rises by a little, but for one that collapses once tuned
    values = {("scratch", ""): 40.0, ("scratch", "tuned"): 50.0, ("l2t_www", ""): 49.0, ("l2t_www", "tuned"): 61.0}
    logged = [
        Logged(method=method, variant=variant, seed=seed, accuracy=base + (seed / 2 if base == 61 else 0))
        for (method, variant), base in values.items()
        for seed in range(12)
    ]
    collapsed = next(run for run in logged if (run.method, run.variant, run.seed) == ("l2t_www", "tuned", 0))
    collapsed.accuracy = 1.0
    fill(database, "fair_best", logged)
    (gain,) = gather(["fair_best"], folder=folder).tunings.gains
    assert gain.change.mean < 0 < gain.test.statistic
    assert gain.rises is (gain.test.statistic > 12 * 13 / 4)
    (text,) = reading([replace(gain, p_holm=0.01)])
    assert "the difference falls by" not in text
    assert f"rises by the ranks of its changes, although its mean falls by {-gain.change.mean:.2f}" in text


def test_a_method_whose_own_settings_were_the_best_keeps_its_runs_in_the_gains(folder, database):
    fill(database, "fair_best", [run for run in runs() if (run.method, run.variant) != ("l2t_www", "tuned")])
    found = gather(["fair_best"], folder=folder).tunings
    www = found.tunings[1]
    assert (www.own, www.comparison) == (www.tuned, None)
    assert tuned_table(found.tunings).rows[1][4] == "the same"
    assert found.gains[0].tuned.a is www.own
    assert found.gains[0].change.mean < -9  # scratch alone has gained


def test_what_is_not_settled_is_not_said():
    def cell(method, variant, values):
        condition = Condition("d", "10", variant)
        return Cell(condition, method, dict(enumerate(values)), len(values), (), {}, sweep="s")

    same = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    mixed = [2.0, 1.0, 4.0, 3.0, 6.0, 5.5]
    cells = [cell(m, v, mixed if m != "scratch" and v else same) for m in ("scratch", "ufm") for v in ("", "tuned")]

    class Nothing:
        runs = None

    found = find_tunings(Nothing, cells, alpha=0.05, margin=1.0)
    assert "whether the difference changes is not settled" in reading(found.gains)[0]


def test_the_report_has_the_section_the_figure_and_the_numbers(evidence, tmp_path):
    page = write_report(evidence, tmp_path / "report").read_text()
    assert "At their own settings and at their best ones" in page
    assert (tmp_path / "report/figures/tuned.svg").exists()
    assert (tmp_path / "report/tables/gains.csv").exists()
    numbers = summary_json(evidence)
    assert len(numbers["tuned"]) == 4
    assert numbers["gains"][0]["change"]["mean"] < 0
    json.dumps(numbers, allow_nan=False)


def test_a_sweep_that_was_never_tuned_has_none_of_it(folder, database):
    fill(database, "plain", [run for run in runs() if not run.variant])
    plain = gather(["plain"], folder=folder)
    assert plain.tuned_tables() == []
    assert "tuned" not in summary_json(plain)


def test_a_gain_over_scratch_without_results_is_left_out_of_the_figure(folder, database):
    ended = [run for run in runs() if (run.method, run.variant) != ("scratch", "tuned")]
    fill(database, "fair_best", ended, wanted=[run for run in runs() if run not in ended])
    found = gather(["fair_best"], folder=folder).tunings
    drawn = draw_tuned(found, None)
    assert "gain_own" in drawn.numbers
    assert "gain_tuned" not in drawn.numbers


@pytest.mark.parametrize(("unit", "is_percent"), [("test accuracy (%)", True), ("train loss", False)])
def test_points_are_of_percents_alone(evidence, unit, is_percent):
    assert ("gain over scratch (points)" in text_of(draw_tuned(evidence.tunings, None, unit=unit))) == is_percent


def text_of(drawn):
    return " ".join(re.findall(r"<!-- (.*?) -->", drawn.svg))  # what matplotlib drew as outlines
