"""What tests of runs of one's own trainer share: a sweep of it, and how a worker trains its runs."""

from dataclasses import replace
from pathlib import Path

from l2t_ray.launch.options import Options, work_of
from l2t_ray.launch.worker.job import encode
from l2t_ray.launch.worker.train import train_pack
from l2t_ray.sweepfile.read import read_sweep

SWEEP = """
sweep: mine
trainer: {trainer}
metric: {{name: error, lower_is_better: true, margin: 1}}
grid:
- settings: {settings}
  seed: {{from: 0, to: 2}}
"""


def prepared(body, settings="{n: 3}"):
    """The work and the runs of a sweep whose function `train(settings, seed, context)` has this body."""
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    Path("mine.py").write_text(f"import asyncio, os, random, time\n\ndef train(settings, seed, context):\n{lines}")
    return of_sweep("mine.py", settings)


def of_sweep(trainer, settings="{n: 3}"):
    Path("mine.yaml").write_text(SWEEP.format(trainer=trainer, settings=settings))
    sweep = read_sweep(Path("mine.yaml"))
    return replace(work_of(sweep, Options()), mps="", checkpoint_s=0.0), [*sweep.runs.values()]


def train(work, runs, stop=lambda: False):
    seen = []
    return train_pack(work, encode(runs), lambda *done: seen.append(done), stop), seen
