"""The address of the ledger: where MLflow is, and how to show that without its password."""

import contextlib
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from l2t_ray.errors import InputError, LedgerClosedError, LedgerDamagedError, LedgerUnavailableError, mask

SQL_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql")
SERVER_SCHEMES = ("http://", "https://")
DAMAGED = ("malformed", "not a database", "disk image")  # SQLite's words


def tracking_uri(uri: str | None = None, folder: Path = Path()) -> str:
    """Returns MLflow's address: the argument, else MLFLOW_TRACKING_URI, else `mlflow.db` in the working folder.

    Raises:
        InputError: if it is a folder of files, which MLflow 3.13 gave up, a database in memory, or of an unknown kind.
    """
    named = "--tracking-uri" if uri else "MLFLOW_TRACKING_URI"
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI") or file_uri(folder.resolve() / "mlflow.db")
    if not chosen.startswith((*SQL_SCHEMES, *SERVER_SCHEMES)):
        raise InputError(
            f"{named} must be a database or a server (sqlite:///FILE, postgresql://..., http://...), got {mask(chosen)}"
        )
    if chosen.startswith("sqlite") and not re.match(r"sqlite(\+\w+)?:///(?!(file:)?:memory:|\?|$)", chosen):
        raise InputError(f"{named} must name SQLite's file, else all ends with the process; write sqlite:///FILE")
    if not chosen.startswith("sqlite") and re.search(r"\s", chosen):
        raise InputError(f"{named} must have no blanks, got some; write %20 in a password, or trim it")
    return chosen


def file_uri(path: Path) -> str:
    """Returns the URI of a SQLite file, the inverse of `database_file`; quotes what SQLAlchemy would decode."""
    return f"sqlite:///{str(path).replace('%', '%25').replace('?', '%3F')}"


def is_database(uri: str) -> bool:
    """Whether the address is that of a database (SQLite, PostgreSQL, MySQL, SQL Server), not of an MLflow server."""
    return uri.startswith(SQL_SCHEMES)


def database_file(uri: str) -> Path | None:
    """Returns the file of a SQLite URI; None for every other address."""
    if not uri.startswith("sqlite"):
        return None
    return Path(unquote(re.sub(r"^sqlite(\+\w+)?:///", "", uri).split("?")[0]))


def pages(uri: str, sweeps: Sequence[str], ids: Mapping[str, str], *, is_default: bool = True) -> str:
    """Returns where one sweep's table of runs is, or every sweep's: a server's address, or `l2t ui` for a database.

    Args:
        uri: of MLflow; its password is not shown.
        sweeps: one, or several.
        ids: sweep to MLflow's experiment.
        is_default: whether `l2t ui` finds this ledger without being told.
    """
    only = sweeps[0] if len(sweeps) == 1 else ""
    if uri.startswith(SERVER_SCHEMES):
        return runs_page(mask(uri), ids[only]) if only in ids else mask(uri)
    opened = f"l2t ui {shlex.quote(only)}" if only else "l2t ui"
    return opened if is_default else f"MLFLOW_TRACKING_URI={shlex.quote(mask(uri))} {opened}"


def runs_page(address: str, experiment_id: str) -> str:
    """Returns the page of an MLflow server that opens with a sweep's table of trainings (`ledger/view.py`)."""
    return f"{address.rstrip('/')}/#/experiments/{experiment_id}/runs?viewStateShareKey=l2t"


def unavailable(uri: str, error: Exception) -> LedgerUnavailableError:
    """Returns the error to raise where MLflow, its database or the network fails; its message holds no secrets."""
    first_line = (str(error).splitlines() or [""])[0]
    kind: type[LedgerUnavailableError] = LedgerUnavailableError
    if uri.startswith(SERVER_SCHEMES) and re.search(r"\b40[13]\b|PERMISSION_DENIED", str(error)):
        kind, remedy = LedgerClosedError, "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or ask its owner"
    elif database_file(uri) is None:
        remedy = "start the server, or set MLFLOW_TRACKING_URI to another ledger"
    elif any(words in str(error) for words in DAMAGED):
        remedy, kind = "the file is damaged: put back a copy, or set MLFLOW_TRACKING_URI to another", LedgerDamagedError
    else:
        remedy = "free the database, or set MLFLOW_TRACKING_URI to another ledger"
    return kind(f"{mask(uri)}: the ledger must answer, got {type(error).__name__}: {mask(first_line)}; {remedy}")


@contextlib.contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Turns every exception in the block, whether of MLflow, its database or the network, into `unavailable`.

    Args:
        uri: of MLflow.

    Raises:
        unavailable: a LedgerUnavailableError.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, InputError | LedgerUnavailableError):
            raise
        raise unavailable(uri, error) from None
