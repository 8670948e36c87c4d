"""A run is what it is, whatever its results are called; and what a report says where its sweep or metric is gone."""

import contextlib
import sqlite3
from dataclasses import replace

import pytest

from analysis import compare
from analysis.report.answer import answer
from analysis.report.evidence import Question, gather
from analysis.report.page import write_report
from analysis.report.sections import report_command
from analysis.results.runs import IDENTITY, PROVENANCE, read_results
from l2t_ray.errors import InputError
from l2t_ray.ledger.limits import safe_name
from l2t_ray.trainer.outcome import TAKEN, ResultError, number
from tests.support.ledgers import Logged, fill

NAMES = (*IDENTITY, *PROVENANCE)


def own(*, metric="score", lower=True):
    """Runs of two models by a trainer of the user's own, and what its sweep file says."""
    runs = [
        Logged(data="wine", samples="-", method=method, seed=seed, accuracy=None, params={"trainer.file": "t.py"},
               curves={safe_name(metric): [(3, value + seed / 7)]})
        for method, value in (("a", 1.0), ("b", 2.0)) for seed in range(6)
    ]  # fmt: skip
    told = {"metric": {"name": metric, "lower_is_better": lower, "margin": 0.5},
            "factors": {"data": "set", "axis": "", "method": "model"}}  # fmt: skip
    return runs, told


def change(database, query):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute(query).rowcount == 1
        connection.commit()


@pytest.mark.parametrize("name", NAMES)
def test_a_result_of_an_old_ledger_does_not_replace_what_a_run_is(database, name):
    runs, told = own()
    fill(database, "mine", runs, further=told)
    plain = read_results().runs
    for run in runs:
        run.curves[name] = [(3, 7.0)]
        run.run_id = ""
    database.unlink()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        from tests.conftest import SCHEMA

        connection.executescript(SCHEMA.read_text())
    fill(database, "mine", runs, further=told)
    evidence = gather()
    assert evidence.results.runs.equals(plain)
    assert [(cell.method, len(cell.values)) for cell in evidence.cells] == [("a", 6), ("b", 6)]


def test_what_a_run_is_is_no_name_of_a_result():
    assert {*TAKEN} == {*NAMES, "wall_s", "peak_bytes"}
    for name in TAKEN:
        with pytest.raises(ResultError, match=f"mine: a result must not be called {name}, which every run has; rename"):
            number(name, 1.0, "mine")


@pytest.mark.parametrize("asked", [None, "seed"])
def test_a_metric_of_an_old_ledger_that_has_such_a_name_is_refused(database, asked):
    runs, told = own(metric="seed")
    fill(database, "mine", runs, further=told)
    with pytest.raises(InputError, match="metric must not be called seed, which every run has; rename the result"):
        read_results(metric=asked)


@pytest.mark.parametrize(("label", "n"), [("50", 50), ("\N{SUPERSCRIPT TWO}", None), ("9" * 30, None)])
def test_an_axis_value_that_looks_like_a_number_is_read_as_far_as_it_is_one(database, label, n):
    fill(database, "s", [Logged(samples=label, seed=seed) for seed in range(2)], manifest=False)
    assert [value if value == value else None for value in read_results().runs["n_images"]] == [n, n]


def test_a_metric_that_mlflow_renames_is_shown_by_its_true_name(database, tmp_path):
    runs, told = own(metric="acc@1", lower=False)
    fill(database, "mine", runs, further=told)
    evidence = gather()
    kept = safe_name("acc@1")
    assert evidence.results.metric == kept != "acc@1" == evidence.question.metric
    page = write_report(evidence, tmp_path / "report").read_text()
    assert "mean acc@1" in page
    assert "0.5 acc@1" in page
    texts = [text for table in evidence.main_tables() for text in (table.title, *table.header, *table.notes)]
    assert not [text for text in [*texts, *answer(evidence)] if kept in text]
    assert "--metric" not in report_command(evidence)
    for name in ("acc@1", kept):  # either is understood, with what the file says of it
        assert gather(question=Question(name)).question == evidence.question
        assert compare(read_results(), "b", "a", metric=name).lower_is_better is False
    with pytest.raises(InputError, match="got 'acc@2'; did you mean acc@1"):
        read_results(metric="acc@2")


def test_a_deleted_sweep_is_told_with_the_command_that_restores_it(database):
    fill(database, "gone", [Logged()])
    fill(database, "kept", [Logged(seed=1)])
    number_of = "(SELECT experiment_id FROM experiments WHERE name = 'gone')"
    change(database, f"UPDATE experiments SET lifecycle_stage = 'deleted' WHERE experiment_id = {number_of}")
    with pytest.raises(InputError, match=r"'gone' was deleted in MLflow; restore it with `mlflow experiments restore"):
        read_results(["gone"])
    assert len(read_results().runs) == 1
    change(database, "UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = 'kept'")
    with pytest.raises(InputError, match="'kept' was deleted in MLflow"):  # the last one
        read_results(["kept"])


@pytest.mark.parametrize("metric", [None, "score"])
def test_a_deleted_manifest_of_ones_own_trainer_is_refused(database, metric):
    runs, told = own()
    fill(database, "mine", runs, further=told)
    assert read_results(metric=metric).declared.lower_is_better
    ours = "SELECT run_uuid FROM tags WHERE key = 'l2t.kind' AND value = 'manifest'"
    change(database, f"UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid IN ({ours})")
    with pytest.raises(InputError, match=r"mine: the ledger must hold the sweep's manifest, .* got none"):
        read_results(metric=metric)


def test_methods_and_data_sets_with_one_pretty_name_are_kept_apart(database):
    runs = [
        Logged(data=data, samples=samples, method=method, seed=seed, accuracy=base + seed / 7)
        for data in ("mnist", "MNIST", "svhn") for samples in ("1",)
        for base, method in ((50, "lora"), (51, "LoRA"), (52, "ufm")) for seed in range(6)
    ]  # fmt: skip
    fill(database, "s", runs)
    evidence = gather()
    tables = {table.name: table for table in evidence.main_tables()}
    assert [row[0] for row in tables["accuracy_mnist"].rows[:3]] == ["UFM", "LoRA", "lora"]
    assert (tables["accuracy_mnist"].title[:5], tables["accuracy_MNIST"].title[:5]) == ("mnist", "MNIST")
    assert tables["accuracy_svhn"].title.startswith("SVHN")  # nothing else is called so
    assert [row[0] for row in tables["ranks"].rows] == ["UFM", "LoRA", "lora"]
    alone = [run for run in runs if (run.method, run.data) == ("lora", "mnist")]
    fill(database, "alone", [replace(run, run_id="", key="") for run in alone])
    (table, *_) = gather(["alone"]).main_tables()
    assert (table.rows[0][0], table.title[:5]) == ("LoRA", "MNIST")
