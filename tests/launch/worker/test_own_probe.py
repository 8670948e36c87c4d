"""A run of a trainer of one's own is measured in a while: its time by its end or by its epochs, its memory."""

import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from l2t_ray.launch.options import Options, work_of
from l2t_ray.launch.placement.allocation import ALIKE, Lanes
from l2t_ray.launch.placement.devices import CPU, Group
from l2t_ray.launch.placement.measurements import Figure, Figures, Speed
from l2t_ray.launch.worker.job import encode
from l2t_ray.launch.worker.own_probe import OwnProber
from l2t_ray.sweepfile.read import read_sweep

SWEEP = """
sweep: mine
trainer: mine.py
metric: {name: error_percent, lower_is_better: true}
grid:
- settings: {epochs: [4, 8]}
  seed: {from: 0, to: 2}
"""
QUICK = "    return {'error_percent': 1.0}"
SLOW = "    for epoch in range(1, 100):\n        time.sleep(0.05)\n        context.log(epoch)\n"
NEVER = "    time.sleep(3)\n"
BIG = "    raise MemoryError\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def prepared(body):
    Path("mine.py").write_text(f"import time\n\ndef train(settings, seed, context):\n{body}\n")
    Path("mine.yaml").write_text(SWEEP)
    sweep = read_sweep(Path("mine.yaml"))
    return sweep, replace(work_of(sweep, Options()), mps="", device="cpu")


@contextmanager
def measured(body, budget_s=1.0):
    """A prober and the speed that it finds; its training would go on, and change the working folder of other tests."""
    sweep, work = prepared(body)
    prober = OwnProber(work.to_json(), encode([*sweep.runs.values()][:1]), time.time())
    assert prober.ready()["start_s"] >= 0
    try:
        yield prober, prober.speed(1, budget_s)
    finally:
        prober.end()


def test_a_short_run_is_measured_to_its_end_and_leaves_no_checkpoint():
    with measured(QUICK) as (_, speed):
        pass
    assert 0 < speed["epoch_s"] < 1.0
    assert speed["peak_bytes"] > 20 * 2**20
    assert not Path(".l2t").exists()


def test_a_long_run_is_measured_by_its_epochs():
    with measured(SLOW) as (prober, speed):
        assert 4 * 0.05 <= speed["epoch_s"] < 4 * 0.2  # its setting `epochs` says that there are four
        assert 0.05 <= prober.pace(1, 0.5) < 0.2


def test_a_run_of_which_nothing_is_seen_has_no_speed_and_neither_has_one_without_memory():
    for body, budget_s in ((NEVER, 0.3), (BIG, 1.0)):
        with measured(body, budget_s) as (_, speed):
            assert speed is None


def test_other_settings_give_a_plan_its_time_and_no_limit_to_a_run():
    sweep, _ = prepared(QUICK)
    runs, group = [*sweep.runs.values()], Group(CPU, 1, 8 << 30, 2.0, is_gpu=False)
    figures = Figures(Path("probe.json"))
    lanes = Lanes(sweep.execution, [group], figures, runs, sweep.cells, known={})
    first, second = (lanes.shape_of[run.key] for run in (runs[0], runs[-1]))
    assert first != second
    assert lanes.run_s(first, group) == (None, "")
    figures.put(first, CPU, Figure((Speed(1, 7.0, 0.0, 1 << 20),)))
    assert lanes.run_s(first, group) == (7.0, "measured")
    assert lanes.run_s(second, group) == (7.0, ALIKE)
    assert lanes.epoch_s(first, group) == 7.0
    assert lanes.epoch_s(second, group) is None  # it may take a thousand times as long
    assert lanes.share(first, group).pack == 1
