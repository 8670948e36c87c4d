"""Reads what the analysis needs from MLflow, fast.

The entries are those that a launch reads; a report also reads every tag, param, metric and file of the runs that it
is about.
"""

from pathlib import Path

from l2t_ray.errors import InputError, mask
from l2t_ray.ledger.address import database_file, is_database, tracking_uri
from l2t_ray.ledger.server import Server
from l2t_ray.ledger.sql import Database

Reader = Database | Server


def open_ledger(uri: str | None = None, folder: Path = Path()) -> tuple[Reader, str]:
    """Returns the ledger to read, and its address without the password; creates nothing.

    Args:
        uri: of MLflow; by default MLFLOW_TRACKING_URI, then `mlflow.db` in the working folder.
        folder: the working folder.

    Raises:
        InputError: if the database file does not exist, or is not MLflow's.
    """
    chosen = tracking_uri(uri, folder)
    file = database_file(chosen)
    if file is not None and not file.is_file():
        raise InputError(
            f"{file}: no ledger here; run `l2t run FILE` in this folder first, "
            "or name another with --tracking-uri or MLFLOW_TRACKING_URI"
        )
    return (Database(chosen) if is_database(chosen) else Server(chosen)), mask(chosen)
