"""MLflow's client, and its SQLite database: creates it whole, and corrects it after it was copied or moved.

MLflow stores absolute addresses of artifacts. An address is ours where it ends with `mlartifacts/NAME` (an
experiment's) or `mlartifacts/NAME/RUN/artifacts`; a database that was moved gets the new folder's addresses.
"""

import contextlib
import logging
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from l2t_ray.errors import InputError
from l2t_ray.ledger.address import SERVER_SCHEMES, database_file, file_uri

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

LOOPBACK = ("127.0.0.1", "localhost", "::1")
FOLDER = "mlartifacts"  # beside the database
LEAST_BYTES = 1 << 16  # what SQLite writes beside a database that it reads
OF_EXPERIMENT, OF_RUN = 1, 3  # names in an address below that folder


def connect(uri: str, *, writing: bool = False) -> "MlflowClient":
    """Returns a client that prints nothing and retries once; creates a SQLite database that does not exist yet.

    Args:
        uri: of MLflow.
        writing: whether a SQLite database that was copied or moved is first pointed at its artifacts.

    Raises:
        InputError: if a SQLite database or its folder must be written and cannot be.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is for results
    os.environ.setdefault(
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"
    )  # MLflow's 7 tries block for minutes; the spool waits anyway
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ["MLFLOW_ENABLE_ASYNC_LOGGING"] = "false"  # a result leaves the spool when MLflow has it, not before
    _reach_directly(urlparse(uri).hostname if uri.startswith(SERVER_SCHEMES) else None)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they report is also raised
    file = database_file(uri)
    if file is not None and (writing or not file.exists()):
        if closed := _closed(file):
            remedy = "have its owner open it to you (chmod -R g+w), or set MLFLOW_TRACKING_URI to another ledger"
            raise InputError(f"{closed}: must be writable by a launch, got 'Permission denied'; {remedy}")
        if file.exists():
            follow(file)
        else:
            _make(file)
    return MlflowClient(uri)


def _reach_directly(host: str | None) -> None:
    """Keeps a server of this machine's own from being asked for through the proxy that the environment names."""
    others = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if host in LOOPBACK and host not in others.split(","):
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = f"{others},{host}".lstrip(",")


def reading(uri: str) -> dict[str, Any]:
    """Returns the arguments with which SQLAlchemy opens a database to read it, also one that nobody can write to.

    SQLite writes beside a database even to read it, unless it is told that nobody changes it.
    """
    file = database_file(uri)
    if file is None:
        return {}
    if not file.exists() or (_closed(file) is None and shutil.disk_usage(file.parent).free >= LEAST_BYTES):
        return {"connect_args": {"timeout": 60}}  # a writer on a busy disk holds it
    still = "" if Path(f"{file}-wal").exists() else "&immutable=1"  # else its owner is writing now
    address = f"{file.resolve().as_uri()}?mode=ro{still}"
    return {"creator": lambda: sqlite3.connect(address, uri=True, timeout=60, check_same_thread=False)}


def _closed(file: Path) -> Path | None:
    """The first of a database, its folder and its artifacts that exists and is closed to this user's writing."""
    folder = next(place for place in file.absolute().parents if place.exists())
    for place in (file, folder, file.parent / FOLDER):
        if place.exists() and not os.access(place, os.W_OK):
            return place
    return None


def _make(file: Path) -> None:
    """Creates a database beside the file and moves it there: MLflow cannot go on from half of its migrations."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
        fresh = Path(folder, "fresh.db")
        fresh.touch()  # SQLite's own would be closed to the group, whatever the umask says
        # an address, not a path: MLflow writes it into a statement of SQL, quotes and colons as they are
        SqlAlchemyStore(file_uri(fresh), (file.resolve().parent / FOLDER).as_uri())
        try:
            os.link(fresh, file)
        except FileExistsError:  # another sweep was faster
            pass
        except OSError:  # a file system without hard links
            if not file.exists():
                fresh.replace(file)


def beside(file: Path, address: str, depth: int = OF_RUN) -> Path | None:
    """Returns the folder of artifacts in the `mlartifacts` beside a database, whether it exists or not.

    Args:
        file: the database.
        address: of the folder, as MLflow stores it; the result is None for an address that is not ours.
        depth: how many names the address has below `mlartifacts`.
    """
    place = _path(address)
    if place is None or len(place.parts) <= depth or place.parts[-depth - 1] != FOLDER:
        return None
    return file.resolve().parent.joinpath(*place.parts[-depth - 1 :])


def follow(file: Path) -> None:
    """Points a database at the artifacts that were moved with it; a run whose artifacts were not keeps its address."""
    with contextlib.closing(sqlite3.connect(file, timeout=60)) as connection, connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
            return
        experiments = connection.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
        for experiment, old in [(experiment, location or "") for experiment, location in experiments]:
            new, stored = beside(file, old, OF_EXPERIMENT), _path(old)
            if new is None or stored is None or not new.is_dir() or stored.resolve() == new.resolve():
                continue
            runs = connection.execute(
                "SELECT run_uuid, artifact_uri FROM runs WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
                (experiment, len(old) + 1, f"{old}/"),
            ).fetchall()
            moved = [
                (new.as_uri() + address[len(old) :], run_id)
                for run_id, address in runs
                if (at := beside(file, address)) and (at.exists() or not _exists(_path(address)))
            ]
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (new.as_uri(), experiment)
            )
            connection.executemany("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", moved)


def _path(address: str) -> Path | None:
    place = urlparse(address)
    return Path(unquote(place.path)) if place.scheme in ("", "file") and place.path else None


def _exists(path: Path | None) -> bool:
    with contextlib.suppress(OSError):  # another user's folder
        return path is not None and path.exists()
    return False
