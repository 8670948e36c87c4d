"""Where the ledger is, and that no password is shown."""

import contextlib
import shlex
import sqlite3

import pytest

from analysis import stats
from l2t_ray.errors import InputError, mask
from l2t_ray.ledger.address import pages, tracking_uri
from tests.support.launches import call
from tests.support.ledgers import Logged, fill


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
    assert second == "results that wait in .l2t are written to it by the next launch"
