"""Where the ledger is, and that no password is shown."""

import contextlib
import shlex
import shutil
import sqlite3
from pathlib import Path

import pytest

from analysis import stats
from l2t_ray import sweep
from l2t_ray.errors import InputError, LedgerClosedError, mask
from l2t_ray.ledger.address import pages, tracking_uri
from l2t_ray.ledger.ledger import Ledger
from tests.support.launches import call
from tests.support.ledgers import Logged, fill
from tests.support.marks import LONG
from tests.support.servers import MlflowServer


def test_the_uri_comes_from_the_argument_the_environment_or_the_folder(tmp_path, monkeypatch):
    assert tracking_uri(folder=tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert tracking_uri(folder=tmp_path) == "http://127.0.0.1:1"
    assert tracking_uri("sqlite:///x.db", tmp_path) == "sqlite:///x.db"
    with pytest.raises(InputError, match="must be a database or a server"):
        tracking_uri("./mlruns")


@pytest.mark.parametrize(
    "uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///?mode=ro", "sqlite://x.db"]
)
def test_a_database_in_memory_is_refused_because_it_ends_with_the_process(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI must name SQLite's file"):
        tracking_uri()


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://me:p@ss@host/db", "postgresql://***@host/db"),
        ("at http://u:p@h:1/x and http://h:2", "at http://***@h:1/x and http://h:2"),
        ("postgresql://h/db?user=u&password=p&x=1", "postgresql://h/db?user=u&password=***&x=1"),
        ("sqlite:////a@b.db", "sqlite:////a@b.db"),
        ("postgresql://u:ge/heim@h/db", "postgresql://***@h/db"),
        ("postgresql://u:p@ss/w@h/db went away", "postgresql://***@h/db went away"),
    ],
)
def test_passwords_are_masked(text, masked):
    assert mask(text) == masked


def test_a_uri_with_blanks_is_refused_without_showing_it():
    with pytest.raises(InputError, match="must have no blanks") as caught:
        tracking_uri("postgresql://u:planted secret@h/db")
    assert "planted" not in str(caught.value)


def test_the_pages_of_one_sweep_are_its_table_and_those_of_several_the_list():
    ids, file = {"a": "7", "b": "8"}, "sqlite:////tmp/it's here.db"
    assert pages(file, ["a"], ids) == "l2t ui a"
    assert pages(file, ["a", "b"], ids) == "l2t ui"
    assert pages(file, ["a"], ids, is_default=False) == f"MLFLOW_TRACKING_URI={shlex.quote(file)} l2t ui a"
    server = "http://u:p@host:5000"
    assert pages(server, ["b"], ids) == "http://***@host:5000/#/experiments/8/runs?viewStateShareKey=l2t"
    assert pages(server, ["b", "a"], ids) == pages(server, ["c"], ids) == "http://***@host:5000"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda content: b"no database at all, but a text", "file is not a database"),
        (lambda content: content[:4096] + bytes(len(content) // 2), "malformed"),
    ],
)
def test_a_damaged_database_is_told_as_such(database, damage, told):
    fill(database, "small", [Logged(method="ufm", seed=0)])
    with contextlib.closing(sqlite3.connect(database)) as ledger:
        ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.write_bytes(damage(database.read_bytes()))
    code, _, err = call(stats.main, "small")
    assert code == 2
    first, second = err.splitlines()
    assert told in first
    assert first.endswith("the file is damaged: put back a copy, or set MLFLOW_TRACKING_URI to another")
    assert second == "the next launch writes the results that wait in .l2t"


AUTH = """[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/auth.db
admin_username = admin
admin_password = not-the-shipped-one
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


def own_sweep():
    """Writes a sweep of one run of a trainer of one's own."""
    Path("mine.py").write_text("def train(settings, seed, context):\n    return {'error': float(seed)}\n")
    Path("mine.yaml").write_text(
        "sweep: mine\ntrainer: mine.py\nmetric: {name: error, lower_is_better: true, margin: 1}\n"
        "grid: [{settings: {lr: 1}, seed: 0}]\n"
    )
    return "mine.yaml"


@LONG
def test_a_server_that_wants_a_login_is_told_with_the_variables(folder, monkeypatch):
    (folder / "auth.ini").write_text(AUTH.format(folder=folder))
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(folder / "auth.ini"))
    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "0" * 32)
    with MlflowServer(f"sqlite:///{folder}/server.db", folder, "--app-name", "basic-auth") as server:
        for password in ("", "wrong"):
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin" if password else "")
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
            with pytest.raises(
                LedgerClosedError, match=r"401.*; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASS"
            ):
                Ledger("small", server.uri).check()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        code, _, err = call(sweep.main, own_sweep(), "--backend", "inline")  # which goes on without one that is away
        assert code == 2
        assert "set MLFLOW_TRACKING_USERNAME" in err
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not-the-shipped-one")
        Ledger("small", server.uri).check()


@LONG
def test_artifacts_on_the_disk_of_a_servers_machine_are_told(folder, monkeypatch):
    flags = ("--no-serve-artifacts", "--default-artifact-root", str(folder / "files"))
    with MlflowServer(f"sqlite:///{folder}/server.db", folder, *flags) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        assert call(sweep.main, own_sweep(), "--backend", "inline")[0] == 0
        shutil.move(folder / "files", folder / "of_another_machine")
        code, _, err = call(stats.main, "mine")
    assert code == 2
    assert err.endswith("that is on the server's disk: start it with --serve-artifacts, or mount its folder here\n")
