"""Launches of hostile trainers of one's own on Ray: each mistake is one clear line, and its neighbours have results."""

from pathlib import Path

import psutil
import pytest

from l2t_ray import sweep
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.sweepfile.read import read_sweep
from tests.support.launches import OF_RAY, call

pytestmark = OF_RAY

TRAINER = """
import os, time

def train(settings, seed, context):
    kind = settings["kind"]
    if kind == "nothing":
        return None
    if kind == "nan":
        return {"error_percent": float("nan")}
    if kind == "raises" and seed == 1:
        raise RuntimeError("boom")
    if kind == "memory" and seed == 1:
        bytearray(1 << 45)  # more than any machine has
    if kind == "prints":
        for _ in range(1000):
            print("x" * 1_000_000)
    if kind == "forks" and os.fork() == 0:
        return {"error_percent": -1.0}
    if kind == "moves":
        os.chdir("/")
    if kind == "dies" and context.restore() is None:
        context.checkpoint(b"here")
        os._exit(1)
    if kind == "hangs" and seed == 2:
        time.sleep(3600)
    return {"error_percent": 10.0 + seed}
"""
FILE = """
sweep: hostile
trainer: hostile.py
metric: {{name: error_percent, lower_is_better: true}}
grid:
- settings: {{kind: [{kinds}]}}
  seed: {{from: 0, to: 2}}
execution: {{retries: 1, checkpoint_s: 0, hang_s: {hang_s}}}
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Path("hostile.py").write_text(TRAINER)


def launch(*kinds, hang_s=300):
    Path("hostile.yaml").write_text(FILE.format(kinds=", ".join(kinds), hang_s=hang_s))
    code, out, err = call(sweep.main, "hostile.yaml", "--no-probe")
    runs = read_sweep(Path("hostile.yaml"))
    found = {}
    for entry in Ledger("hostile").entries(["error_percent"]):
        if entry.kind == "run":
            run = runs.runs[entry.key]
            ended = (entry.tags["outcome"], entry.tags["reason"], entry.metrics.get("error_percent"))
            found[run.settings["kind"], run.seed] = ended
    return code, out + err, found


def test_every_mistake_is_a_clear_line_and_neighbours_keep_their_results():
    code, told, found = launch("fine", "nothing", "nan", "raises", "memory", "prints", "forks", "moves", "dies")
    assert code == 1, told
    for kind in ("fine", "prints", "forks", "moves", "dies"):
        assert [found[kind, seed] for seed in range(3)] == [("finished", "", 10.0 + seed) for seed in range(3)], kind
    assert {found["nan", seed][:2] for seed in range(3)} == {("diverged", "error_percent is nan")}
    nothing = [ended for (kind, _), ended in found.items() if kind == "nothing"]
    assert len(nothing) >= 2  # then the cell is stopped
    assert {ended[0] for ended in nothing} == {"failed"}
    assert all("the results must be a map of names to numbers, got None" in ended[1] for ended in nothing)
    assert found["raises", 1][:2] == ("failed", "RuntimeError: boom (hostile.py:11 in train)")
    assert found["raises", 0][0] == found["raises", 2][0] == "finished"
    assert found["memory", 1][0] == "failed"
    assert "it had all of cpu" in found["memory", 1][1]
    assert "mean error_percent" in told
    files = [*Path("mlartifacts").rglob("output.txt")]
    assert len(files) == 3
    assert all(path.stat().st_size < 200_000 for path in files)


@pytest.mark.slow
def test_a_trainer_that_hangs_is_ended_and_told(monkeypatch):
    from l2t_ray.launch.cluster import callback, queue

    monkeypatch.setattr(callback, "BLIND_S", 20.0)
    monkeypatch.setattr(queue, "DEATHS", 2)
    code, told, found = launch("hangs", "fine", hang_s=2)
    assert code == 1, told
    assert found["hangs", 2][0] == "failed"
    assert "its process hung and was ended" in found["hangs", 2][1]
    assert found["hangs", 0] == ("finished", "", 10.0)
    assert [found["fine", seed][2] for seed in range(3)] == [10.0, 11.0, 12.0]
    left = [child.as_dict(["cmdline"], ad_value=[])["cmdline"] for child in psutil.Process().children(recursive=True)]
    assert not [words for words in left if "hostile" in " ".join(words)]
