"""What a sweep's ledger holds after a storm, against what an undisturbed training gives: lost, doubled, changed."""

import collections
import dataclasses
import json
from pathlib import Path

import torch
from mlflow.tracking import MlflowClient

from l2t_ray.data.load import load_data
from l2t_ray.ledger.spool import dotted
from l2t_ray.models import load_source
from l2t_ray.sweepfile.read import read_sweep
from l2t_ray.training.pack import train

OF_TIME = ("wall_s", "peak_bytes")


@dataclasses.dataclass(frozen=True)
class Audit:
    """Keys of runs, and what else is not as it should be."""

    lost: list[str]
    doubled: list[str]
    changed: list[str]
    left_over: list[str]

    @property
    def is_clean(self):
        return not (self.lost or self.doubled or self.changed or self.left_over)

    def __str__(self):
        parts = [f"{name} {len(getattr(self, name))}" for name in ("lost", "doubled", "changed")]
        return ", ".join(parts) + (f", left over: {'; '.join(self.left_over)}" if self.left_over else "")


def undisturbed(file):
    """What each run comes to when nothing is between it and `training.train`: key to its metrics.

    In the process that asks, one run after another, on one thread, as a launch trains on a CPU.
    """
    sweep = read_sweep(Path(file))
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {}
    for key, run in sweep.runs.items():
        data = load_data(run.data, Path(sweep.execution.data_dir))
        source = None if run.method == "scratch" else load_source(run.source)
        (outcome,) = train([run], data, source, device=torch.device("cpu"))
        assert outcome.status == "finished", outcome.reason
        found[key] = {name: [tuple(point) for point in points] for name, points in outcome.metrics.items()}
    torch.set_num_threads(n_threads)
    return found


def audit(file, ledger, expected):
    """Looks at every run of the experiment, of whatever state, through MLflow's own client."""
    sweep = read_sweep(Path(file))
    client = MlflowClient(ledger.uri)
    experiment = client.get_experiment_by_name(sweep.name)
    runs, token = [], None
    while True:
        page = client.search_runs([experiment.experiment_id], "tags.`l2t.kind` = 'run'", page_token=token)
        runs += page
        if not (token := page.token):
            break
    finished = collections.defaultdict(list)
    left_over = []
    for run in runs:
        if run.info.status == "FINISHED":
            finished[run.data.tags["l2t.key"]].append(run)
        elif run.info.status != "KILLED":  # begun by a launch that was killed while it wrote, and told as lost
            left_over.append(f"{run.data.tags['l2t.key']} is {run.info.status}: {run.data.tags.get('l2t.reason')}")
    changed = [
        key
        for key, found in finished.items()
        if key in expected and not _same(client, found[0], sweep.runs[key], expected[key])
    ]
    left_over += [f"{path} is in the spool" for path in ledger.spool.paths()]
    storage = ledger.folder / sweep.execution.storage / sweep.name
    left_over += [f"{path} is left" for path in storage.rglob("*") if ".ckpt" in path.name]
    left_over += [f"{key} is not of the sweep" for key in set(finished) - set(sweep.runs)]
    return Audit(
        lost=sorted(set(sweep.runs) - set(finished)),
        doubled=sorted(key for key, found in finished.items() if len(found) > 1),
        changed=sorted(changed),
        left_over=sorted(left_over),
    )


def _same(client, run, wanted, expected):
    history = {
        name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
        if name not in OF_TIME
    }
    return (
        history == expected
        and run.data.params == dotted(wanted.resolved())
        and run.data.tags["l2t.outcome"] == "finished"
    )


def unpacked(text):
    """What `undisturbed` gave, from JSON."""
    return {
        key: {name: [tuple(point) for point in points] for name, points in metrics.items()}
        for key, metrics in json.loads(text).items()
    }
