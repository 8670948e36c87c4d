"""MLflow's client for launch and report, and a database that is whole from the moment that it has its name."""

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from l2t_ray.moved import follow
from l2t_ray.uri import database_file, file_uri

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


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
