"""MLflow through a real server, with as many results a second as 8 nodes give, for 5 minutes; nothing may be lost.

    make load
    python -m tests.load.ledger_under_load [--seconds 300] [--per-second 3.04] [--store postgres]

Eight nodes of eight H200 are estimated to finish 3.04 runs of `sweeps/cifar10_small.yaml` a second (`--plan --fleet
h200:64`). Every result carries what such a run does: its params, two metrics an epoch, an evaluation every twentieth.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.recorder import Recorder
from l2t_ray.ledger.spool import Ended
from tests.support.servers import MlflowServer, Postgres

EPOCHS = 200


def make_run(seed):
    data = {"name": "digits", "samples_per_class": 10}
    return Run.model_validate({"data": data, "method": "scratch", "seed": seed})


def ended(run):
    metrics = {
        "train_loss": [(epoch, 1 / epoch) for epoch in range(1, EPOCHS + 1)],
        "train_accuracy_percent": [(epoch, epoch / 2) for epoch in range(1, EPOCHS + 1)],
        "test_accuracy_percent": [(epoch, epoch / 3) for epoch in range(20, EPOCHS + 1, 20)],
    }
    return Ended(run.key, "finished", metrics=metrics, wall_s=3600.0, peak_bytes=1 << 30)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--per-second", type=float, default=3.04)
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="postgres")
    parser.add_argument("--out", type=Path, default=Path("report/ledger.json"))
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    n = round(arguments.seconds * arguments.per_second)
    registry.load()
    runs = [make_run(seed) for seed in range(n)]
    with tempfile.TemporaryDirectory(prefix="load-") as name:
        folder = Path(name)
        database = Postgres(folder).start() if arguments.store == "postgres" else None
        store = database.database() if database else f"sqlite:///{folder}/server.db"
        try:
            with MlflowServer(store, folder) as server:
                row = press(runs, server.uri, folder, arguments)
        finally:
            if database:
                database.stop()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(row))
    failed = (row["lost"], row["doubled"]) != (0, 0)
    words = (
        "{verdict}: {results} results in {seconds:.0f} s through a server on {store}: {in_ledger} in the ledger, "
        "{lost} lost, {doubled} doubled; from result to ledger {median_s:.2f} s (median), {worst_s:.1f} s (longest); "
        "the last was written {after_s:.1f} s after it came"
    )
    print(words.format(verdict="FAILED" if failed else "PASSED", **row))
    return failed


def press(runs, uri, folder, arguments):
    """Adds the results at their pace, and compares the ledger with them."""
    ledger = Ledger("pressed", uri, folder=folder)
    came, written = {}, {}

    def on_written(key):
        written[key] = time.monotonic()

    with ledger.writing(), Recorder(ledger, on_written) as recorder:
        began = time.monotonic()
        for number, run in enumerate(runs):
            time.sleep(max(0.0, began + number / arguments.per_second - time.monotonic()))
            came[run.key] = time.monotonic()
            recorder.add(run, ended(run), "digits/10/scratch", "sha", {"device": "cpu", "shape": "x"})
        added_s = time.monotonic() - began
    keys = [entry.key for entry in ledger.entries() if entry.kind == "run" and entry.status == "FINISHED"]
    waits = np.array([written[key] - came[key] for key in came if key in written])
    return {
        "results": len(runs),
        "seconds": added_s,
        "store": arguments.store,
        "in_ledger": len(set(keys)),
        "lost": len(set(came) - set(keys)),
        "doubled": len(keys) - len(set(keys)),
        "median_s": float(np.median(waits)),
        "worst_s": float(waits.max()),
        "after_s": float(max(written.values()) - max(came.values())),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    sys.exit(main())
