"""Results on their way to the ledger while it is away."""

import shutil

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.ledger import recorder as module
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.recorder import Recorder
from l2t_ray.ledger.spool import Ended
from tests.support.ledgers import finished_ids
from tests.support.waiting import wait_for


class Described:
    name, uses, options = "described", frozenset(), {}


@pytest.fixture(autouse=True)
def method(monkeypatch):
    monkeypatch.setitem(registry.METHODS, "described", Described())
    monkeypatch.setattr(module, "PAUSES_S", (0.05,))


@pytest.fixture(scope="module")
def database(tmp_path_factory, template):
    folder = tmp_path_factory.mktemp("ledger")
    shutil.copy(template, folder)
    return folder


@pytest.fixture
def ledger(database, request):
    made = Ledger(request.node.name[:60], folder=database)
    made.open()
    return made


def make_run(seed):
    data = {"name": "digits", "samples_per_class": 10}
    return Run.model_validate({"data": data, "method": "described", "seed": seed})


def add(recorder, run):
    recorder.add(run, Ended(run.key, "finished", metrics={"train_loss": [(1, 2.0)]}, wall_s=1.0), "cell", "sha", {})


def go_away(monkeypatch):
    def away(*arguments, **settings):
        raise MlflowException("the server went away")

    monkeypatch.setattr(MlflowClient, "log_batch", away)


def test_results_are_in_the_ledger_when_the_block_is_left_and_each_is_told(ledger):
    runs, written = [make_run(seed) for seed in range(5)], []
    with Recorder(ledger, written.append) as recorder:
        for run in runs:
            add(recorder, run)
    assert recorder.n_left == 0
    assert sorted(written) == sorted(run.key for run in runs)
    assert set(finished_ids(ledger, written)) == set(written)


def test_a_ledger_that_comes_back_gets_everything_once(ledger, monkeypatch, caplog):
    run = make_run(10)
    with Recorder(ledger) as recorder:
        with monkeypatch.context() as patched:
            go_away(patched)
            add(recorder, run)
            wait_for(lambda: "the training goes on, results wait in" in caplog.text)
        wait_for(lambda: len(ledger.spool) == 0)
    assert recorder.n_left == 0
    assert caplog.text.count("results wait in") == 1  # warned once
    assert "the ledger answers again" in caplog.text
    assert [entry.status for entry in ledger.entries() if entry.key == run.key] == ["FINISHED"]


def test_a_ledger_that_stays_away_leaves_the_results_in_the_spool(ledger, monkeypatch):
    with Recorder(ledger) as recorder:
        go_away(monkeypatch)
        add(recorder, make_run(20))
    assert (recorder.n_left, len(ledger.spool)) == (1, 1)


def test_a_full_disk_keeps_results_in_memory_until_there_is_room(ledger, monkeypatch, caplog):
    run = make_run(30)

    def full(*arguments, **settings):
        raise OSError(28, "No space left on device")

    with Recorder(ledger) as recorder:
        with monkeypatch.context() as patched:
            patched.setattr("l2t_ray.ledger.spool.write_atomic", full)
            add(recorder, run)
            recorder.retry()
            assert len(ledger.spool) == 0
        recorder.retry()
    assert caplog.text.count("cannot be spooled") == 1
    assert list(finished_ids(ledger, [run.key])) == [run.key]
