"""A search over the settings of a trainer of one's own goes towards the better end, and its best file is a sweep."""

from pathlib import Path

import pytest

from l2t_ray import sweep
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.sweepfile.read import read_sweep
from tests.support.launches import call

TRAINER = """
from dataclasses import dataclass

@dataclass
class Settings:
    model: str
    x: float = 0.0

def train(settings: Settings, seed, context):
    middle = {"left": -1.0, "right": 1.0}[settings.model]
    return {"error_percent": (settings.x - middle) ** 2 + seed / 1000, "held_out": -((settings.x - middle) ** 2)}
"""
FILE = """
sweep: tuned
trainer: mine.py
metric: {{name: error_percent, lower_is_better: true}}
grid:
- settings: {{model: [left, right]}}
  seed: {{from: 0, to: 5}}
search:
  space: {{x: {{low: -2, high: 2}}}}
  seeds: [100, 101]
  trials: 12
  untuned: true
  {objective}
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(TRAINER)


def launch(file):
    return call(sweep.main, file, "--backend", "inline")


@pytest.mark.parametrize(
    "objective", ["", "objective: held_out, lower_is_better: false"], ids=["the metric", "a held-out result"]
)
def test_a_search_finds_the_better_end_and_writes_a_sweep_of_it(tmp_path, objective):
    objective = objective.replace(", ", "\n  ")
    Path("s.yaml").write_text(FILE.format(objective=objective))
    code, _, err = launch("s.yaml")
    assert code == 0, err
    assert ("note: search.objective is error_percent" in err) == (not objective)
    best = read_sweep(Path("s_best.yaml"))
    found = {name: run.settings["x"] for run in best.runs.values() for name in [best.cells[run.key]]}
    assert found["mine/-/left"] == found["mine/-/right"] == 0.0
    assert -2 <= found["mine/-/left/tuned"] < 0.0  # at -1 is the lowest error
    assert 0.0 < found["mine/-/right/tuned"] <= 2  # at 1
    assert len(best.runs) == 24
    assert launch("s_best.yaml")[0] == 0
    means = {}
    for entry in Ledger("tuned_best").entries(["error_percent"]):
        if entry.kind == "run" and entry.key in best.runs:
            means.setdefault(best.cells[entry.key], []).append(entry.metrics["error_percent"])
    assert sum(means["mine/-/left/tuned"]) < sum(means["mine/-/left"])
    assert sum(means["mine/-/right/tuned"]) < sum(means["mine/-/right"])


def test_a_misspelt_objective_is_told_with_the_nearest_that_was_logged():
    Path("s.yaml").write_text(FILE.format(objective="objective: held_ou\n  lower_is_better: false"))
    code, _, err = launch("s.yaml")
    assert code == 2, err
    assert "search.objective must be what the runs log, got 'held_ou'; they log " in err
    assert "error_percent" in err
    assert "held_out; did you mean held_out?" in err.replace(", wall_s", "").replace(", peak_bytes", "")
