"""A new SQLite ledger is whole or not there."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from l2t_ray.errors import InputError
from l2t_ray.ledger.address import file_uri
from l2t_ray.ledger.client import connect, reading
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.reader import open_ledger
from tests.support.ledgers import Logged, fill
from tests.support.marks import LONG

pytestmark = LONG
OPEN = """
import sys
from pathlib import Path
from l2t_ray.ledger.ledger import Ledger
Ledger("begun", folder=Path(sys.argv[1])).open()
"""
HALF_WAY = """
import itertools, sys
from sqlalchemy import Engine, event
numbers = itertools.count()

@event.listens_for(Engine, "after_cursor_execute")
def stand_still(*_):
    if next(numbers) == 50:  # of some hundred statements
        print("half-way", flush=True)
        sys.stdin.read()
"""


def start(folder, code=OPEN):
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], text=True, **pipes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_first_launch_that_is_killed_while_it_makes_the_database_is_followed_by_another(tmp_path, number):
    process = start(tmp_path, HALF_WAY + OPEN)
    assert process.stdout.readline() == "half-way\n", process.stderr.read()
    assert any(path.stat().st_size for path in tmp_path.glob(".mlflow.db.*/fresh.db"))
    process.send_signal(number)
    process.wait(240)
    process.communicate()
    assert not (tmp_path / "mlflow.db").exists()
    Ledger("begun", folder=tmp_path).open()
    assert Ledger("begun", folder=tmp_path).entries() == []


def test_two_sweeps_that_begin_in_one_folder_share_the_database(tmp_path):
    processes = [start(tmp_path) for _ in range(2)]
    told = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert [path.name for path in tmp_path.glob("*.db")] == ["mlflow.db"]
    assert list(tmp_path.glob(".mlflow.db.*")) == []


def test_a_folder_that_is_not_there_is_made(tmp_path):
    Ledger("deep", f"sqlite:///{tmp_path}/not/there/yet.db", folder=tmp_path).open()
    assert (tmp_path / "not/there/yet.db").exists()


@pytest.mark.parametrize(
    ("uri", "others", "direct"),
    [
        ("http://127.0.0.1:5000/", "", "127.0.0.1"),
        ("http://localhost:5000", "corp.example", "corp.example,localhost"),
        ("http://127.0.0.1:5000", "127.0.0.1,corp.example", "127.0.0.1,corp.example"),
        ("http://mlflow.example:5000", "corp.example", "corp.example"),
    ],
)
def test_a_server_of_this_machine_is_not_asked_for_through_a_proxy(uri, others, direct, monkeypatch):
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", others)
    connect(uri)
    assert (os.environ["no_proxy"] or os.environ["NO_PROXY"]) == direct


def test_writing_waits_for_mlflow_whatever_the_environment_says(tmp_path, template, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    shutil.copy(template, tmp_path)
    ledger = Ledger("waited", folder=tmp_path)
    with ledger.writing():
        assert [entry.kind for entry in ledger.entries()] == ["lease"]


def test_a_new_ledger_may_be_in_a_folder_of_any_name(tmp_path):
    folder = Path(tmp_path, 'a%20b, 50% of it: what? über #1 + 2, it\'s "mine" :now')
    folder.mkdir()
    Ledger("named", folder=folder).open()
    assert (folder / "mlflow.db").exists()
    assert not (folder / "mlruns").exists()
    assert Ledger("named", folder=folder).entries() == []


@pytest.mark.parametrize("name", ["a%20b", "what?", "50% of it", "über #1 + 2"])
def test_a_folder_may_have_any_name(tmp_path, template, name):
    folder = Path(tmp_path, name)
    folder.mkdir()
    shutil.copy(template, folder)
    Ledger("named", folder=folder).open()
    assert Ledger("named", folder=folder).entries() == []
    assert [path.name for path in tmp_path.rglob("*.db")] == ["mlflow.db"]  # and no other was made


def test_the_umask_decides_who_may_write_the_database(tmp_path):
    before = os.umask(0o002)
    try:
        Ledger("shared", folder=tmp_path).open()
    finally:
        os.umask(before)
    assert (tmp_path / "mlflow.db").stat().st_mode & 0o777 == 0o664


@pytest.fixture
def closed(database, monkeypatch):
    """A ledger as launches leave it, with a run; everything in its folder is then closed to this user's writing."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    fill(database, "small", [Logged(seed=0, accuracy=40.0)])
    assert not Path(f"{database}-wal").exists()
    monkeypatch.setattr(os, "access", lambda place, mode: not Path(place).is_relative_to(database.parent))
    return database


def test_a_ledger_that_is_closed_to_writing_is_read_and_left_as_it_is(closed):
    before = closed.read_bytes()
    assert [entry.experiment for entry in Ledger("small", folder=closed.parent).entries() if entry.kind == "run"] == [
        "small"
    ]
    assert (closed.read_bytes(), [*closed.parent.glob("mlflow.db*")]) == (before, [closed])


def test_what_its_owner_is_writing_is_read_too(closed):
    with contextlib.closing(sqlite3.connect(closed)) as connection:
        connection.execute("UPDATE experiments SET name = 'renamed'")
        connection.commit()
        assert Path(f"{closed}-wal").stat().st_size
        read, _ = open_ledger(file_uri(closed))
        assert {entry.experiment for entry in read.entries()} == {"renamed"}


def test_a_launch_names_what_is_closed_to_it(closed):
    with pytest.raises(InputError, match=rf"{closed}: must be writable by a launch, .*MLFLOW_TRACKING_URI"):
        Ledger("small", folder=closed.parent).open()
    with pytest.raises(InputError, match=rf"{closed.parent}: must be writable by a launch"):
        Ledger("small", f"sqlite:///{closed.parent}/new/other.db").open()


def test_a_ledger_on_a_full_disk_is_read(closed, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=0))
    assert "creator" in reading(file_uri(closed))
    assert Ledger("small", folder=closed.parent).entries()
    assert [*closed.parent.glob("mlflow.db*")] == [closed]
