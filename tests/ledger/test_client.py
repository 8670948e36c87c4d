"""A new SQLite ledger is whole or not there."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from l2t_ray.ledger.ledger import Ledger
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


def test_a_new_ledger_may_be_in_a_folder_of_any_name(tmp_path):
    folder = Path(tmp_path, "a%20b, 50% of it: what? über #1 + 2")
    folder.mkdir()
    Ledger("named", folder=folder).open()
    assert (folder / "mlflow.db").exists()
    assert Ledger("named", folder=folder).entries() == []


@pytest.mark.parametrize("name", ["a%20b", "what?", "50% of it", "über #1 + 2"])
def test_a_folder_may_have_any_name(tmp_path, template, name):
    folder = Path(tmp_path, name)
    folder.mkdir()
    shutil.copy(template, folder)
    Ledger("named", folder=folder).open()
    assert Ledger("named", folder=folder).entries() == []
    assert [path.name for path in tmp_path.rglob("*.db")] == ["mlflow.db"]  # and no other was made
