"""Empty ledgers: with the tables that a report reads, at once; or migrated by MLflow itself, which takes seconds."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

SCHEMA = Path(__file__).parents[1] / "fixtures" / "ledger_schema.sql"


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
