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
from analysis.tables.ranking import ranking_table
from l2t_ray.statistics.effect import paired_difference
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
    (found,) = gather().overall
    counted = [pairs["10"], pairs["30"]]
    assert found.test == van_elteren(counted)
    assert found.a12 == mean_a12(counted)
    # each cell has the same six seeds: one value a seed, the mean over cells
    by_seed = ({seed: x + 4.5 for seed, x in enumerate(X)}, dict(enumerate(Y)))
    assert found.difference.low == pytest.approx(paired_difference(*by_seed).low)
    assert ([str(item.condition) for item in found.comparisons], found.n_left_out) == (["cifar10/10", "cifar10/30"], 1)


def test_cells_without_common_seeds_have_the_interval_of_welch(database):
    other = [Logged(method=m, samples="30", seed=s + 9, accuracy=v) for m, values in (("ufm", X), ("scratch", Y))
             for s, v in enumerate(values)]  # fmt: skip
    fill(database, "s", [*runs_of("ufm", "10", X), *runs_of("scratch", "10", Y), *other])
    (found,) = gather().overall
    assert found.difference == average_difference([(X, Y), (X, Y)])


def test_cells_that_a_declared_design_decided_are_not_summed_up(database):
    design = {"looks": [5, 6], "compare": ["l2t_www", "l2t_ww"]}
    fill(database, "s", sweep(samples=("10", "30"), n=6), further={"design": design})
    assert gather().overall == ()


def test_methods_are_ordered_and_holm_corrects_over_them(database):
    fill(database, "s", sweep(n=6))
    found = gather().overall
    assert [(item.arm, item.base) for item in found] == [(m, "scratch") for m in ("l2t_www", "l2t_ww", "ufm")]
    assert found[0].p_holm == pytest.approx(3 * min(item.test.p for item in found))
    table, *_ = gather().claim_tables()
    assert [row[:2] for row in table.rows] == [("L2T-www", "3"), ("L2T-ww", "3"), ("UFM", "3")]
    assert table.header[-1] == "better"
    assert [row[-1] for row in table.rows] == ["3", "3", "3"]


def test_one_cell_has_no_table_over_cells(database):
    fill(database, "one", sweep(samples=("10",), n=6))
    assert [table.name for table in gather().claim_tables()] == ["verdicts"]


def test_the_page_has_the_table_the_ranks_and_the_diagram(database):
    fill(database, "s", sweep(n=5))
    evidence = gather()
    page = write_report(evidence, Path("report")).read_text()
    section = page.partition('id="ranks"')[2].partition("</section>")[0]
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
    assert [item["difference"]["value"] for item in found["overall"]] == pytest.approx([15, 10, 5])


def test_the_paragraph_for_a_paper_names_what_was_computed_over_cells(database):
    fill(database, "s", sweep(n=5))
    text = paragraph(gather())
    assert "Over all cells together we report the mean difference" in text
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
    notes = " ".join(ranking_table(ranking).notes)
    assert "Not ranked, because they lack a result in one of these cells: SpotTune." in notes
    assert "Left out: 1 cell in which one of these methods has no result (CIFAR-10, 50 images a class)." in notes


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
    assert row[-2:] == ("0.92 [0.62, 1.00]", "possible")
    assert evidence.comparisons[0].test.p > 0.5  # unpaired, nothing is found


def test_seeds_needed_after_correction_are_those_at_holms_first_step(database):
    fill(database, "s", sweep(order=("l2t_ww", "l2t_www"), n=6))
    evidence = gather()
    (table,) = evidence.detail_tables()["power"]
    item = evidence.comparisons[0]
    assert table.rows[0][-2:] == (str(item.needed_in(1)), str(item.needed_in(3)))
    assert item.needed_in(1) < item.needed_in(3)
    assert "at 0.05 / 3, Holm's first step" in table.notes[1]
