"""What the system costs besides training: runs of a trainer that returns at once, a full ledger, a large plan.

    python -m benchmarks.bench_overhead [--runs 2000] [--finished 20000] [--plan 100000] [--out FILE]

Each figure is the wall time of the whole command, including its start (imports, Ray, MLflow's schema), divided by the
number of runs. The output also holds the machine's load before the benchmark; n = 1.
"""

import argparse
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l2t_ray.launch.placement.packing import shape
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.run import AnyRun
from l2t_ray.sweepfile.read import read_sweep

ROOT = Path(__file__).parents[1]
EPOCHS = 10
SWEEP = """
sweep: overhead
run:
  data: {{name: digits, samples_per_class: 4}}
  target: {{width: 0.125}}
  training: {{epochs: {epochs}}}
grid:
  - {{method: scratch, seed: {{from: 0, to: {last}}}}}
"""
NOTHING = """
sweep: overhead
trainer: nothing.py
metric: {{name: error_percent, lower_is_better: true}}
grid:
  - {{settings: {{epochs: {epochs}}}, seed: {{from: 0, to: {last}}}}}
"""
TRAINER = """
def train(settings, seed, context):
    for epoch in range(1, settings["epochs"] + 1):
        context.log(epoch, train_loss=1.0, train_error_percent=1.0)
    return {"error_percent": 50.0}
"""  # it logs as many numbers as the built-in trainer


def command(folder: Path, *arguments: str) -> tuple[float, float, str]:
    """Runs the command line; returns wall seconds, CPU seconds of it and its children, and stdout."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = [sys.executable, "-m", "l2t_ray.sweep", "overhead.yaml", *arguments]
    done = subprocess.run(words, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    wall_s, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def train_nothing(n_runs: int) -> dict[str, Any]:
    """Times a launch whose runs do nothing, from the plan through Ray Tune to the ledger."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "nothing.py").write_text(TRAINER)
        (folder / "overhead.yaml").write_text(NOTHING.format(epochs=EPOCHS, last=n_runs - 1))
        wall_s, cpu_s, out = command(folder, "--json", "--no-probe")
        printed = json.loads(out)
        assert printed["n_finished"] == n_runs
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # the largest child so far: the driver
    row = {"runs": n_runs, "wall_s": wall_s, "driver_cpu_s": cpu_s, "peak_mib": peak}
    return {**row, "ms_a_run": 1000 * wall_s / n_runs, "launch_ms_a_run": 1000 * printed["launch"]["wall_s"] / n_runs}


def reconcile(n_runs: int) -> dict[str, Any]:
    """Times plan and launch when the ledger already holds all runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "overhead.yaml").write_text(SWEEP.format(epochs=EPOCHS, last=n_runs - 1))
        Ledger("overhead", folder=folder).open()
        fill(folder / "mlflow.db", list(read_sweep(folder / "overhead.yaml").runs.values()))
        plan_s, _, out = command(folder, "--plan", "--json")
        assert json.loads(out)["cells"][0]["n_finished"] == n_runs
        launch_s, _, _ = command(folder, "--json")
    return {"finished": n_runs, "plan_s": plan_s, "launch_of_nothing_s": launch_s}


def plan(n_runs: int) -> dict[str, Any]:
    """Times the plan when no run has been trained."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "overhead.yaml").write_text(SWEEP.format(epochs=EPOCHS, last=n_runs - 1))
        wall_s, cpu_s, out = command(folder, "--plan", "--json", "--fleet", "h200:8")
        assert json.loads(out)["cells"][0]["n_to_train"] == n_runs
    return {"planned": n_runs, "wall_s": wall_s, "cpu_s": cpu_s}


def fill(database: Path, runs: Sequence[AnyRun]) -> None:
    """Writes finished runs into MLflow's tables as the ledger would, without the 30 ms that MLflow takes for each."""
    params = {"seed": "0", **{f"section.setting{n}": str(n) for n in range(25)}}
    with sqlite3.connect(database) as connection:
        experiment = connection.execute("SELECT experiment_id FROM experiments WHERE name = 'overhead'").fetchone()[0]
        name = shape(runs[0])
        for run in runs:
            run_id = uuid.uuid4().hex
            connection.execute(
                "INSERT INTO runs (run_uuid, name, source_type, user_id, status, start_time, end_time, "
                "lifecycle_stage, experiment_id, artifact_uri) "
                "VALUES (?, 'r', 'UNKNOWN', 'u', 'FINISHED', 1, 2, 'active', ?, '')",
                (run_id, experiment),
            )
            tags = {"kind": "run", "key": run.key, "cell": "c", "outcome": "finished", "shape": name, "device": "cpu"}
            connection.executemany(
                "INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)",
                [(run_id, f"l2t.{key}", value) for key, value in tags.items()],
            )
            connection.executemany(
                "INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?)",
                [(run_id, key, value) for key, value in params.items()],
            )
            connection.executemany(
                "INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan) VALUES (?, ?, ?, 1, 10, 0)",
                [(run_id, key, 1.0) for key in ("wall_s", "peak_bytes", "test_accuracy_percent", "train_loss")],
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--finished", type=int, default=20_000)
    parser.add_argument("--plan", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path("report/bench_overhead.json"))
    arguments = parser.parse_args()
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{cores} cores, load before {load:.1f}, n = 1")
    rows: list[dict[str, Any]] = []
    if arguments.runs:
        rows.append(train_nothing(arguments.runs))
        print(
            "{runs} runs: {ms_a_run:.0f} ms a run ({launch_ms_a_run:.0f} without the start), "
            "{driver_cpu_s:.0f} s of CPU, at most {peak_mib:.0f} MiB in a process".format(**rows[-1]),
            flush=True,
        )
    if arguments.finished:
        rows.append(reconcile(arguments.finished))
        print(
            "{finished} runs, all finished: plan {plan_s:.1f} s, launch {launch_of_nothing_s:.1f} s".format(**rows[-1])
        )
    if arguments.plan:
        rows.append(plan(arguments.plan))
        print("{planned} runs to train: plan {wall_s:.1f} s, {cpu_s:.1f} s of CPU".format(**rows[-1]))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"cores": cores, "load_before": load, "rows": rows}, indent=1) + "\n")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
