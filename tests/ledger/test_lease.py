"""One writer of a sweep, also on two hosts: on SQLite, through a server, and on PostgreSQL."""

import contextlib
import dataclasses
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from l2t_ray.config import Run
from l2t_ray.errors import InputError, LedgerUnavailableError
from l2t_ray.ledger import lease as module
from l2t_ray.ledger import ledger as tracking
from l2t_ray.ledger.lease import Holder, Lease
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.spool import Ended
from tests.support.ledgers import finished_ids
from tests.support.marks import LONG
from tests.support.servers import MlflowServer
from tests.support.waiting import wait_for

HOLD = """
import sys
from pathlib import Path
from l2t_ray.ledger.ledger import Ledger
with Ledger(sys.argv[2], sys.argv[3], folder=Path(sys.argv[1])).writing():
    print("held", flush=True)
    sys.stdin.read()
"""
RACE = """
import sys, time
from pathlib import Path
from l2t_ray.errors import InputError
from l2t_ray.ledger.ledger import Ledger
ledger = Ledger(sys.argv[2], sys.argv[3], folder=Path(sys.argv[1]))
ledger.open()
print("ready", flush=True)
sys.stdin.readline()
try:
    with ledger.writing():
        print("won", flush=True)
        sys.stdin.readline()
except InputError:
    print("refused", flush=True)
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory, template):
    folder = tmp_path_factory.mktemp("it's a folder")
    shutil.copy(template, folder)
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Silence is waited for as long as a busy machine could keep a living holder from a beat."""
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(module, "EXPIRES_S", 240.0)


def expire_soon(monkeypatch):
    """For tests in which nobody lives."""
    monkeypatch.setattr(module, "EXPIRES_S", 1.0)


class Gate:
    """MLflow's client; where it is closed, its calls stand as those of a process that was stopped."""

    def __init__(self, client):
        self._client, self._is_open, self.n_standing = client, threading.Event(), 0
        self.open()

    def open(self):
        self._is_open.set()

    def close(self):
        self._is_open.clear()

    def __getattr__(self, name):
        call = getattr(self._client, name)

        def wait_and_call(*arguments, **settings):
            if not self._is_open.is_set():
                self.n_standing += 1
                self._is_open.wait()
            return call(*arguments, **settings)

        return wait_and_call


@pytest.fixture
def ledger(database, request):
    made = Ledger(request.node.name[:60], folder=database)
    made.open()
    return made


def elsewhere(ledger):
    """A ledger of another folder, as on another host."""
    return Ledger(ledger.sweep, ledger.uri, folder=ledger.folder / "elsewhere")


def lease_run(ledger):
    client = MlflowClient(ledger.uri)
    experiment = client.get_experiment_by_name(ledger.sweep).experiment_id
    (run,) = client.search_runs([experiment], "tags.`l2t.kind` = 'lease'")
    return run


def make_run(seed):
    return Run.model_validate({"data": {"name": "digits", "samples_per_class": 10}, "method": "scratch", "seed": seed})


def put(ledger, run):
    ledger.record(run, Ended(run.key, "finished", metrics={"train_loss": [(1, 2.5)]}, wall_s=1.0), "digits/10/scratch")
    ledger.flush()


def spawn(code, ledger, folder):
    arguments = [sys.executable, "-c", code, str(folder), ledger.sweep, ledger.uri]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)


def pretend_other_host(monkeypatch):
    """Holders cannot be looked at: they run on another machine."""
    monkeypatch.setattr(Holder, "lives", lambda self: None)


def test_a_lease_that_was_deleted_is_told_as_that(ledger):
    lost = []
    with ledger.writing(on_lost=lost.append):
        MlflowClient(ledger.uri).delete_run(lease_run(ledger).info.run_id)
        wait_for(lambda: lost)
    assert lost == [f"{ledger.sweep}: the lease was deleted in MLflow; results of this launch wait in its spool"]


def test_a_second_writer_is_refused_and_told_who_the_first_is(ledger):
    with ledger.writing():
        assert lease_run(ledger).info.status == "RUNNING"
        with pytest.raises(InputError, match=r"by pid .* on .* since 2"), elsewhere(ledger).writing():
            pass
    assert lease_run(ledger).info.status == "FINISHED"


def test_the_lease_is_free_after_the_block_and_counts_its_terms(ledger):
    terms = []
    for _ in range(11):  # the tenth follows the ninth
        with elsewhere(ledger).writing() as lease:
            terms.append(lease.term)
    assert terms == [*range(1, 12)]


def test_a_killed_holder_on_this_machine_is_followed_at_once(ledger, tmp_path, caplog):
    process = spawn(HOLD, ledger, tmp_path)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=f"by pid {process.pid} on "), ledger.writing():
        pass
    process.kill()
    process.communicate()
    with ledger.writing() as lease:
        assert lease.term == 2
    assert "waiting up to" not in caplog.text
    assert f"taking over from pid {process.pid} on " in caplog.text
    assert "which has ended" in caplog.text


def test_a_holder_on_another_host_that_lives_is_refused_and_one_that_is_silent_is_followed(ledger, monkeypatch, caplog):
    pretend_other_host(monkeypatch)
    client = Gate(MlflowClient(ledger.uri))
    first = Lease(client, lease_run_id(ledger), ledger.sweep)
    with first:
        with pytest.raises(InputError, match="being launched already"), ledger.writing():
            pass
        client.close()  # the host is gone
        wait_for(lambda: client.n_standing)
        expire_soon(monkeypatch)
        begun = time.monotonic()
        with ledger.writing() as second:
            assert second.term == 2
            assert time.monotonic() - begun >= module.EXPIRES_S
            client.open()
            wait_for(lambda: first.lost)
            with pytest.raises(LedgerUnavailableError, match="taken over by pid"):
                first.check()
    assert "waiting up to 240 s for a sign of life" in caplog.text
    assert "waiting up to 1 s for a sign of life" in caplog.text


def lease_run_id(ledger):
    return MlflowClient(ledger.uri).get_experiment_by_name(ledger.sweep).experiment_id


def test_a_paused_writer_finds_out_writes_nothing_and_ends(ledger, monkeypatch):
    pretend_other_host(monkeypatch)
    expire_soon(monkeypatch)
    gates = []
    monkeypatch.setattr(tracking, "Lease", lambda client, *given, **more: Lease(gate(client, gates), *given, **more))
    told = threading.Event()
    with ledger.writing(on_lost=lambda reason: told.set()) as mine:
        gates[0].close()  # no heartbeat reaches the ledger
        wait_for(lambda: gates[0].n_standing)
        with elsewhere(ledger).writing():
            gates[0].open()
            assert told.wait(240)
            with pytest.raises(LedgerUnavailableError, match="taken over"):
                ledger.flush()
        assert mine.lost


def gate(client, gates):
    """The first client stands behind a gate."""
    gates.append(Gate(client))
    return gates[0] if len(gates) == 1 else client


def test_leaving_late_does_not_release_the_lease_of_the_next(ledger, monkeypatch):
    pretend_other_host(monkeypatch)
    client = Gate(MlflowClient(ledger.uri))
    first = Lease(client, lease_run_id(ledger), ledger.sweep)
    first.__enter__()
    client.close()
    wait_for(lambda: client.n_standing)
    with contextlib.ExitStack() as stack:
        with monkeypatch.context() as patched:
            expire_soon(patched)
            stack.enter_context(ledger.writing())
        client.open()
        first.__exit__(None, None, None)
        assert lease_run(ledger).info.status == "RUNNING"
        with pytest.raises(InputError), elsewhere(ledger).writing():
            pass


def test_two_lease_runs_made_at_once_let_one_writer_in(ledger, monkeypatch):
    """Both have looked before either made its run; the second goes on only now."""
    client = MlflowClient(ledger.uri)
    first, second = (Lease(client, lease_run_id(ledger), ledger.sweep) for _ in range(2))
    mine, theirs = (client.create_run(lease_run_id(ledger), tags={"l2t.kind": "lease"}).info.run_id for _ in range(2))
    seen = iter([[mine], [mine], [mine]])
    monkeypatch.setattr(first, "_search", lambda: next(seen))  # before the other made its run
    with first:
        monkeypatch.setattr(second, "_find", iter([[theirs], sorted([mine, theirs])]).__next__)
        with pytest.raises(InputError, match="being launched already"), second:
            pass


def test_a_changed_term_is_not_trusted_and_expires(ledger, monkeypatch):
    expire_soon(monkeypatch)
    client = MlflowClient(ledger.uri)
    run = client.create_run(lease_run_id(ledger), tags={"l2t.kind": "lease"})
    client.log_param(run.info.run_id, "term.1", '{"pid": "no number"')
    with ledger.writing() as lease:
        assert lease.term == 2


def test_a_process_is_told_from_the_next_one_with_its_number():
    here = Holder.here()
    assert here.lives() is True
    assert dataclasses.replace(here, started="1").lives() is False
    assert dataclasses.replace(here, boot="another").lives() is None
    assert Holder.read(json.dumps(dataclasses.asdict(here))) == here
    assert re.fullmatch(rf"pid {here.pid} on {here.host} since 2.* [+-][0-9]{{4}}", str(here))


def race(ledger, tmp_path, n):
    """How many of n processes that start at once get the lease."""
    processes = [spawn(RACE, ledger, tmp_path / str(number)) for number in range(n)]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("\n")
        answers = [process.stdout.readline().strip() for process in processes]
    finally:
        for process in processes:
            process.communicate("\n", timeout=240)
    assert set(answers) <= {"won", "refused"}, answers
    return answers.count("won")


@LONG
def test_of_processes_that_start_at_once_at_most_one_writes(ledger, tmp_path):
    assert race(ledger, tmp_path, 3) <= 1
    with ledger.writing():
        pass


@pytest.mark.slow
@LONG
def test_postgresql_behind_a_server_holds_lease_and_results(tmp_path, capsys, postgresql):
    uri = postgresql.database()
    with MlflowServer(uri, tmp_path) as server:
        served = Ledger("served", server.uri, folder=tmp_path)
        with served.writing():
            put(served, make_run(1))
            server.stop()
            with pytest.raises(LedgerUnavailableError):
                put(served, make_run(2))
            server.start()
            assert served.flush() == 0
            other = Ledger("served", server.uri, folder=tmp_path / "other")
            with pytest.raises(InputError), other.writing():
                pass
        assert race(served, tmp_path, 3) <= 1
        direct = Ledger("served", uri, folder=tmp_path)  # what `select_entries` reads is what the server wrote
        keys = [make_run(1).key, make_run(2).key]
        assert set(finished_ids(direct, keys)) == set(finished_ids(served, keys)) == set(keys)
        assert "planted-secret" not in direct.shown_uri
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(postgresql.database())
    study = optuna.create_study(storage=storage, study_name="once")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    assert len(optuna.load_study(study_name="once", storage=storage).trials) == 3
    storage.remove_session()
    storage.engine.dispose()
    assert capsys.readouterr().out == ""  # stdout is for results; MLflow's client prints addresses unless told not to
    log = (tmp_path / "mlflow-server.log").read_text() + "".join(
        Path(path).read_text() for path in (tmp_path / ".l2t").rglob("*.json")
    )
    assert "planted-secret" not in log
