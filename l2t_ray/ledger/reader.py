"""Reads what the analysis needs from MLflow, fast.

The entries are those that a launch reads, by the same SQL and the same search (`l2t_ray.entries`); a report also wants
every tag, param, metric and file of the runs it is about. A server's histories are asked for on several threads.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from l2t_ray.errors import InputError, mask
from l2t_ray.ledger.address import database_file, is_database, tracking_uri
from l2t_ray.ledger.entries import Details, Entry, History


class Reader(Protocol):
    """A ledger that can be read."""

    def entries(self) -> list[Entry]:
        """Every run that this project wrote, oldest first."""

    def details(self, run_ids: Collection[str]) -> dict[str, Details]:
        """Tags, params and last metric values by run id."""

    def histories(self, run_ids: Collection[str], metric: str) -> History:
        """Every value of one metric, by run id and step."""

    def artifact(self, entry: Entry, name: str) -> bytes | None:
        """A file that a run stored; None where it has none."""


def open_ledger(uri: str | None = None, folder: Path = Path()) -> tuple[Reader, str]:
    """The ledger to read; nothing is created.

    Args:
        uri: of MLflow; by default MLFLOW_TRACKING_URI, then `mlflow.db` in the working folder.
        folder: the working folder.

    Returns:
        The reader, and the URI without its password.

    Raises:
        InputError: if the database file does not exist, or is not MLflow's.
    """
    from l2t_ray.ledger.server import Server
    from l2t_ray.ledger.sql import Database

    chosen = tracking_uri(uri, folder)
    file = database_file(chosen)
    if file is not None and not file.is_file():
        raise InputError(
            f"{file}: no ledger here; run `python -m l2t_ray.sweep FILE` in this folder first, "
            "or name another with --tracking-uri or MLFLOW_TRACKING_URI"
        )
    return (Database(chosen) if is_database(chosen) else Server(chosen)), mask(chosen)
