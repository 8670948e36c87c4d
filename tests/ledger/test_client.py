"""A new SQLite ledger is whole or not there."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from l2t_ray.ledger.ledger import Ledger

# mlflow 3.17 uses a loader strategy that SQLAlchemy 2.1 deprecates; ours to wait for, not to change
pytestmark = pytest.mark.filterwarnings("ignore:The .*noload.* loader strategy is deprecated")
OPEN = """
import sys
from pathlib import Path
from l2t_ray.ledger.ledger import Ledger
Ledger("begun", folder=Path(sys.argv[1])).open()
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def start(folder):
    return subprocess.Popen([sys.executable, "-c", OPEN, str(folder)], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_first_launch_that_is_killed_while_it_makes_the_database_is_followed_by_another(tmp_path, number):
    process = start(tmp_path)
    end = time.monotonic() + 60
    while not any(path.stat().st_size for path in tmp_path.glob(".mlflow.db.*/fresh.db")):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=60)
    Ledger("begun", folder=tmp_path).open()
    assert Ledger("begun", folder=tmp_path).entries() == []


def test_two_sweeps_that_begin_in_one_folder_share_the_database(tmp_path):
    processes = [start(tmp_path) for _ in range(2)]
    told = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert [path.name for path in tmp_path.glob("*.db")] == ["mlflow.db"]
    assert list(tmp_path.glob(".mlflow.db.*")) == []


def test_a_folder_that_is_not_there_is_made(tmp_path):
    Ledger("deep", f"sqlite:///{tmp_path}/not/there/yet.db", folder=tmp_path).open()
    assert (tmp_path / "not/there/yet.db").exists()


@pytest.mark.parametrize("name", ["a%20b", "what?", "50% of it", "über #1 + 2"])
def test_a_folder_may_have_any_name(tmp_path, name):
    folder = Path(tmp_path, name)
    folder.mkdir()
    Ledger("named", folder=folder).open()
    assert (folder / "mlflow.db").exists()
    assert Ledger("named", folder=folder).entries() == []
