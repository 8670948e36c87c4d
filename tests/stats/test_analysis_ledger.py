"""A launch and a report read one ledger alike, in a database at hand and behind a server."""

import math

import pytest
from ledgers import Logged, write_through_mlflow
from servers import MlflowServer

from analysis.ledger import open_ledger
from analysis.results import read_results
from l2t_ray.tracking import Ledger

# mlflow 3.17 uses a loader strategy that SQLAlchemy 2.1 deprecates; ours to wait for, not to change
pytestmark = pytest.mark.filterwarnings("ignore:The .*noload.* loader strategy is deprecated")

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


def test_what_is_no_number_is_no_value_for_a_launch_nor_for_a_report(folder):
    check(f"sqlite:///{folder}/mlflow.db", folder)


@pytest.mark.slow
def test_what_is_no_number_is_no_value_behind_a_server_either(folder):
    with MlflowServer(f"sqlite:///{folder}/mlflow.db", folder) as server:
        check(server.uri, folder)
