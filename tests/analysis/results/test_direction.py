"""Reports of a trainer of one's own: a lower-is-better metric turns every word, rank and order, and only those.

The values are asymmetric on purpose: a report that took the wrong end for the better one would name another method.
"""

import json
import re
from dataclasses import replace

import pytest

from analysis.report.answer import answer
from analysis.report.evidence import Question, gather
from analysis.report.numbers import summary_json
from analysis.report.page import write_report
from analysis.report.sections import report_command
from l2t_ray.errors import InputError
from l2t_ray.statistics.hypothesis import brunner_munzel
from tests.support.ledgers import Logged, fill

GOOD = [1.0, 1.2, 0.9, 1.1, 1.3, 0.8, 1.15, 1.25]
BAD = [3.0, 3.3, 2.7, 3.6, 2.9, 3.1, 2.8, 9.0]
MIDDLE = [2.0, 2.1, 1.9, 2.2, 1.8, 2.3, 1.7, 2.4]
ABOUT_TRANSFER = re.compile(r"(?i)image|accuracy|transfer|scratch|thesis|published|augmentation")


def sweep(database, name, *, lower, metric="rmse", axis="", values=None, margin=0.01, more=()):
    """A sweep of three models on two data sets, as the ledger holds one of a trainer of one's own."""
    values = values or {"bad": BAD, "good": GOOD, "middle": MIDDLE}
    runs = [
        Logged(
            data=data, samples=axis or "-", method=model, seed=seed, accuracy=None, params={"settings.model": model},
            curves={metric: [(3, value + shift)]},
        )
        for data, shift in (("wine", 0.0), ("iris", 0.5))
        for model, found in values.items()
        for seed, value in enumerate(found)
    ]  # fmt: skip
    factors = {"data": "dataset", "axis": "n_samples" if axis else "", "method": "model"}
    told = {"metric": {"name": metric, "lower_is_better": lower, "margin": margin}, "factors": factors}
    fill(database, name, [*runs, *more], further=told)
    return runs


def found(name, **question):
    return gather([name], Question(**question))


def test_the_better_method_is_the_lower_one_if_the_file_says_so(database):
    sweep(database, "low", lower=True)
    evidence = found("low")
    assert evidence.question.words == ("worse", "better")
    assert {item.b.method for item in evidence.comparisons} == {"bad"}  # the file's first
    text = answer(evidence)[0]
    assert re.search(r"good \(.*\) and middle \(.*\) are better than bad", text)
    assert [item.arm for item in evidence.overall] == ["good", "middle"]
    assert all(item.difference.value < 0 for item in evidence.overall)
    verdicts = {(row["data"], row["a"]): row["verdict"] for row in summary_json(evidence)["comparisons"]}
    assert set(verdicts.values()) == {"lower"}
    shown = next(table for table in evidence.claim_tables() if table.name == "verdicts")
    assert {row[shown.header.index("verdict")] for row in shown.rows} == {"better"}


def test_the_same_numbers_mean_the_opposite_if_higher_is_better(database):
    sweep(database, "high", lower=False)
    evidence = found("high")
    text = answer(evidence)[0]
    assert re.search(r"middle \(.*\) and good \(.*\) are worse than bad", text)
    assert [item.arm for item in evidence.overall] == ["middle", "good"]
    shown = next(table for table in evidence.claim_tables() if table.name == "verdicts")
    assert {row[shown.header.index("verdict")] for row in shown.rows} == {"worse"}


@pytest.mark.parametrize(("lower", "first"), [(True, "good"), (False, "bad")])
def test_ranks_begin_at_the_better_end(database, lower, first):
    values = {"bad": BAD, "good": GOOD, "middle": MIDDLE, "other": [v + 0.5 for v in MIDDLE]}
    sweep(database, "ranked", lower=lower, values=values)
    for data in ("a", "b", "c"):
        sweep(database, f"ranked_{data}", lower=lower, values={m: [v + 0.1 for v in f] for m, f in values.items()})
    from analysis.results.ranking import rank_arms

    cells = found("ranked").cells
    many = [replace(cell, condition=replace(cell.condition, data=f"{cell.condition.data}{n}"))
            for n in range(3) for cell in cells]  # fmt: skip
    ranking = rank_arms(many, is_lowest_first=found("ranked").question.is_lower_better)
    assert ranking.arms[0] == first
    assert ranking.is_lowest_first is lower


@pytest.mark.parametrize(("lower", "shown"), [(True, "lowest mean is 1.0875"), (False, "highest mean is 3.6500")])
def test_the_best_mean_is_of_the_better_end(database, lower, shown):
    values = {"bad": BAD[:4], "good": GOOD}
    sweep(database, "few", lower=lower, values=values)
    assert shown in " ".join(answer(found("few")))  # means of GOOD on wine, and of BAD[:4] on iris


def test_lost_runs_count_as_the_worst_at_the_right_end(database):
    lost = [
        Logged(
            data="wine", samples="-", method="good", seed=seed, accuracy=None, outcome="diverged", reason="rmse is nan"
        )
        for seed in range(8, 12)
    ]
    sweep(database, "lost", lower=True, more=lost)
    item = next(i for i in found("lost").comparisons if i.a.method == "good" and i.condition.data == "wine")
    assert item.ranked_last == (4, 0)
    expected = brunner_munzel([*GOOD, *[10.0] * 4], BAD)  # above the highest, 9.0; spreads are unlike
    assert item.worst_ranked.p == pytest.approx(expected.p)
    assert item.worst_ranked.statistic == expected.statistic
    wrong = brunner_munzel([*GOOD, *[0.0] * 4], BAD)
    assert item.worst_ranked.p != pytest.approx(wrong.p)


def test_the_report_names_the_metric_and_the_factors_and_nothing_of_transfer(database, tmp_path):
    sweep(database, "named", lower=True, axis="40")
    evidence = found("named")
    page = write_report(evidence, tmp_path / "report").read_text()
    page = re.sub(r"<(style|script)\b.*?</\1>|base64,[A-Za-z0-9+/=]*", "", page, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", " ", page)
    assert not ABOUT_TRANSFER.findall(text)
    tables = [*evidence.main_tables(), *(table for group in evidence.detail_tables().values() for table in group)]
    assert not [table.title for table in tables if ABOUT_TRANSFER.search(" ".join([table.title, *table.header]))]
    verdicts = next(table for table in tables if table.name == "verdicts")
    assert verdicts.header[:3] == ("dataset", "n_samples", "methods")
    means = next(table for table in tables if table.name == "means_wine")
    assert means.title == "wine: mean rmse (lower is better) by n_samples"
    assert means.rows[0][1] == "3.8000 \N{PLUS-MINUS SIGN} 1.7729"  # t.ppf(0.975, 7) * std(BAD, ddof=1) / sqrt(8)
    assert "0.01 rmse" in text
    assert evidence.reproductions == ()


def test_without_an_axis_no_column_stands_for_it(database):
    sweep(database, "flat", lower=True)
    tables = [*found("flat").main_tables(), *(t for group in found("flat").detail_tables().values() for t in group)]
    verdicts = next(table for table in tables if table.name == "verdicts")
    assert verdicts.header[:2] == ("dataset", "methods")
    assert next(table for table in tables if table.name == "means_iris").header == (
        "model",
        "mean rmse (lower is better)",
    )
    assert all(len(row) == len(table.header) for table in tables for row in table.rows)


def test_names_of_the_thesis_are_not_taken_for_its_cells(database):
    runs = [
        Logged(data="cifar10", samples="10", method=method, seed=seed, accuracy=value, params={"settings.m": method})
        for method, values in (("scratch", GOOD), ("l2t_ww", BAD), ("l2t_www", MIDDLE))
        for seed, value in enumerate(values)
    ]
    told = {
        "metric": {"name": "test_accuracy_percent", "lower_is_better": False, "margin": 1.0},
        "factors": {"data": "d", "axis": "n", "method": "m"},
    }
    fill(database, "disguised", runs, further=told)
    evidence = found("disguised")
    assert evidence.reproductions == ()
    assert "thesis" not in " ".join(answer(evidence))
    assert not evidence.detail_tables()["thesis"]


def test_another_metric_of_the_sweep_has_no_declared_end(database):
    sweep(database, "two", lower=True)
    sweep(database, "two_more", lower=True, metric="score")
    with pytest.raises(InputError, match="must have one metric, got rmse in two, score in two_more"):
        gather(["two", "two_more"])
    assert "--metric" not in report_command(found("two"))
    assert "--margin" not in report_command(found("two"))
    assert "--margin 0.5" in report_command(found("two", margin=0.5))


def test_the_numbers_for_programs_tell_the_direction(database):
    sweep(database, "told", lower=True)
    question = json.loads(json.dumps(summary_json(found("told"))))["question"]
    assert question["lower_is_better"] is True
    assert question["factors"] == {"data": "dataset", "axis": "", "method": "model"}
