"""What tests of the queue share: a queue of runs of a described method, and its trials."""

import json

from l2t_ray import registry
from l2t_ray.config import Execution, Run
from l2t_ray.launch.cluster.queue import Queue
from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import Group
from l2t_ray.launch.placement.measurements import Figures
from l2t_ray.launch.placement.packing import shape
from l2t_ray.launch.worker.job import Work

WORK = Work(folder="/", checkpoints="/c", data_dir="/d", methods=("my methods.py",))


class Described:
    name, uses, options = "described", frozenset({"transfer.pairs"}), {"depth": 2.0}


def make_run(seed, **settings):
    registry.METHODS["described"] = Described()  # until the test's end: conftest
    data = {"name": "digits", "samples_per_class": {"*": 10, "3": 2}}
    return Run.model_validate({"data": data, "method": "described", "seed": seed, **settings})


class Ends(list):
    def __call__(self, run, ended, pack, device):
        assert run.key == ended.key
        assert run in pack.runs
        self.append((run.seed, ended.status, ended.reason))


def cards(n=1, device="card", cores=8.0):
    return Group(device, n, 24 * 2**30, cores, is_gpu=True)


def make_queue(folder, runs, groups=None, retries=1, known=None, **execution):
    """A queue of runs, or of seeds, and how its runs have ended."""
    runs = [make_run(run) if isinstance(run, int) else run for run in runs]
    groups = groups or [Group("cpu", 1, 0, 2.0, is_gpu=False)]
    figures = Figures(folder / "figures.json")
    cells = {run.key: shape(run) for run in runs}
    lanes = Lanes(Execution(**execution), groups, figures, runs, cells, known=known or {})
    ends = Ends()
    return Queue(runs, lanes, WORK, retries=retries, on_end=ends), ends


def outcomes(config):
    values = {"status": "finished", "reason": "", "metrics": {"a": [[1, 2.0]]}, "wall_s": 1.0, "peak_bytes": 3}
    return json.dumps([{"key": item["key"], **values, "traces": "ignored"} for item in json.loads(config["pack"])])


def seeds(config):
    return [item["run"]["seed"] for item in json.loads(config["pack"])]


def take(queue, name):
    """The seeds of the next pack, whose trial starts at once."""
    config = queue.suggest(name)
    queue.started(name)
    return seeds(config)
