"""What MLflow cannot hold as it is: names stay distinct, long texts stay whole, infinity stays infinity."""

import dataclasses
import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.utils.validation import _validate_metric_name, _validate_param

from analysis.results.cells import make_cells
from analysis.results.minority import minority_cells
from analysis.results.runs import read_results
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.limits import CUT, PARAM_CHARACTERS, WHOLE, cut, older_name, safe_name
from l2t_ray.ledger.reader import open_ledger
from l2t_ray.ledger.spool import Record
from tests.support.ledgers import Logged, fill

CLASSES = ("C", "C#", "C+", "C++", "C_", "c sharp", "é", "e\u0301", "n" * 300, "n" * 301)


def test_names_that_mlflow_takes_stay_as_they_are():
    for name in ("test_accuracy_percent", "test_accuracy_class_t-shirt/top_percent", "options.a b"):
        assert safe_name(name) == name


def test_unlike_classes_have_unlike_metrics_with_their_unit():
    names = [safe_name(f"test_accuracy_class_{name}_percent") for name in CLASSES]
    assert len(set(names)) == len(CLASSES)
    assert all(name.endswith("_percent") for name in names)
    whole = "test_accuracy_class_C#_percent"
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]  # as `printf %s NAME | sha256sum`
    assert safe_name(whole) == f"test_accuracy_class_C_.{digest}_percent"


@given(st.text(max_size=300))
def test_mlflow_takes_every_name(name):
    _validate_metric_name(safe_name(name))
    _validate_metric_name(safe_name(f"test_accuracy_class_{name}_percent"))
    _validate_param(safe_name(f"options.{name}"), "1")


def test_a_cut_text_says_so_and_is_as_long_as_mlflow_takes():
    assert cut("a" * 6000, 6000) == "a" * 6000
    assert len(cut("a" * 6001, 6000)) == 6000
    assert cut("a" * 6001, 6000).endswith(CUT)


def record(**changes):
    samples = json.dumps({f"class {number}": 1 + (number > 0) for number in range(500)})
    assert len(samples) > PARAM_CHARACTERS
    return dataclasses.replace(
        Record(
            key="a" * 16, sweep="long", name="n" * 400, outcome="finished",
            params={"data.samples_per_class": samples, "options.a#b": "1"},
            tags={"cell": "x/1/scratch", "reason": "r" * 2000, "git": "", "versions": "", "data_sha": ""},
            metrics={"test_accuracy_percent": [(1, 50.0)], "train_loss": [(1, math.inf)],
                     "test_accuracy_class_C#_percent": [(1, 1.0)], "test_accuracy_class_C+_percent": [(1, 2.0)]},
            wall_s=1.0, peak_bytes=1,
        ),
        **changes,
    )  # fmt: skip


def test_long_texts_are_read_whole_and_infinity_as_infinity(folder):
    ledger = Ledger("long", folder=folder)
    written = record()
    ledger.spool.put(written)
    with ledger.writing():
        ledger.flush()
    client = MlflowClient(ledger.uri)
    experiment = client.get_experiment_by_name("long").experiment_id
    (run,) = client.search_runs([experiment], "tags.`l2t.kind` = 'run'")
    assert run.data.params["data.samples_per_class"].endswith(CUT)
    assert len(run.info.run_name) <= 250  # of PostgreSQL's column
    results = read_results(["long"])
    (row,) = results.runs.to_dict("records")
    assert row["data.samples_per_class"] == written.params["data.samples_per_class"]
    assert row["train_loss"] == math.inf
    assert row[safe_name("test_accuracy_class_C#_percent")] == 1.0
    assert row[safe_name("test_accuracy_class_C+_percent")] == 2.0
    reader, _ = open_ledger(folder=folder)
    assert json.loads(reader.artifact(results.entries[row["run_id"]], WHOLE))["tags"] == {"reason": "r" * 2000}
    assert not [notice for notice in results.notices if "characters" in notice]


def test_a_setting_that_an_older_version_cut_is_left_out_and_reported(database):
    run = Logged(method="ufm", seed=0, params={"data.samples_per_class": "x" * PARAM_CHARACTERS})
    fill(database, "old", [run])
    results = read_results(["old"])
    assert "data.samples_per_class" not in results.runs
    assert any("data.samples_per_class is longer than the 6,000 characters" in notice for notice in results.notices)


@pytest.mark.parametrize("n_values", [1, 2], ids=["a class of its own", "two classes in one metric"])
def test_an_older_ledgers_class_is_read_unless_another_shares_its_metric(database, n_values):
    old = older_name("test_accuracy_class_C#_percent")
    curves = {old: [(200, 10.0 + number) for number in range(n_values)]}
    samples = json.dumps({"C#": 1, "*": 4})
    fill(database, "old", [Logged(samples="4,C#=1", seed=0, curves=curves, params={"data.samples_per_class": samples})])
    results = read_results(["old"])
    found, notices = minority_cells(results, make_cells(results))
    if n_values == 1:
        assert [[*cell.values.values()] for cell in found] == [[10.0]]
        assert notices == []
    else:
        assert found == []
        assert "together with another class" in notices[0]


def test_a_setting_that_somebody_has_broken_is_reported(database):
    fill(database, "old", [Logged(samples="4,C=1", seed=0, params={"data.samples_per_class": '{"C": 1,'})])
    results = read_results(["old"])
    found, notices = minority_cells(results, make_cells(results))
    assert found == []
    assert "data.samples_per_class cannot be read" in notices[0]
