"""Traces, beside the finished runs that lack them."""

import base64
from pathlib import Path

from mlflow.tracking import MlflowClient

from l2t_ray.config import Run
from l2t_ray.ledger.entries import finished, untraced
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.training.trace_file import encode, merge
from tests.support.ledgers import finished_ids
from tests.support.records import make_run, put


def traced(names, seed=0):
    """A trace as an outcome has it: the values at two epochs of each name."""
    values = [[float(seed), float(place)] for place in range(len(names))]
    return encode([(name, "") for name in names], [0, 1], values)


class Asking(Run):
    """A run whose trace is what a test says, whatever its method has."""

    @property
    def traced(self):
        return tuple(sorted(self.trace.weights))


def asking(seed, *names):
    settings = {"name": "digits", "samples_per_class": 10}
    return Asking(data=settings, method="described", seed=seed, trace={"weights": names})


def test_a_trace_is_put_beside_the_finished_run_that_lacks_it_and_beside_an_older_trace(ledger):
    run = make_run(90)
    put(ledger, run)
    (run_id,) = finished_ids(ledger, [run.key]).values()
    first, second = asking(90, "a", "b"), asking(90, "b", "c")
    assert first.key == second.key == run.key
    assert untraced(ledger.entries(), finished(ledger.entries(), [run.key]), {run.key: first.traced}) == [run.key]
    put(ledger, first, artifacts=traced(("a", "b"), seed=1), wall_s=99.0)
    put(
        ledger,
        second,
        artifacts=traced(("b", "c"), seed=2),
        metrics={"test_accuracy_percent": [(2, 41.0)]},
        wall_s=98.0,
    )
    again = {entry.key: entry for entry in ledger.entries() if entry.kind == "run"}[run.key]
    assert again.run_id == run_id
    assert again.metrics["test_accuracy_percent"] == 40.0  # the result that counts is the first one
    assert [entry.key for entry in ledger.entries()].count(run.key) == 1
    client = MlflowClient(ledger.uri)
    tags = client.get_run(run_id).data.tags
    assert (tags["l2t.trace"], tags["l2t.trace_of"]) == ("a b c", "a repeated training with test accuracy 41.00 %")
    content = Path(client.download_artifacts(run_id, "traces.parquet")).read_bytes()
    assert content == merge(*(base64.b64decode(traced(names, seed)["traces.parquet"]) for names, seed in SIDES))
    done = finished(ledger.entries(), [run.key])
    assert untraced(ledger.entries(), done, {run.key: ("a", "c")}) == []
    assert untraced(ledger.entries(), done, {run.key: ("a", "d")}) == [run.key]


SIDES = ((("a", "b"), 1), (("b", "c"), 2))


def test_a_trace_that_failed_is_not_tried_for_ever(ledger):
    run = make_run(91)
    put(ledger, run)
    put(ledger, asking(91, "a"), status="failed", reason="ValueError: boom", metrics={})
    done = finished(ledger.entries(), [run.key])
    assert untraced(ledger.entries(), done, {run.key: ("a",)}) == []
    assert set(done) == {run.key}


def test_a_new_run_has_its_trace_as_an_artifact_also_after_a_kill_between_write_and_spool(ledger):
    run = asking(92, "a")
    record = put(ledger, run, artifacts=traced(("a",)))
    ledger.spool.put(record)  # as a driver leaves it that is killed before it forgets the record
    Ledger(ledger.sweep, folder=ledger.folder).flush()
    (run_id,) = finished_ids(ledger, [run.key]).values()
    client = MlflowClient(ledger.uri)
    assert client.get_run(run_id).data.tags["l2t.trace"] == "a"
    assert "l2t.trace_of" not in client.get_run(run_id).data.tags
    content = Path(client.download_artifacts(run_id, "traces.parquet")).read_bytes()
    assert content == base64.b64decode(traced(("a",))["traces.parquet"])
