"""The ledger, on SQLite and through a real server."""

import base64
import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.tracking import MlflowClient

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.errors import InputError, LedgerUnavailableError
from l2t_ray.ledger.entries import finished, untraced
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.spool import Record, dotted
from l2t_ray.training.trace_file import encode, merge
from tests.support.ledgers import failures_of, finished_ids
from tests.support.servers import MlflowServer, free_port


@dataclass(frozen=True)
class Described:
    name: str = "described"
    uses: frozenset = frozenset({"transfer.pairs"})
    options: dict = field(
        default_factory=lambda: {"depth": 2, **{f"option_{number:03}": number for number in range(150)}}
    )


@dataclass
class Ended:
    key: str
    status: str = "finished"
    reason: str = ""
    metrics: dict = field(
        default_factory=lambda: {"train_loss": [(1, 2.5), (2, 1.5)], "test_accuracy_percent": [(2, 40.0)]}
    )
    wall_s: float = 12.5
    peak_bytes: int = 1 << 20
    artifacts: dict = field(default_factory=dict)


@pytest.fixture(autouse=True)
def method(monkeypatch):
    monkeypatch.setitem(registry.METHODS, "described", Described())


def make_run(seed=0, **settings):
    return Run.model_validate({
        "data": {"name": "digits", "samples_per_class": 10},
        "method": "described",
        "seed": seed,
        **settings,
    })


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """MLflow's migrations take seconds: once a module."""
    folder = tmp_path_factory.mktemp("it's a folder")
    Ledger("first", folder=folder).open()
    return folder


@pytest.fixture
def ledger(database, request):
    name = request.node.name[-60:].replace("[", "-").replace("]", "")
    made = Ledger(name, folder=database)
    made.open()
    return made


def put(ledger, run, **settings):
    record = ledger.record(run, Ended(run.key, **settings), "digits/10/described", tags={"shape": "s", "device": "cpu"})
    ledger.flush()
    return record


def test_a_finished_run_has_the_schema_of_the_design(ledger):
    run = make_run(3)
    record = put(ledger, run)
    (run_id,) = finished_ids(ledger, [run.key]).values()
    logged = MlflowClient(ledger.uri).get_run(run_id)
    assert logged.info.status == "FINISHED"
    assert logged.info.end_time - logged.info.start_time == 12500
    assert logged.info.end_time == record.end_ms
    assert logged.data.params == dotted(run.resolved())
    assert logged.data.params["transfer.pairs"] == "all"
    assert logged.data.params["training.lr"] == "0.1"
    assert logged.data.params["options.depth"] == "2"
    assert "transfer.beta" not in logged.data.params
    tags = {name: value for name, value in logged.data.tags.items() if name.startswith("l2t.")}
    assert set(tags) == {
        f"l2t.{name}"
        for name in (
            "key",
            "sweep",
            "cell",
            "outcome",
            "reason",
            "git",
            "versions",
            "data_sha",
            "kind",
            "shape",
            "device",
        )
    }
    assert tags["l2t.key"] == run.key
    assert tags["l2t.kind"] == "run"
    assert tags["l2t.cell"] == "digits/10/described"
    assert json.loads(tags["l2t.versions"])["mlflow"]
    history = MlflowClient(ledger.uri).get_metric_history(run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.5), (2, 1.5)]
    assert logged.data.metrics["wall_s"] == 12.5
    assert logged.data.metrics["peak_bytes"] == 1 << 20


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


def test_diverged_and_failed_runs_are_told_with_their_reason_and_are_not_finished(ledger):
    diverged, failed = make_run(1), make_run(2)
    put(
        ledger,
        diverged,
        status="diverged",
        reason="train_loss is nan in epoch 17",
        metrics={"train_loss": [(17, float("nan"))]},
    )
    put(ledger, failed, status="failed", reason="ValueError: boom", metrics={})
    keys = [diverged.key, failed.key]
    assert finished_ids(ledger, keys) == {}
    assert failures_of(ledger, keys) == {
        diverged.key: ("diverged", "train_loss is nan in epoch 17"),
        failed.key: ("failed", "ValueError: boom"),
    }


def test_a_run_that_finished_at_last_is_no_failure(ledger):
    run = make_run(5)
    put(ledger, run, status="failed", reason="ValueError: boom")
    put(ledger, run, wall_s=1.0)
    assert failures_of(ledger, [run.key]) == {}
    assert list(finished_ids(ledger, [run.key])) == [run.key]


def test_runs_of_other_sweeps_count(ledger):
    run = make_run(6)
    put(ledger, run)
    assert list(finished_ids(Ledger("another", folder=ledger.folder), [run.key])) == [run.key]


@pytest.mark.parametrize("call", ["create_run", "log_batch", "set_terminated"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_anywhere_in_the_writing_leaves_one_whole_run(ledger, monkeypatch, call, after):
    run = make_run(700 + 10 * after + len(call))  # a key of its own, for the ledger is shared
    ledger.record(run, Ended(run.key), "cell")
    done = getattr(MlflowClient, call)

    def crash(self, *arguments, **settings):
        if after:
            done(self, *arguments, **settings)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, call, crash)
        with pytest.raises(KeyboardInterrupt):
            ledger.flush()
    again = Ledger(ledger.sweep, folder=ledger.folder)  # a new process
    assert len(again.spool) == 1
    assert again.flush() == 0
    ours = [entry for entry in again.entries() if entry.experiment == ledger.sweep]
    assert [(entry.key, entry.status) for entry in ours] == [(run.key, "FINISHED")]
    history = MlflowClient(ledger.uri).get_metric_history(ours[0].run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.5), (2, 1.5)]


def test_a_result_that_somebody_copies_into_the_spool_is_not_doubled(ledger):
    run = make_run(21)
    put(ledger, run)
    Ledger(ledger.sweep, folder=ledger.folder).record(run, Ended(run.key, wall_s=7.0), "cell")  # made elsewhere
    assert ledger.flush() == 0
    assert [entry.status for entry in ledger.entries() if entry.key == run.key] == ["FINISHED"]


def test_a_half_written_run_that_another_sweep_has_finished_meanwhile_is_taken_back(ledger, monkeypatch):
    run = make_run(20)
    ledger.record(run, Ended(run.key), "cell")

    def crash(*arguments, **settings):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_batch", crash)
        with pytest.raises(KeyboardInterrupt):
            ledger.flush()
    other = Ledger(f"{ledger.sweep}-other", folder=ledger.folder)
    put(other, run, wall_s=1.0)
    again = Ledger(ledger.sweep, folder=ledger.folder)
    assert again.flush() == 0
    ours = [(entry.experiment, entry.status) for entry in again.entries() if entry.key == run.key]
    assert ours == [(other.sweep, "FINISHED")]


def test_many_metrics_and_params_are_split_into_calls_within_the_limits(ledger):
    run = make_run(8)
    series = [(epoch, float(epoch)) for epoch in range(1, 2501)]
    put(ledger, run, metrics={"train_loss": series})
    (run_id,) = finished_ids(ledger, [run.key]).values()
    client = MlflowClient(ledger.uri)
    assert client.get_run(run_id).data.params == dotted(run.resolved())
    assert len(client.get_metric_history(run_id, "train_loss")) == 2500


def test_imbalance_by_any_class_name_is_a_param(ledger):
    settings = {"name": "digits", "samples_per_class": {"*": 10, "zérø?": 3}}
    run = make_run(9, data=settings)
    put(ledger, run)
    (run_id,) = finished_ids(ledger, [run.key]).values()
    value = MlflowClient(ledger.uri).get_run(run_id).data.params["data.samples_per_class"]
    assert json.loads(value) == settings["samples_per_class"]


def test_a_result_that_mlflow_refuses_stays_and_the_others_pass(ledger, caplog):
    refused, accepted = make_run(10), make_run(11)
    broken = ledger.record(refused, Ended(refused.key, metrics={"train_loss": [(1, 1.0)]}), "cell")
    ledger.spool.put(replace(broken, end_ms=-1))  # no time for MLflow
    ledger.record(accepted, Ended(accepted.key), "cell")
    assert ledger.flush() == 1
    assert [path.stem for path in ledger.spool.paths()] == [refused.key]
    assert "MLflow refuses the result" in caplog.text
    assert list(finished_ids(ledger, [refused.key, accepted.key])) == [accepted.key]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text[:-20], "Unterminated string"),
        (lambda text: text.replace("0.25", "0.75"), "its checksum does not match"),
        (lambda text: "[" * 100_000, "recursion"),
        (lambda text: "[]", "it is no map"),
        (lambda text: edited(text, metrics={"a": [[1, "high"]]}), "metrics.a.0.1: "),
        (lambda text: edited(text, end_ms="x"), "end_ms: "),
        (lambda text: edited(text, params={"lr": 1}), "params.lr: "),
        (lambda text: edited(text, outcome="Finished"), "outcome: "),
        (lambda text: edited(text, key="../../escaped"), "key: "),
        (
            lambda text: edited(text, artifacts={"../../escaped": "aGk="}),
            "must be the name of a file, got '../../escaped'",
        ),
        (lambda text: edited(text, artifacts={"x.txt": "%%%"}), "artifacts: "),
        (lambda text: edited(text, unknown=1), "unknown: "),
    ],
)
def test_a_spool_file_that_somebody_changed_is_left_and_told(ledger, caplog, change, told):
    run, other = make_run(12), make_run(13)
    for one in (run, other):
        ledger.record(one, Ended(one.key, metrics={"a": [(1, 0.25)]}), "cell")
    path = ledger.spool.folder / f"{run.key}.json"
    path.write_text(change(path.read_text()))
    assert ledger.flush() == 1
    assert f"{path}: must be the JSON that was spooled (" in caplog.text
    assert told in caplog.text
    assert [*finished_ids(ledger, [run.key, other.key])] == [other.key]


def edited(text, **values):
    """A record with other values, and without a checksum, as earlier versions wrote it."""
    return json.dumps({**{k: v for k, v in json.loads(text).items() if k != "sha256"}, **values})


def test_a_spool_file_without_a_checksum_is_of_an_earlier_version_and_read(ledger):
    run = make_run(14)
    record = ledger.record(run, Ended(run.key, metrics={"a": [(1, 0.25)]}), "cell")
    (path,) = ledger.spool.paths()
    path.write_text(edited(path.read_text()))
    assert [*ledger.spool.records()] == [record]


def test_copies_under_other_names_are_written_once_and_leave_nothing(ledger):
    run, moved = make_run(15), make_run(16)
    for one in (run, moved):
        ledger.record(one, Ended(one.key, metrics={"a": [(1, 0.25)]}), "cell")
    path = ledger.spool.folder / f"{run.key}.json"
    shutil.copy(path, path.with_name(f"{run.key} (1).json"))
    (ledger.spool.folder / f"{moved.key}.json").rename(ledger.spool.folder / "renamed.json")
    assert ledger.flush() == 0
    assert ledger.spool.paths() == []
    assert len([entry for entry in ledger.entries() if entry.key == run.key]) == 1
    assert {*finished_ids(ledger, [run.key, moved.key])} == {run.key, moved.key}


def test_a_spooled_record_comes_back_equal(ledger):
    run = make_run(13)
    record = ledger.record(run, Ended(run.key, metrics={"train_loss": [(1, float("nan"))], "a": [(2, 0.1)]}), "cell")
    (read,) = ledger.spool.records()
    assert str(read) == str(record)  # nan is not equal to itself
    assert isinstance(read, Record)


def test_the_manifest_lists_the_wanted_runs_and_follows_the_sweep(ledger):
    runs = {run.key: run for run in map(make_run, range(3))}
    cells = dict.fromkeys(runs, "digits/10/described")
    client = MlflowClient(ledger.uri)

    def manifests():
        return [entry for entry in ledger.entries() if entry.kind == "manifest" and entry.experiment == ledger.sweep]

    for wanted in (dict(list(runs.items())[:2]), runs, runs):
        ledger.write_manifest(SimpleNamespace(name=ledger.sweep, runs=wanted, cells=cells), ledger.entries())
        (entry,) = manifests()
        manifest = json.loads(Path(client.download_artifacts(entry.run_id, "manifest.json")).read_text())
        assert manifest["sweep"] == ledger.sweep
        assert [item["key"] for item in manifest["runs"]] == list(wanted)
    assert manifest["runs"][2] == {
        "key": list(runs)[2],
        "cell": "digits/10/described",
        "seed": 2,
        "data": "digits",
        "samples_per_class": 10,
        "method": "described",
        "epochs": 200,
    }
    assert (ledger.folder / "mlartifacts").is_dir()


def test_looking_creates_nothing(tmp_path):
    ledger = Ledger("nothing", folder=tmp_path)
    assert ledger.entries() == []
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_is_damaged_is_written_anew(ledger):
    run = make_run(0)
    wanted = SimpleNamespace(name=ledger.sweep, runs={run.key: run}, cells={run.key: "digits/10/described"})
    ledger.write_manifest(wanted, ledger.entries())
    (path,) = ledger.folder.glob(f"mlartifacts/{ledger.sweep}/*/artifacts/manifest.json")
    content = path.read_bytes()
    for damage in (lambda: path.write_bytes(content[:40]), path.unlink):
        damage()
        ledger.write_manifest(wanted, ledger.entries())
        assert path.read_bytes() == content


def test_a_deleted_experiment_is_told_with_its_remedy(ledger):
    client = MlflowClient(ledger.uri)
    client.delete_experiment(client.get_experiment_by_name(ledger.sweep).experiment_id)
    with pytest.raises(InputError, match="mlflow experiments restore"):
        Ledger(ledger.sweep, folder=ledger.folder).open()
    with pytest.raises(InputError, match="mlflow experiments restore"):
        Ledger(ledger.sweep, folder=ledger.folder).check()  # what --plan and --status ask
    with pytest.raises(InputError, match="mlflow experiments restore"):
        Ledger(ledger.sweep, folder=ledger.folder).write_manifest(
            SimpleNamespace(name=ledger.sweep, runs={}, cells={}), []
        )


def test_a_server_that_is_not_there_is_told_without_the_password(tmp_path):
    ledger = Ledger("away", f"http://user:planted-secret@127.0.0.1:{free_port()}", folder=tmp_path)
    run = make_run(14)
    ledger.record(run, Ended(run.key), "cell")
    for attempt in (ledger.entries, ledger.open, ledger.flush):
        with pytest.raises(LedgerUnavailableError, match="must answer") as caught:
            attempt()
        assert "planted-secret" not in str(caught.value)
        assert "http://***@127.0.0.1" in str(caught.value)
    assert len(ledger.spool) == 1


@pytest.mark.slow
def test_a_real_server_holds_the_ledger_and_may_go_away_for_a_while(tmp_path):
    runs = [make_run(seed) for seed in range(3)]
    with MlflowServer(f"sqlite:///{tmp_path}/server.db", tmp_path) as server:
        ledger = Ledger("served", server.uri, folder=tmp_path)
        ledger.open()
        put(ledger, runs[0])
        server.stop()
        ledger.record(runs[1], Ended(runs[1].key), "cell")
        with pytest.raises(LedgerUnavailableError):
            ledger.flush()
        server.start()
        assert ledger.flush() == 0
        put(ledger, runs[2], status="diverged", reason="loss")
        wanted = SimpleNamespace(
            name="served", runs={run.key: run for run in runs}, cells=dict.fromkeys([run.key for run in runs], "c")
        )
        ledger.write_manifest(wanted, ledger.entries())
        ledger.write_manifest(wanted, ledger.entries())
        assert set(finished_ids(ledger, wanted.runs)) == {runs[0].key, runs[1].key}
        assert failures_of(ledger, wanted.runs) == {runs[2].key: ("diverged", "loss")}
        assert sorted(entry.kind for entry in ledger.entries()) == ["manifest", "run", "run", "run"]
