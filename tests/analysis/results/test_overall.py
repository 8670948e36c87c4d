"""Over all cells: which cells count, which methods are ranked, and what table, figure and JSON say."""

import json
import re
from pathlib import Path

import pytest

from analysis.figures.ranks import draw_ranks
from analysis.report.evidence import Question, gather
from analysis.report.numbers import summary_json
from analysis.report.page import write_report
from analysis.report.paragraph import PLAIN, paragraph, references
from l2t_ray.statistics.stratified import average_difference, mean_a12, van_elteren
from tests.support.ledgers import Logged, fill

METHODS = ("scratch", "ufm", "l2t_ww", "l2t_www")
SAMPLES = ("10", "30", "100")
X = [20.1, 22.4, 19.7, 25.3, 24.8, 21.9]
Y = [18.2, 19.9, 17.5, 21.0, 20.6, 22.0]


def runs_of(method, samples, values, data="cifar10"):
    return [Logged(data=data, method=method, samples=samples, seed=s, accuracy=v) for s, v in enumerate(values)]


def sweep(order=METHODS, samples=SAMPLES, n=4):
    """Each method is 5 points above the one before it."""
    return [
        run
        for label in samples
        for place, method in enumerate(order)
        for run in runs_of(method, label, [20 + 5 * place + seed / 4 for seed in range(n)])
    ]


def test_the_answer_over_cells_is_that_of_the_cells_values(database):
    pairs = {"10": (X, Y), "30": ([v + 9 for v in X], Y), "100": (X[:2], Y)}
    fill(database, "s", [run for label, (x, y) in pairs.items()
                         for run in runs_of("l2t_www", label, x) + runs_of("l2t_ww", label, y)])  # fmt: skip
    overall = gather().overall
    counted = [pairs["10"], pairs["30"]]
    assert overall.test == van_elteren(counted)
    assert (overall.a12, overall.difference) == (mean_a12(counted), average_difference(counted))
    assert [str(item.condition) for item in overall.left_out] == ["cifar10/100"]


def test_a_declared_design_is_named_beside_the_answer_over_cells(database):
    design = {"looks": [5, 6], "compare": ["l2t_www", "l2t_ww"]}
    fill(database, "s", sweep(samples=("10", "30"), n=6), further={"design": design})
    assert "A declared design decided on n, but p" in gather().overall_tables()[0].notes[-1]


def test_one_cell_has_no_answer_over_cells_and_two_have_one(database):
    fill(database, "one", sweep(samples=("10",)))
    assert gather().overall is None
    fill(database, "two", sweep(samples=("30",)))
    assert gather().overall is not None


def test_the_page_has_the_table_the_ranks_and_the_diagram(database):
    fill(database, "s", sweep())
    evidence = gather()
    page = write_report(evidence, Path("report")).read_text()
    section = page.partition('id="overall"')[2].partition("</section>")[0]
    assert "L2T-www against L2T-ww over all cells" in section
    assert "+5.00" in section
    assert "Average ranks over cells" in section
    assert "critical difference" in section
    words = re.findall(r"<!-- (.*?) -->", Path("report/figures/ranks.svg").read_text())
    assert [word for word in words if "(" in word] == [
        "L2T-www (1.00)", "L2T-ww (2.00)", "UFM (3.00)", "From scratch (4.00)"
    ]  # fmt: skip
    found = json.loads(Path("report/results.json").read_text())
    assert found["ranking"]["average_ranks"] == {"l2t_www": 1.0, "l2t_ww": 2.0, "ufm": 3.0, "scratch": 4.0}
    # Friedman's largest value, N (k - 1), as the methods have the same order in every cell
    assert found["ranking"]["friedman_chi_squared"] == pytest.approx(3 * 3)
    assert found["overall"]["mean_difference"]["value"] == pytest.approx(5)


def test_the_paragraph_for_a_paper_names_what_was_computed_over_cells(database):
    fill(database, "s", sweep())
    text = paragraph(gather())
    assert "Over 3 cells together we report the mean difference" in text
    assert "4 methods are compared by their average ranks over 3 cells" in text
    for source in ("van Elteren 1960", "Agarwal et al. 2021", "Demsar 2006", "Bouthillier et al. 2021"):
        assert f"({source})" in text
    assert all(f"{{{key}," in references() for key in PLAIN)


def test_the_lowest_mean_has_rank_1_where_low_is_better(database):
    fill(database, "s", [
        Logged(method=run.method, samples=run.samples, seed=run.seed, curves={"train_loss": [(1, run.accuracy)]})
        for run in sweep()
    ])  # fmt: skip
    ranking = gather(question=Question(metric="train_loss")).ranking
    assert (ranking.arms, ranking.is_lowest_first) == (METHODS, True)


def test_methods_and_cells_that_cannot_be_ranked_are_named(database):
    # spottune is in one cell only; in a fourth cell scratch has no result
    lacking = [run for run in sweep(samples=("50",)) if run.method != "scratch"]
    fill(database, "s", [*sweep(), *runs_of("spottune", "10", [70.0, 71.0]), *lacking])
    evidence = gather()
    ranking = evidence.ranking
    assert (ranking.arms_left_out, ranking.places_left_out) == (("spottune",), (("cifar10", "50"),))
    notes = " ".join(evidence.overall_tables()[1].notes)
    assert "Not ranked, because they lack a result in one of these cells: SpotTune." in notes
    assert "Left out: 1 cell in which one of these methods has no result (cifar10/50)." in notes


def test_two_cells_or_two_methods_are_not_ranked(database):
    fill(database, "few", sweep(samples=SAMPLES[:2]))
    assert gather().ranking is None
    assert summary_json(gather())["ranking"] is None
    assert draw_ranks(None, None) is None
    fill(database, "pair", [run for run in sweep(samples=("100", "200")) if run.method in METHODS[:2]])
    assert gather(["pair"]).ranking is None


def test_a_method_wins_on_equal_seeds_and_the_table_says_so(database):
    wins = [y + (0.1 if seed else -0.1) for seed, y in enumerate(range(12))]  # 11 of 12 seeds
    fill(database, "s", runs_of("l2t_www", "10", wins) + runs_of("l2t_ww", "10", [*range(12)]))
    evidence = gather()
    row = evidence.detail_tables()["sizes"][0].rows[0]
    # R 4.2.2: binom.test(11, 12)$conf.int: 0.615, 0.998
    assert row[-2:] == ("0.92 [0.62, 1.00]", "meaningful")
    assert evidence.comparisons[0].test.p > 0.5  # unpaired, nothing is found


def test_seeds_needed_after_correction_are_those_at_holms_first_step(database):
    fill(database, "s", sweep(order=("l2t_ww", "l2t_www"), n=6))
    evidence = gather()
    (table,) = evidence.detail_tables()["power"]
    item = evidence.comparisons[0]
    assert table.rows[0][-2:] == (str(item.needed), str(item.needed_in(3)))
    assert item.needed < item.needed_in(3)
    assert "at 0.05 / 3, Holm's first step for 3 tests" in table.notes[1]
