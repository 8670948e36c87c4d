"""MLflow's client, and its database: created whole, and mended after it was copied or moved.

MLflow stores absolute addresses of artifacts. An address is ours where it ends with `mlartifacts/NAME` (an
experiment's) or `mlartifacts/NAME/RUN/artifacts`; a database that was moved gets the new folder's addresses.
"""

import contextlib
import logging
import os
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from l2t_ray.ledger.address import database_file, file_uri

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

FOLDER = "mlartifacts"  # beside the database
OF_EXPERIMENT, OF_RUN = 1, 3  # names below it


def connect(uri: str, *, writing: bool = False) -> "MlflowClient":
    """A client that neither prints nor waits long; a SQLite database that is not there yet is made.

    Args:
        uri: of MLflow.
        writing: whether a SQLite database that was copied or moved is first pointed at its artifacts.

    Returns:
        The client.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is the result's
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the spool waits; 7 tries would block for minutes
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # whatever fails comes back as an exception, too
    file = database_file(uri)
    if file is not None and not file.exists():
        _make(file)
    elif file is not None and writing:
        follow(file)
    return MlflowClient(uri)


def _make(file: Path) -> None:
    """A database with MLflow's tables: what its migrations leave when they are ended half-way, it cannot go on from."""
    from mlflow.tracking import MlflowClient

    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
        fresh = Path(folder, "fresh.db")
        MlflowClient(file_uri(fresh)).search_experiments(max_results=1)
        try:
            os.link(fresh, file)
        except FileExistsError:  # another sweep was faster
            pass
        except OSError:  # a file system without hard links
            if not file.exists():
                fresh.replace(file)


def beside(file: Path, address: str, depth: int = OF_RUN) -> Path | None:
    """Where a folder of artifacts lies if it came along with the database.

    Args:
        file: the database.
        address: of the folder, as MLflow keeps it.
        depth: names in it below `mlartifacts`.

    Returns:
        The folder in the `mlartifacts` beside the database, there or not; None for an address that is none of ours.
    """
    place = _path(address)
    if place is None or len(place.parts) <= depth or place.parts[-depth - 1] != FOLDER:
        return None
    return file.resolve().parent.joinpath(*place.parts[-depth - 1 :])


def follow(file: Path) -> None:
    """Points a database at the artifacts that came along with it, so that nothing is written where it was copied from.

    A run whose artifacts have stayed behind keeps its address.

    Args:
        file: the database.
    """
    with contextlib.closing(sqlite3.connect(file, timeout=60)) as connection, connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
            return
        experiments = connection.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
        for experiment, old in [(experiment, location or "") for experiment, location in experiments]:
            new, stored = beside(file, old, OF_EXPERIMENT), _path(old)
            if new is None or stored is None or not new.is_dir() or _same(stored, new):
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


def _same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return False


def _exists(path: Path | None) -> bool:
    with contextlib.suppress(OSError):  # another user's folder
        return path is not None and path.exists()
    return False
