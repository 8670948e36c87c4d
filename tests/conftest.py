"""What every test file shares: settings of hypothesis, one Ray, and a registry that no test leaves changed."""

import contextlib
import os
import signal
import sqlite3
import sys
import tempfile

# before torch is imported: on a busy machine OpenMP's threads spin
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# before Ray is imported: a busy machine needs more than the 30 and 60 s that it gives itself
os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "240")
os.environ.setdefault("RAY_worker_register_timeout_seconds", "300")
# what a developer may have set for the work
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.pop("OPTUNA_STORAGE", None)
os.environ.pop("RAY_ADDRESS", None)
os.environ.pop("L2T_NOTICE", None)

import pytest
from hypothesis import HealthCheck, settings

from l2t_ray import registry
from l2t_ray.trainer.load import forget_added
from tests.support import launches, ray
from tests.support.places import ROOT
from tests.support.servers import Postgres

# a shell has what it starts in the background ignore Ctrl-C, and what the tests start would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)

SCHEMA = ROOT / "tests" / "fixtures" / "ledger_schema.sql"

# the same examples every time, no folder of found ones, and no clock: the machine may be busy
settings.register_profile(
    "here",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
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
    Ledger("template", folder=folder).open()
    return folder / "mlflow.db"


@pytest.fixture(scope="module")
def ray_cluster():
    """Ray on two cores, the same for all modules."""
    ray.start("plain")


@pytest.fixture(scope="module")
def pretended_card():
    """Ray on two cores with a card that is none, the same for all modules."""
    ray.start("card")


@pytest.fixture(scope="module")
def no_ray():
    """No Ray in this process."""
    ray.stop()


@pytest.fixture(scope="session")
def postgresql():
    """One PostgreSQL for all tests that want a database of it; one that stops it starts it again."""
    # not below pytest's folder, which every other pytest on this machine closes to PostgreSQL's user
    with tempfile.TemporaryDirectory(prefix="l2t-postgres-") as folder, Postgres(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def _modules_of_one_test_alone():
    """What a test's trainers import is gone after it."""
    path = [*sys.path]
    yield
    forget_added(path)


@pytest.fixture(autouse=True)
def _one_thread_of_torch():
    """A check in this process gives torch more threads, and sums then end in other bits."""
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _launches_end_with_their_test():
    yield
    launches.end_all()


@pytest.fixture(scope="session", autouse=True)
def _ray_ends_with_the_tests():
    yield
    ray.stop()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def database(folder):
    """An mlflow.db in an empty working folder; `ledgers.fill` writes to it."""
    file = folder / "mlflow.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript(SCHEMA.read_text())
    return file


@pytest.fixture
def narrow(monkeypatch):
    """torchvision's networks have few channels."""
    import torchvision

    from l2t_ray.models import zoo
    from tests.support.zoo import small

    zoo.plan.cache_clear()
    monkeypatch.setattr(torchvision.models, "get_model", small)
    yield
    zoo.plan.cache_clear()
