"""A launch and a report read one ledger alike, in a database at hand and behind a server."""

import math
import shutil
import sqlite3
from contextlib import closing

import pytest

from analysis.results.runs import read_results
from analysis.stats import main
from l2t_ray.errors import InputError
from l2t_ray.ledger import server
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.reader import open_ledger
from tests.support.ledgers import Logged, fill, write_through_mlflow
from tests.support.servers import MlflowServer

METRIC = "test_accuracy_percent"
VALUES = (40.0, math.nan, math.inf, None, 0.0)  # by seed; MLflow stores a nan as 0 and infinity as 1.8e308


def check(uri, folder):
    runs = [Logged(seed=seed, accuracy=value) for seed, value in enumerate(VALUES)]
    write_through_mlflow(uri, folder, "small", runs)
    ledger, (reader, _) = Ledger("small", uri, folder=folder), open_ledger(uri)
    read, shown = ledger.entries(), reader.entries()
    told = [[(e.run_id, e.experiment, e.status, e.start_ms, e.kind, e.key) for e in found] for found in (read, shown)]
    assert told[0] == told[1]
    assert len(read) == len(VALUES) + 1  # and the manifest
    launched = {entry.run_id: entry.metrics.get(METRIC) for entry in read}
    assert [launched[run.run_id] for run in runs] == [40.0, None, None, None, 0.0]
    results = read_results(["small"], uri=uri)
    assert [*results.runs["run_id"]] == [runs[0].run_id, runs[4].run_id]
    assert [*results.runs[METRIC]] == [40.0, 0.0]
    assert {gap.wanted.seed: gap.outcome for gap in results.gaps} == dict.fromkeys((1, 2, 3), "invalid")
    points = {run_id: value for run_id, _, value in reader.histories([run.run_id for run in runs], METRIC)}
    assert math.isnan(points[runs[1].run_id])


def test_what_is_no_number_is_no_value_for_a_launch_nor_for_a_report(folder, template):
    shutil.copy(template, folder)
    check(f"sqlite:///{folder}/mlflow.db", folder)


@pytest.mark.slow
def test_what_is_no_number_is_no_value_behind_a_server_either(folder):
    with MlflowServer(f"sqlite:///{folder}/mlflow.db", folder) as started:
        check(started.uri, folder)


def with_artifacts_at(database, address):
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE runs SET artifact_uri = ?", (address,))


def test_artifacts_in_a_store_that_cannot_be_reached_are_told(folder, template, capsys):
    shutil.copy(template, folder)
    write_through_mlflow(f"sqlite:///{folder}/mlflow.db", folder, "small", [])
    with_artifacts_at(folder / "mlflow.db", "nosuch://me:planted-secret@host/small")
    capsys.readouterr()  # MLflow's migrations
    assert main(["small"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert ": manifest.json must be readable at nosuch://***@host/small, got MlflowException: " in err
    assert "make that store reachable from here" in err
    assert "planted-secret" not in err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ModuleNotFoundError("No module named 'boto3'"), "ModuleNotFoundError: No module named 'boto3'; "),
        (OSError("s3://me:planted-secret@host is gone\nat line 7"), "OSError: s3://***@host is gone; "),
        (RuntimeError(), "RuntimeError; "),
    ],
    ids=["no library", "a secret", "no message"],
)
def test_whatever_a_store_raises_is_one_line_without_secrets(database, monkeypatch, error, told):
    def fails(uri):
        raise error

    fill(database, "small", [Logged()])
    with_artifacts_at(database, "s3://bucket/small")
    monkeypatch.setattr(server, "connect", fails)
    with pytest.raises(InputError) as raised:
        read_results()
    (line,) = str(raised.value).splitlines()
    assert f"at s3://bucket/small, got {told}" in line


def test_a_local_file_that_cannot_be_read_is_told(database):
    fill(database, "small", [Logged()])
    with_artifacts_at(database, f"file:///{'a' * 300}/artifacts")
    with pytest.raises(InputError, match=r"manifest\.json must be readable at file:///aaa.*File name too long"):
        read_results()


def test_a_launchs_file_that_cannot_be_reached_is_no_torn_one(database, monkeypatch):
    fill(database, "small", [Logged()])
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO tags VALUES ('l2t.launch.7', ?, ?)", (f"{'a' * 300}.json", f"{1:032x}"))
    with pytest.raises(InputError, match="File name too long"):
        read_results()
