"""The ledger under faults, on SQLite, in PostgreSQL, and through `mlflow server` over each."""

import contextlib
import sqlite3
import subprocess
import sys
import time

import pytest
from mlflow.tracking import MlflowClient

from l2t_ray.config import Run
from l2t_ray.errors import InputError, LedgerUnavailableError
from l2t_ray.ledger import lease
from l2t_ray.ledger import recorder as module
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.recorder import Recorder
from l2t_ray.ledger.spool import Ended
from tests.support.ledgers import finished_ids
from tests.support.marks import LONG
from tests.support.servers import MlflowServer
from tests.support.waiting import wait_for

pytestmark = LONG  # the first test of each backend pays for its start
N = 6
KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from mlflow.tracking import MlflowClient
from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.ledger.spool import Ended
from l2t_ray.ledger.ledger import Ledger
registry.load()
ledger = Ledger("faults", sys.argv[2], folder=Path(sys.argv[1]))
run = Run.model_validate_json(sys.argv[3])
MlflowClient.log_batch = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
with ledger.writing():
    ledger.record(run, Ended(run.key, "finished", metrics={"train_loss": [(1, 2.5)]}, wall_s=1.0), "cell")
    ledger.flush()
"""


class Backend:
    """Where the ledger is, with what may be done to it."""

    def __init__(self, uri, folder, server=None):
        self.uri, self.folder, self.server = uri, folder, server

    @contextlib.contextmanager
    def away(self):
        """Nobody gets an answer: the server is killed, or another writer has the file."""
        if self.server is not None:
            self.server.stop()
            try:
                yield
            finally:
                self.server.start()
            return
        with contextlib.closing(
            sqlite3.connect(self.folder / "mlflow.db", timeout=240, isolation_level=None)
        ) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            yield


@pytest.fixture(
    scope="module",
    params=[
        "sqlite",
        "postgres",
        pytest.param("server", marks=pytest.mark.slow),
        pytest.param("server, postgres", marks=pytest.mark.slow),
    ],
)
def backend(request, tmp_path_factory):
    folder, server = tmp_path_factory.mktemp("backend"), None
    store = f"sqlite:///{folder / 'mlflow.db'}"
    if "postgres" in request.param:
        server = request.getfixturevalue("postgresql")
        store = server.database()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lease, "HEARTBEAT_S", 0.5)
        patched.setattr(module, "PAUSES_S", (0.2,))
        if "server" in request.param:
            with MlflowServer(store, folder) as served:
                yield Backend(served.uri, folder, served)
        else:
            yield Backend(store, folder, server)


@pytest.fixture
def ledger(backend, tmp_path):
    made = Ledger("faults", backend.uri, folder=tmp_path)
    made.open()
    return made


def make_run(seed):
    return Run.model_validate({"data": {"name": "digits", "samples_per_class": 10}, "method": "scratch", "seed": seed})


def ended(run):
    return Ended(run.key, "finished", metrics={"train_loss": [(1, 2.5), (2, 1.5)]}, wall_s=1.0)


def logged(ledger, runs):
    """Our runs as MLflow's client sees them, in the order of their making."""
    client = MlflowClient(ledger.uri)
    experiment = client.get_experiment_by_name("faults").experiment_id
    keys = {run.key for run in runs}
    found = client.search_runs([experiment], "tags.`l2t.kind` = 'run'", order_by=["attributes.created"])
    return [run for run in found if run.data.tags["l2t.key"] in keys]


def test_results_wait_while_the_ledger_is_away_and_are_written_once_and_in_order(backend, ledger):
    runs, written = [make_run(seed) for seed in range(N)], []
    with ledger.writing(), Recorder(ledger, written.append) as recorder:
        recorder.add(runs[0], ended(runs[0]), "cell", "sha", {})
        wait_for(lambda: written)
        with backend.away():
            for run in runs[1:]:
                recorder.add(run, ended(run), "cell", "sha", {})
            time.sleep(0.5)  # for what must not happen
            assert len(ledger.spool) == N - 1
        wait_for(lambda: len(written) == N)
    assert written == [run.key for run in runs]
    found = logged(ledger, runs)
    assert sorted(run.data.tags["l2t.key"] for run in found) == sorted(written)
    assert {run.info.status for run in found} == {"FINISHED"}
    client = MlflowClient(ledger.uri)
    for run in found:
        history = client.get_metric_history(run.info.run_id, "train_loss")
        assert [(point.step, point.value) for point in history] == [(1, 2.5), (2, 1.5)]


def test_a_run_that_a_killed_driver_left_half_written_is_completed_from_the_spool_or_trained_again(ledger, tmp_path):
    for number, keeps_spool in enumerate((True, False)):
        run, folder = make_run(100 + number), tmp_path / f"host {number}"
        arguments = [str(folder), ledger.uri, run.model_dump_json()]
        done = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, *arguments], check=False)
        assert done.returncode == -9
        assert [found.info.status for found in logged(ledger, [run])] == ["RUNNING"]
        next_ = Ledger("faults", ledger.uri, folder=folder if keeps_spool else tmp_path / "another host")
        with next_.writing():
            next_.flush()
            assert next_.settle() == (0 if keeps_spool else 1)
        assert [found.info.status for found in logged(ledger, [run])] == ["FINISHED" if keeps_spool else "KILLED"]
        assert list(finished_ids(next_, [run.key])) == ([run.key] if keeps_spool else [])


def test_a_second_driver_is_refused(ledger, tmp_path):
    with ledger.writing():
        other = Ledger("faults", ledger.uri, folder=tmp_path / "elsewhere")
        with pytest.raises(InputError, match="being launched already"), other.writing():
            pass


def test_a_ledger_that_is_away_stops_a_launch_before_it_starts(backend, ledger, tmp_path):
    if backend.server is None:
        pytest.skip("SQLite waits 20 s for a lock; `make chaos` locks it for a minute")
    other = Ledger("faults", backend.uri, folder=tmp_path)
    with backend.away(), pytest.raises(LedgerUnavailableError, match="must answer"), other.writing():
        pass
