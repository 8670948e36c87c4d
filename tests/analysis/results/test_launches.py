"""Launches: from the ledger that a launch writes to the report's data."""

import csv
import json
import shutil

import pytest

from analysis.report.evidence import gather
from analysis.report.numbers import summary_json
from analysis.report.page import write_report
from l2t_ray.ledger.ledger import Ledger
from tests.support.ledgers import Logged, fill, write_through_mlflow
from tests.support.servers import MlflowServer


def launch(started_ms, **values):
    """What a launch stores, with two samples of one card."""
    samples = {"mean_percent": 60.0, "time_s": [0.0, 5.0], "percent": [40.0, 80.0], "bytes": [1, 3]}
    usage = {"interval_s": 5.0, "devices": {"gpu 0": samples}}
    times = {"predicted_wall_s": 90.0, "wall_s": 120.0, "predicted_s": 3600.0, "spent_s": 7200.0}
    counts = {"started_ms": started_ms, "n_runs": 6, "n_left": 0, "n_spooled": 0, "fleet": "1 x card"}
    return {**counts, **times, "usage": usage, **values}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A database with a finished sweep, made once and copied: MLflow's migrations take seconds."""
    folder = tmp_path_factory.mktemp("template")
    runs = [Logged(method=m, seed=s, accuracy=50.0 + s) for m in ("scratch", "ufm") for s in range(3)]
    write_through_mlflow(f"sqlite:///{folder / 'mlflow.db'}", folder, "small", runs)
    return folder / "mlflow.db"


@pytest.fixture
def ledger(folder, template):
    shutil.copy(template, folder)
    ledger = Ledger("small", f"sqlite:///{folder / 'mlflow.db'}", folder=folder)
    ledger.write_launch(launch(2000, predicted_wall_s=None, predicted_s=None, n_left=4, usage=None))
    ledger.write_launch(launch(10_000))
    return ledger


def test_predicted_and_spent_and_every_device_over_time_are_in_the_reports_data(ledger, tmp_path):
    evidence = gather(["small"], uri=ledger.uri)
    first, second = summary_json(evidence)["launches"]
    assert (first["number"], first["n_left"], first["predicted_wall_s"]) == (1, 4, None)
    assert first["mean_percent"] == {}
    assert (second["predicted_s"], second["spent_s"], second["wall_s"]) == (3600.0, 7200.0, 120.0)
    assert second["mean_percent"] == {"gpu 0": 60.0}

    page = write_report(evidence, tmp_path / "report")
    assert "What the launches took" in page.read_text()
    table = json.loads((tmp_path / "report/tables/launches.json").read_text())
    assert "1.50" in json.dumps(table)  # minutes predicted
    with (tmp_path / "report/usage.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["launch"], row["device"], row["time_s"], row["percent"], row["used_bytes"]) for row in rows] == [
        ("2", "gpu 0", "0.0", "40.0", "1"),
        ("2", "gpu 0", "5.0", "80.0", "3"),
    ]


def test_a_launch_that_cannot_be_read_is_noted(ledger):
    ledger.write_launch({"started_ms": 20_000})
    results = gather(["small"], uri=ledger.uri).results
    assert [item.number for item in results.launches] == [1, 2]
    assert any("launches/20000.json" in notice for notice in results.notices)


def test_a_sweep_without_launches_has_no_such_part(database, tmp_path):
    fill(database, "small", [Logged(method=m, seed=s, accuracy=50.0 + s) for m in ("scratch", "ufm") for s in range(3)])
    evidence = gather(["small"], uri=f"sqlite:///{database}")
    assert evidence.results.launches == ()
    assert "What the launches took" not in write_report(evidence, tmp_path / "report").read_text()
    assert not (tmp_path / "report/usage.csv").exists()


@pytest.mark.slow
def test_launches_are_found_behind_a_server_too(folder):
    with MlflowServer(f"sqlite:///{folder}/mlflow.db", folder) as server:
        write_through_mlflow(server.uri, folder, "small", [Logged()])
        Ledger("small", server.uri, folder=folder).write_launch(launch(2000))
        results = gather(["small"], uri=server.uri).results
        assert [(item.number, item.wall_s) for item in results.launches] == [(1, 120.0)]
        assert results.notices == ()
        (manifest,) = [entry for entry in results.reader.entries() if entry.kind == "manifest"]
        assert results.reader.artifact(manifest, "launches/3000.json") is None
        assert results.reader.artifact(manifest, "none/such/file") is None
        assert results.reader.artifact(manifest, "traces.parquet") is None
