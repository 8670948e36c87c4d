"""The ledger, on SQLite and through a real server."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.tracking import MlflowClient

from l2t_ray.errors import InputError, LedgerUnavailableError
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.reader import open_ledger
from l2t_ray.ledger.spool import dotted
from tests.support.ledgers import failures_of, finished_ids
from tests.support.records import Ended, make_run, put
from tests.support.servers import MlflowServer, free_port


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


def test_a_restored_manifest_does_not_stand_for_the_newest_which_reports_read(ledger):
    runs = {run.key: run for run in map(make_run, range(2))}
    client = MlflowClient(ledger.uri)

    def write(n):
        wanted = dict([*runs.items()][:n])
        ledger.write_manifest(
            SimpleNamespace(name=ledger.sweep, runs=wanted, cells=dict.fromkeys(runs, "d/10/m")), read()
        )
        listed = json.loads(open_ledger(ledger.uri)[0].artifact(read()[-1], "manifest.json"))
        assert [run["key"] for run in listed["runs"]] == [*wanted]

    def read():
        return [entry for entry in ledger.entries() if entry.experiment == ledger.sweep]

    write(2)
    (first,) = read()
    client.delete_run(first.run_id)
    write(1)
    client.restore_run(first.run_id)
    assert len(read()) == 2
    write(2)


@pytest.mark.parametrize("backup", [True, False], ids=["replaced", "removed"])
def test_results_wait_where_the_file_was_replaced_or_removed_under_a_launch(template, tmp_path, backup):
    shutil.copy(template, tmp_path)
    ledger, runs = Ledger("small", folder=tmp_path), [make_run(seed) for seed in range(2)]
    with ledger.writing():
        put(ledger, runs[0])
        (tmp_path / "mlflow.db").unlink()
        if backup:
            shutil.copy(template, tmp_path)
        for path in tmp_path.glob("mlflow.db-*"):
            path.unlink()
        with pytest.raises(LedgerUnavailableError, match=r"was replaced or removed .*; launch again"):
            put(ledger, runs[1])
        assert [path.stem for path in ledger.spool.paths()] == [runs[1].key]
    with pytest.raises(LedgerUnavailableError, match="in a new process"), Ledger("small", folder=tmp_path).writing():
        pass  # MLflow has the lost file still open


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
