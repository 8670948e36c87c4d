"""Ledgers for tests, in MLflow's real schema: filled by SQL, which is fast, or by MLflow's client, as sweeps do."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from l2t_ray.ledger.entries import failures, finished

VERSIONS = json.dumps({"python": "3.11.0", "torch": "2.14.1"})


@dataclass
class Logged:
    """One run as docs/design.md says that the ledger holds it."""

    data: str = "cifar10"
    samples: str = "10"
    method: str = "scratch"
    seed: int = 0
    accuracy: float | None = 50.0
    outcome: str = "finished"
    reason: str = ""
    variant: str = ""
    git: str = "a" * 40
    versions: str = VERSIONS
    data_sha: str = "d" * 64
    key: str = ""
    curves: dict = field(default_factory=dict)  # name -> [(epoch, value)]
    run_id: str = ""
    params: dict = field(default_factory=dict)
    artifacts: dict = field(default_factory=dict)  # name -> bytes

    def __post_init__(self):
        import hashlib

        text = "/".join([self.data, self.samples, self.method, self.variant, str(self.seed)])
        self.key = self.key or hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def cell(self):
        return "/".join(part for part in (self.data, self.samples, self.method, self.variant) if part)

    @property
    def tags(self):
        traced = {"l2t.trace": "as stored"} if "traces.parquet" in self.artifacts else {}
        return {
            **traced, "l2t.kind": "run", "l2t.key": self.key, "l2t.cell": self.cell, "l2t.outcome": self.outcome,
            "l2t.reason": self.reason, "l2t.git": self.git, "l2t.versions": self.versions,
            "l2t.data_sha": self.data_sha,
        }  # fmt: skip

    @property
    def all_params(self):
        samples = {"data.name": self.data, "data.samples_per_class": self.samples}
        return {**samples, "method": self.method, "seed": str(self.seed), "training.epochs": "200", **self.params}

    @property
    def all_curves(self):
        found = {name: list(points) for name, points in self.curves.items()}
        if self.accuracy is not None:
            found.setdefault("test_accuracy_percent", [(200, self.accuracy)])
        return {**found, "wall_s": [(200, 12.5)], "peak_bytes": [(200, 1e9)]}


def fill(database: Path, sweep: str, runs: Iterable[Logged], *, manifest=True, wanted=None, further=None) -> None:
    """Writes a sweep by SQL; `wanted` are runs of the manifest without a result, `further` its other entries."""
    runs = list(runs)
    artifacts = database.parent / "mlartifacts" / sweep
    with sqlite3.connect(database) as connection:
        found = connection.execute("SELECT experiment_id FROM experiments WHERE name = ?", (sweep,)).fetchone()
        if found is None:
            (last,) = connection.execute("SELECT max(experiment_id) FROM experiments").fetchone()
            found = ((last or 0) + 1,)
            connection.execute(
                "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) VALUES (?, ?, ?, ?)",
                (found[0], sweep, artifacts.as_uri(), "active"),
            )
        (n_before,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        for number, run in enumerate(runs, start=n_before):
            run.run_id = run.run_id or f"{number:032x}"
            status = "FINISHED" if run.outcome == "finished" else "RUNNING" if run.outcome == "running" else "FAILED"
            _insert_run(connection, run.run_id, found[0], status, number, artifacts)
            tags = [(name, value, run.run_id) for name, value in {**run.tags, "l2t.sweep": sweep}.items()]
            connection.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", tags)
            params = [(name, value, run.run_id) for name, value in run.all_params.items()]
            connection.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", params)
            points = [
                (name, 0.0 if value != value else value, run.run_id, step, value != value)
                for name, series in run.all_curves.items()
                for step, value in series
            ]
            query = "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, 0, ?, ?, ?)"
            connection.executemany(query, points)
            latest = {name: (name, value, key, step, nan) for name, value, key, step, nan in points}
            query = query.replace("metrics", "latest_metrics")
            connection.executemany(query, latest.values())
            for name, content in run.artifacts.items():
                path = artifacts / run.run_id / "artifacts" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        if manifest:
            run_id = f"{n_before + len(runs):032x}"
            _insert_run(connection, run_id, found[0], "FINISHED", n_before + len(runs), artifacts)
            tags = [("l2t.kind", "manifest", run_id), ("l2t.sweep", sweep, run_id)]
            connection.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", tags)
            path = artifacts / run_id / "artifacts" / "manifest.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(manifest_of(sweep, [*runs, *(wanted or ())], further)))
    connection.close()


def manifest_of(sweep: str, runs: Iterable[Logged], further=None) -> dict:
    """The content of manifest.json, as in docs/design.md."""
    items = {
        run.key: {
            "key": run.key, "cell": run.cell, "seed": run.seed, "data": run.data, "samples_per_class":
            int(run.samples) if run.samples.isdigit() else {"*": 100}, "method": run.method, "epochs": 200,
        }
        for run in runs
    }  # fmt: skip
    return {"sweep": sweep, "runs": list(items.values()), **(further or {})}


def write_through_mlflow(uri: str, folder: Path, sweep: str, runs: Iterable[Logged]) -> None:
    """Writes a sweep with nothing but MLflow's client."""
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    client, runs = MlflowClient(uri), list(runs)
    location = None if uri.startswith("http") else (folder / "mlartifacts" / sweep).as_uri()
    experiment = client.create_experiment(sweep, location)
    for run in runs:
        created = client.create_run(experiment, tags={**run.tags, "l2t.sweep": sweep})
        run.run_id = created.info.run_id
        client.log_batch(
            run.run_id,
            metrics=[Metric(name, value, 0, step) for name, points in run.all_curves.items() for step, value in points],
            params=[Param(name, value) for name, value in run.all_params.items()],
        )
        client.set_terminated(run.run_id, "FINISHED" if run.outcome == "finished" else "FAILED")
    created = client.create_run(experiment, tags={"l2t.kind": "manifest", "l2t.sweep": sweep})
    client.log_text(created.info.run_id, json.dumps(manifest_of(sweep, runs)), "manifest.json")
    client.set_terminated(created.info.run_id)


def finished_ids(ledger, keys):
    """MLflow's run id of each finished run among these keys."""
    return {key: entry.run_id for key, entry in finished(ledger.entries(), keys).items()}


def failures_of(ledger, keys):
    """(outcome, reason) of each run among these keys that ended without a result."""
    return failures(ledger.entries(), keys)


def _insert_run(connection, run_id, experiment_id, status, start_ms, artifacts):
    connection.execute(
        "INSERT INTO runs (run_uuid, name, status, start_time, lifecycle_stage, artifact_uri, experiment_id,"
        " source_type, user_id) VALUES (?, ?, ?, ?, 'active', ?, ?, 'LOCAL', '')",
        (run_id, run_id, status, start_ms, f"{artifacts.as_uri()}/{run_id}/artifacts", experiment_id),
    )
