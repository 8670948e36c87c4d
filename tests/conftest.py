"""What every test file shares: settings of hypothesis, and a registry that no test leaves changed."""

import contextlib
import os
import sqlite3

# before torch is imported: on a busy machine OpenMP's threads spin
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from hypothesis import settings

from l2t_ray import registry
from tests.support.places import ROOT

SCHEMA = ROOT / "tests" / "fixtures" / "ledger_schema.sql"

# the same examples every time, no folder of found ones, and no clock: the machine may be busy
settings.register_profile("here", derandomize=True, database=None, deadline=None)
settings.load_profile("here")


@pytest.fixture(autouse=True)
def _methods_of_one_test_alone():
    """What a test registers is gone after it; the built-in methods are there in every test."""
    registry.load()
    before = dict(registry.METHODS)
    yield
    registry.METHODS.clear()
    registry.METHODS.update(before)


@pytest.fixture
def sweep_folder(tmp_path, monkeypatch):
    """A working folder with a file of weights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.pt").write_bytes(b"weights")


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """MLflow's migrations take seconds: one empty database is copied."""
    from l2t_ray.ledger.ledger import Ledger

    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        Ledger("template", folder=folder).open()
    return folder / "mlflow.db"


@pytest.fixture(scope="module")
def ray_cluster():
    """Ray on two cores."""
    from l2t_ray.launch.cluster import connection

    with connection.cluster(None, n_cores=2):
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def database(folder):
    """An mlflow.db in an empty working folder; `ledgers.fill` writes to it."""
    file = folder / "mlflow.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript(SCHEMA.read_text())
    return file
