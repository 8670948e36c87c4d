"""Which of a run's several attempts counts, on a ledger that MLflow's own client has written."""

import shutil

import pytest
from mlflow.tracking import MlflowClient

from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.sql import Database
from tests.support.ledgers import failures_of, finished_ids
from tests.support.records import Ended, make_run

KEY = "0123456789abcdef"


@pytest.fixture
def ledger(template, tmp_path):
    shutil.copy(template, tmp_path)
    made = Ledger("small", folder=tmp_path)
    made.open()
    return made


def attempt(ledger, status=None, start_ms=None, **tags):
    """MLflow's id of a run, RUNNING where no status is given."""
    client = MlflowClient(ledger.uri)
    experiment = client.get_experiment_by_name(ledger.sweep).experiment_id
    told = {"l2t.kind": "run", "l2t.key": KEY, **{f"l2t.{name}": text for name, text in tags.items()}}
    run_id = client.create_run(experiment, start_time=start_ms, tags=told).info.run_id
    if status:
        client.set_terminated(run_id, status)
    return run_id


def test_of_several_finished_runs_the_oldest_counts_whatever_their_order_in_the_database(ledger):
    ids = {start_ms: attempt(ledger, "FINISHED", start_ms) for start_ms in (2000, 1000, 3000)}
    assert finished_ids(ledger, [KEY]) == {KEY: ids[1000]}
    assert [entry.start_ms for entry in ledger.entries()] == [1000, 2000, 3000]


def test_the_latest_attempt_tells_why_a_run_failed(ledger):
    attempt(ledger, "FAILED", 2000, outcome="diverged", reason="train_loss is not finite in epoch 3")
    attempt(ledger, "FAILED", 1000, outcome="failed", reason="ValueError: first")
    assert failures_of(ledger, [KEY]) == {KEY: ("diverged", "train_loss is not finite in epoch 3")}


def test_a_run_that_was_set_to_failed_by_hand_is_told_as_that(ledger):
    run_id = attempt(ledger, "FINISHED", 1000, outcome="finished", reason="")
    MlflowClient(ledger.uri).set_terminated(run_id, "FAILED")
    assert failures_of(ledger, [KEY]) == {KEY: ("failed", "was trained to its end, then set to FAILED in MLflow")}


@pytest.mark.parametrize(("outcome", "status"), [("diverged", "FAILED"), ("failed", "FAILED"), ("lost", "KILLED")])
def test_a_run_that_did_not_finish_is_not_finished_by_a_note_that_somebody_adds(ledger, outcome, status):
    run_id = attempt(ledger, status, 1000, outcome=outcome, reason="why")
    MlflowClient(ledger.uri).set_terminated(run_id, "FINISHED")  # as `mlflow.start_run(run_id=...)` ends
    told = {KEY: (outcome, "why")} if status == "FAILED" else {}
    assert (finished_ids(ledger, [KEY]), failures_of(ledger, [KEY])) == ({}, told)
    (read,) = Database(ledger.uri).entries()
    assert read.status == status


def test_a_run_that_is_trained_again_is_written_beside_one_that_a_note_has_set_to_finished(ledger):
    record = ledger.record(make_run(0), Ended(make_run(0).key), "digits/10/described")
    attempt(ledger, "FINISHED", 1000, key=record.key, outcome="diverged", reason="why")
    ledger.spool.own.clear()  # as a later launch finds it
    ledger.flush()
    assert [*finished_ids(ledger, [record.key])] == [record.key]


def test_a_failed_attempt_beside_a_finished_one_is_no_failure(ledger):
    attempt(ledger, "FINISHED", 1000)
    attempt(ledger, "FAILED", 2000, outcome="failed")
    assert failures_of(ledger, [KEY]) == {}


def test_a_run_that_a_killed_launch_left_is_no_failure_and_is_trained_again(ledger):
    attempt(ledger)
    assert ledger.settle() == 1
    assert [entry.status for entry in ledger.entries()] == ["KILLED"]
    assert (failures_of(ledger, [KEY]), finished_ids(ledger, [KEY])) == ({}, {})
