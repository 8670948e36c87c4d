"""The first sentence of a report: runs without a result, ranked last."""

import json

import pytest

from analysis.report.evidence import Question, gather
from analysis.report.numbers import summary_json
from analysis.report.page import write_report
from l2t_ray.statistics.hypothesis import mann_whitney
from tests.support.ledgers import Logged, fill

N = 30


def pair(lost=0, outcome="diverged", gain=4.0, method="l2t_ww"):
    """L2T-www, better by `gain` points, and L2T-ww; the first `lost` seeds of `method` ended without a result."""
    for name, mean in (("l2t_www", 50.0 + gain), ("l2t_ww", 50.0)):
        for seed in range(N):
            ended = name == method and seed < lost
            number = None if ended else mean + 7 * seed % N / 3  # both have the same spread
            yield Logged(method=name, seed=seed, accuracy=number, outcome=outcome if ended else "finished")


def first_sentence():
    return summary_json(gather())["answer"][0]


@pytest.mark.parametrize("outcome", ["diverged", "failed"])
def test_a_difference_that_lost_runs_would_undo_says_so_in_the_first_sentence(database, outcome):
    runs = list(pair(10, outcome, method="l2t_www"))
    fill(database, "s", runs)
    (item,) = gather().comparisons
    x, y = ([run.accuracy for run in runs if run.method == name] for name in ("l2t_www", "l2t_ww"))
    counted = [value for value in x if value is not None]
    assert item.ranked_last == (10, 0)
    assert item.worst_ranked.p == mann_whitney([*counted, *[0.0] * 10], y).p
    assert item.test.p < 0.01 < 0.05 < item.worst_ranked.p
    said = "Ranked last, the 10 runs without a result change 1 of 1 single test, uncorrected (CIFAR-10, 10 images a "
    assert said in first_sentence()


def test_a_difference_that_stands_with_the_lost_runs_last_says_that_too(database):
    fill(database, "s", pair(1))
    assert first_sentence().endswith("Ranked last, the 1 run without a result changes no single test.")


def test_without_lost_runs_nothing_is_said_of_them(database):
    fill(database, "s", pair())
    assert "Ranked last" not in first_sentence()


def test_missing_runs_count_where_one_side_alone_has_them(database):
    done = [run for run in pair() if run.method == "l2t_ww" or run.seed >= 10]
    missing = [run for run in pair() if run.method == "l2t_www" and run.seed < 10]
    fill(database, "s", done, wanted=missing)
    (item,) = gather().comparisons
    assert item.ranked_last == (10, 0)


def test_runs_that_both_sides_have_still_to_train_are_not_the_worst(database):
    fill(database, "s", [run for run in pair() if run.seed >= 10], wanted=[run for run in pair() if run.seed < 10])
    (item,) = gather().comparisons
    assert item.ranked_last == (0, 0)
    assert "Ranked last" not in first_sentence()


def test_methods_without_a_common_seed_are_compared_by_their_means(database, tmp_path):
    higher = [Logged(method="l2t_www", seed=seed, accuracy=60.0 + seed) for seed in range(6)]
    fill(database, "s", [*higher, *(Logged(method="l2t_ww", seed=10 + n, accuracy=50.0 + n) for n in range(6))])
    evidence = gather()
    found = json.loads(json.dumps(summary_json(evidence), allow_nan=False))
    assert found["comparisons"][0]["paired_difference"]["value"] is None
    assert "L2T-www (+10.00 [" in first_sentence()
    assert "is better than L2T-ww (difference of means in points" in first_sentence()
    assert write_report(evidence, tmp_path / "report").is_file()


def own(data, methods, gain=0.0):
    return [
        Logged(data=data, samples="-", method=method, seed=seed, accuracy=None,
               curves={"rmse": [(1, 50.0 + 7 * seed % 8 + gain * place)]})
        for place, method in enumerate(methods) for seed in range(8)
    ]  # fmt: skip


RMSE = {
    "metric": {"name": "rmse", "lower_is_better": True, "margin": 1.0},
    "factors": {"data": "table", "axis": "", "method": "model"},
}


def test_a_cell_of_which_nothing_is_compared_is_named(database):
    """Every method is compared with the first file's first: a second file with other methods had no word."""
    fill(database, "one", own("d1", ["a", "b"]), further=RMSE)
    fill(database, "two", own("d2", ["x", "y"]), further=RMSE)
    told = "Not compared: d2, without the methods above; --baseline or --compare names others."
    assert summary_json(gather())["answer"][1] == told
    assert "Not compared" not in " ".join(summary_json(gather(["one"]))["answer"])
    asked = gather(question=Question(pair=("a", "b")))
    assert "Not compared" not in " ".join(summary_json(asked)["answer"])


def test_the_first_sentence_counts_all_methods_over_which_holm_corrects(database):
    """The third method shares a single cell with the baseline: its row is corrected with the others."""
    runs = [
        Logged(data=data, method=method, seed=seed, accuracy=50.0 + 7 * seed % 8)
        for data, methods in (("a", ("scratch", "ufm", "l2t_ww")), ("b", ("scratch", "ufm")))
        for method in methods
        for seed in range(8)
    ]
    fill(database, "s", runs)
    assert "van Elteren's test, Holm over 2 methods)" in first_sentence()


def test_where_low_is_better_the_first_named_method_has_the_lowest_mean(database):
    fill(database, "s", own("d", ["a", "b", "c"], gain=-20.0), further=RMSE)
    assert first_sentence().startswith("On d c (−40.00 [")


def test_one_run_and_one_cell_are_called_so(database):
    fill(database, "s", [Logged(method="scratch", seed=0)])
    evidence = gather()
    assert "Of 1 cell that the thesis prints too: 1 not enough seeds" in " ".join(summary_json(evidence)["answer"])
    assert "1 run a cell." in evidence.main_tables()[0].notes
