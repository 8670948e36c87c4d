"""Metrics that follow from a learning curve: the area under it, and the epochs to an accuracy."""

import json

import pytest

from analysis.report.evidence import Question, gather
from analysis.results.metrics import CURVE, derive, is_derived, is_lower_better, percent_sign, target, unit
from analysis.results.runs import read_results
from analysis.stats import main
from l2t_ray.errors import InputError
from l2t_ray.statistics.hypothesis import mann_whitney
from tests.support.ledgers import Logged, fill

NAN = float("nan")


def curve(run_id, *points):
    return [(run_id, epoch, value) for epoch, value in points]


def test_the_area_is_the_integral_of_the_line_through_the_points_over_its_span():
    # by hand: (10 + 30) / 2 over 1 epoch, (30 + 50) / 2 over 3 epochs: 140 / 4
    assert derive("accuracy_auc_percent", curve("a", (1, 10), (2, 30), (5, 50))).values == {"a": 35}
    assert derive("accuracy_auc_percent", curve("a", (10, 42), (200, 42))).values == {"a": 42}


def test_epochs_count_to_the_first_logged_one_that_reaches_the_accuracy():
    found = derive("epochs_to_50_percent", curve("a", (5, 10), (10, 50), (15, 49), (20, 60)))
    assert found.values == {"a": 10}
    assert found.restricted("epochs_to_50_percent", ["a"]) == ""
    assert derive("epochs_to_62.5_percent", curve("a", (1, 62.4), (2, 62.5))).values == {"a": 2}


def test_a_run_that_never_gets_there_ranks_after_every_other():
    history = curve("a", (1, 10), (200, 50)) + curve("b", (1, 10), (200, 49)) + curve("c", (1, 10), (100, 20))
    found = derive("epochs_to_50_percent", history)
    assert found.values == {"a": 200, "b": 201, "c": 201}
    assert found.restricted("epochs_to_50_percent", "abc") == (
        "epochs_to_50_percent: 2 of 3 runs never reach 50 %; each counts as 201, one epoch after the last, and ranks "
        "after all others; means and differences of means with them are restricted to 201 epochs; runs end after 100 "
        "to 200 epochs, and a short one may rank last for that"
    )


def test_the_value_of_runs_that_never_get_there_does_not_change_a_test_of_ranks():
    x, y = [3, 4, 6, 201, 201, 201], [2, 3, 3, 5, 8, 201]
    later = [[1e6 if value == 201 else value for value in values] for values in (x, y)]
    assert mann_whitney(x, y) == mann_whitney(*later)


def test_a_run_needs_two_finite_accuracies():
    history = curve("a", (1, 10)) + curve("b", (1, NAN), (2, 20)) + curve("c", (1, NAN), (2, 20), (3, 40))
    assert derive("accuracy_auc_percent", history).values == {"c": 30}


def test_the_better_end_and_the_unit_are_known():
    assert is_derived("epochs_to_7_percent")
    assert not is_derived("epochs_to_percent")
    low = ["epochs_to_50_percent", "train_loss", "test_ece_percent", "wall_s", "peak_bytes"]
    assert all(map(is_lower_better, low))
    assert not any(map(is_lower_better, ["test_accuracy_percent", "accuracy_auc_percent", "own"]))
    assert unit("epochs_to_50_percent") == "epochs to 50 % test accuracy (lower is better)"
    assert (percent_sign("accuracy_auc_percent"), percent_sign("epochs_to_50_percent")) == (" %", "")
    assert target("test_accuracy_percent") is None


@pytest.mark.parametrize("text", ["0", "101", "100.5"])
def test_an_accuracy_that_cannot_be_is_refused(text):
    with pytest.raises(InputError, match=f"X above 0 and at most 100, got {text}"):
        target(f"epochs_to_{text}_percent")


def runs_of(method, first, n=6):
    """Runs that reach 50 % at epoch `first`, `first` + 1, ... of ten epochs, or never."""
    return [
        Logged(method=method, seed=seed, accuracy=None, curves={
            "test_accuracy_percent": [(epoch, 60.0 if epoch >= first + seed else 20.0) for epoch in range(1, 11)]
        })
        for seed in range(n)
    ]  # fmt: skip


def test_tables_page_and_json_are_about_the_derived_metric(database, capsys):
    fill(database, "s", runs_of("l2t_www", 2) + runs_of("l2t_ww", 7))
    assert main(["--metric", "epochs_to_50_percent", "--out", "report"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    # l2t_www: epochs 2 to 7; l2t_ww: 7 to 10, then two that never get there and count as 11
    assert "CIFAR-10: mean epochs to 50 % test accuracy (lower is better) by images a class" in out
    assert "L2T-www 4.50" in out
    assert "L2T-ww 9.33" in out
    assert "2 of 12 runs never reach 50 %; each counts as 11, one epoch after the last" in out
    assert main(["--metric", "epochs_to_50_percent", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cells"][1]["values"] == {str(seed): 2 + seed for seed in range(6)}
    assert found["comparisons"][0]["mann_whitney"]["statistic"] == 0.5  # one tie, at epoch 7
    assert found["answer"][0].startswith(
        "On CIFAR-10 with 10 images a class L2T-www (−4.83 [−5.26, −4.40], p = 0.0043) is better than L2T-ww (paired "
        "difference in epochs"
    )


def test_the_area_is_the_metric_of_a_whole_report(database):
    fill(database, "s", runs_of("l2t_www", 2) + runs_of("l2t_ww", 7))
    evidence = gather(question=Question(metric="accuracy_auc_percent"))
    # seed 0 of l2t_www by hand: 20 at epoch 1, 60 from 2 on: (40 + 8 * 60) / 9
    assert evidence.cells[1].values[0] == pytest.approx(520 / 9)
    assert evidence.results.restricted == ""
    assert evidence.question.what == "Mean test accuracy averaged over epochs (%)"


def test_a_run_without_a_curve_is_a_gap_and_no_curve_at_all_is_refused(database):
    fill(database, "s", [*runs_of("ufm", 2, 1), Logged(method="scratch")])
    results = read_results(metric="accuracy_auc_percent")
    assert [(gap.outcome, gap.reason) for gap in results.gaps] == [("invalid", "accuracy_auc_percent is absent")]
    fill(database, "t", [Logged(method="hint")])
    with pytest.raises(InputError, match="needs test accuracies of two or more epochs of a run, but no run has logged"):
        read_results(["t"], metric="epochs_to_50_percent")


def test_a_run_that_diverged_early_has_no_part_in_the_derived_metric(database):
    diverged = Logged(method="scratch", outcome="diverged", accuracy=None, curves={CURVE: [(1, 20.0), (2, 20.0)]})
    fill(database, "s", [*runs_of("l2t_www", 2), *runs_of("l2t_ww", 7), diverged])
    results = read_results(metric="epochs_to_50_percent")
    assert [gap.outcome for gap in results.gaps] == ["diverged"]
    assert "2 of 12 runs" in results.restricted
    assert "runs end" not in results.restricted


def test_a_misspelt_derived_metric_is_suggested(database):
    fill(database, "s", [Logged()])
    with pytest.raises(InputError, match="accuracy_auc_percent"):
        read_results(metric="accuracy_auc_percentt")
