"""The first sentence of a report: runs without a result, ranked last."""

import pytest

from analysis.report.evidence import gather
from analysis.report.numbers import summary_json
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
