"""A search over the settings of a trainer of one's own goes towards the better end, and its best file is a sweep."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from l2t_ray import sweep
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.reader import open_ledger
from l2t_ray.search.study import TunedStudy, open_storage, study_name
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
def _folder(tmp_path, template, monkeypatch):
    shutil.copy(template, tmp_path)
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


PLAIN = """
sweep: s
trainer: mine.py
metric: {{name: error_percent, lower_is_better: true}}
grid:
- settings: {settings}
  seed: {{from: 0, to: 1}}
search:
  space: {space}
  seeds: [100, 101]
  trials: {trials}
  sampler: random
{more}
"""


def searched(function, settings, space, trials=6, more=""):
    """Exit code, JSON and stderr of a launch with a trainer of this body, which is given `x`."""
    body = function if "def " in function else f"def train(settings, seed, context):\n    {function}\n"
    Path("mine.py").write_text(f"import math\nfrom dataclasses import dataclass\n{body}")
    Path("s.yaml").write_text(PLAIN.format(settings=settings, space=space, trials=trials, more=more))
    code, out, err = call(sweep.main, "s.yaml", "--backend", "inline", "--json")
    return code, json.loads(out) if out else None, err


def trained():
    """The text of every setting that the runs of trials had."""
    reader, _ = open_ledger()
    runs = reader.details([entry.run_id for entry in reader.entries() if entry.kind == "run"])
    return {run.params["settings.x"] for run in runs.values()}


TYPED = """@dataclass
class Settings:
    x: float | int = 0.1
def train(settings: Settings, seed, context):
    return {"error_percent": (settings.x - 0.2) ** 2}
"""


@pytest.mark.parametrize(
    "function", ["return {'error_percent': (settings['x'] - 0.2) ** 2}", TYPED], ids=["untyped", "typed"]
)
def test_an_interval_around_a_fraction_is_of_fractions_also_with_whole_bounds(function):
    code, out, err = searched(function, "{x: 0.1}", "{x: {low: 0, high: 1}}")
    assert code == 0, err
    (best,) = out["studies"][0]["best"]
    assert 0 < best["settings"]["settings.x"] < 1
    assert best["values"] == [pytest.approx((best["settings"]["settings.x"] - 0.2) ** 2)]
    assert out["studies"][0]["own"] == pytest.approx(0.01)  # (0.1 - 0.2) ** 2, of the first trial


def test_a_whole_number_in_an_interval_of_fractions_is_trained_as_it_is_kept():
    code, _, err = searched("return {'error_percent': settings['x']}", "{x: 1}", "{x: {low: 0.5, high: 2.0}}", trials=1)
    assert code == 0, err
    assert trained() == {"1.0"}


def test_another_direction_begins_another_study_and_the_first_goes_on_after_it():
    best = []
    for lower in ("true", "false", "true"):
        more = f"  objective: held_out\n  lower_is_better: {lower}"
        function = "return {'error_percent': 1.0, 'held_out': settings['x']}"
        code, out, err = searched(function, "{x: 3}", "{x: [1, 2, 3, 4, 5]}", trials=20, more=more)
        assert code == 0, err
        best.append((out["studies"][0]["best"][0]["values"][0], out["studies"][0]["study"]))
    assert [value for value, _ in best] == [1.0, 5.0, 1.0]
    assert best[0] == best[2]
    assert best[0][1] != best[1][1]


@pytest.mark.parametrize(
    ("own", "values", "first"),
    [
        ("1", "[true, 2]", None),  # 1 is none of the values
        ("0", "[2, false]", None),
        ("true", "[true, 1]", "true"),
        ("1", "[true, 1]", "1"),
        ("1.0", "[1, 2]", "1"),
        ("null", "[1, 2]", None),
    ],
)
def test_true_is_not_1_in_a_list(own, values, first):
    searched("return {'error_percent': 1.0}", f"{{x: {own}}}", f"{{x: {values}}}", trials=1)
    study = read_sweep(Path("s.yaml")).search.studies[0]
    labels = study.own_labels()
    assert (labels is None) == (first is None)
    if labels:
        assert json.dumps(study.trial_run(labels, 0).settings["x"]) == first
        assert trained() == {first}


def test_a_list_of_alike_values_keeps_each_and_refuses_a_value_that_is_there_twice():
    code, out, err = searched(
        "return {'error_percent': ['1', 1, True].index(settings['x']) if settings['x'] is not True else 2.0}",
        "{x: 1}", "{x: ['1', true, 1]}", trials=20,
    )  # fmt: skip
    assert code == 0, err
    assert out["studies"][0]["best"][0]["values"] == [0.0]
    assert next(iter(read_sweep(Path("s_best.yaml")).runs.values())).settings["x"] == "1"
    assert trained() == {"1", "true"}
    code, _, err = searched("return {'error_percent': 1.0}", "{x: 1}", "{x: [1, true, 1.0]}")
    assert code == 2
    assert "s.yaml:9: search.space: settings.x must have at least two values, each once, got [1, true, 1.0]" in err


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_an_objective_that_is_not_finite_counts_as_diverged_in_this_launch_and_after_a_kill(value):
    function = f"return {{'error_percent': 1.0, 'held_out': {value} if settings['x'] == 1 else settings['x']}}"
    function = function.replace("nan", "math.nan").replace("inf", "math.inf")
    more = "  objective: held_out\n  lower_is_better: true"
    told = f"mine/-/mine/trial=0 seed 100: held_out is {value}; the trial counts as diverged"
    for _ in range(2):  # then from the ledger, which is all that a killed launch leaves of a run
        code, out, err = searched(function, "{x: 1}", "{x: [1, 2, 3]}", trials=20, more=more)
        assert code == 0, err
        assert told in err.splitlines()
        (study,) = out["studies"]
        assert (study["n_pruned"] > 0, study["n_failed"], study["own"]) == (True, 0, None)
        assert study["best"][0]["values"] == [2.0]
        Path(".l2t/s/study.journal").unlink()


def test_an_objective_that_is_nowhere_logged_is_told_also_of_runs_in_the_ledger():
    for _ in range(2):
        more = "  objective: held_ou\n  lower_is_better: true"
        code, _, err = searched(
            "return {'error_percent': 1.0, 'held_out': math.nan}", "{x: 1}", "{x: [1, 2]}", more=more
        )
        assert code == 2
        assert "must be what the runs log, got 'held_ou'; they log " in err
        assert "did you mean held_out?" in err


def test_a_study_without_a_result_leaves_the_others_theirs():
    function = "def train(settings, seed, context):\n    if settings['m'] == 'bad': raise ValueError('no')\n"
    function += "    return {'error_percent': abs(settings['x'] - 1.5)}\n"
    code, out, err = searched(function, "{m: [good, bad], x: 1}", "{x: {low: 1.0, high: 2.0}}", trials=3)
    assert code == 1, err
    good, bad = out["studies"]
    assert (good["n_complete"], bad["n_complete"], bad["n_failed"]) == (3, 0, 3)
    law = "no trial of 3 has all its seeds, so the cell has no best settings"
    assert f"mine/-/bad: {law}; see why they failed, and launch with --retry-failed" in err.splitlines()
    assert "the other cells' best settings: s_best.yaml; run it: " in err
    best = read_sweep(Path("s_best.yaml"))
    assert {*best.cells.values()} == {"mine/-/good/tuned"}
    assert {run.settings["x"] for run in best.runs.values()} == {good["best"][0]["settings"]["settings.x"]}
    assert call(sweep.main, "s.yaml", "--backend", "inline", "--set", "search.run_best=true")[0] == 1
    assert Ledger("s_best").entries() == [e for e in Ledger("s_best").entries() if e.experiment == "s"]  # not run

    Path("s_best.yaml").unlink()
    function = "return {'error_percent': math.nan}"
    code, out, err = searched(function, "{m: [good, bad], x: 1}", "{x: {low: 1.0, high: 2.0}}", trials=3)
    assert code == 1, err
    assert len([line for line in err.splitlines() if line.endswith("their runs diverged: change the space")]) == 2
    assert "no best settings are written" in err
    assert not Path("s_best.yaml").exists()


def test_values_that_wait_are_of_the_lists_type_too():
    searched("raise ValueError('no')", "{x: '1'}", "{x: ['1', '2']}", trials=1)
    search = read_sweep(Path("s.yaml")).search
    (spec,) = search.studies
    storage = open_storage("empty.journal", write=True)
    name = study_name("s", spec, search, storage)
    TunedStudy(name, spec, search, storage)  # its first trial waits
    assert study_name("s", spec, search, storage) == name
    number = replace(spec, space=(replace(spec.space[0], values={1: 1, 2: 2}),))
    assert study_name("s", number, search, storage) != name


@pytest.mark.parametrize("own", ["a", "'1'"])
def test_values_of_another_type_begin_another_study(own):
    names = []
    for values in ("['1', '2']", "[1, 2]", "['1', '2']"):
        code, out, err = searched("return {'error_percent': float(settings['x'])}", f"{{x: {own}}}", f"{{x: {values}}}")
        assert code == 0, err
        names.append(out["studies"][0]["study"])
    assert names[0] == names[2] != names[1]
    assert trained() == {"1", "2"}


def the_study():
    storage = open_storage(".l2t/s/study.journal", write=True)
    return optuna.load_study(study_name=None, storage=storage)


def test_a_trial_of_other_settings_that_was_added_by_hand_is_neither_the_best_nor_in_the_manifest():
    body = "return {'error_percent': settings['x']}"
    space = "{x: {low: 0.0, high: 1.0}}"
    _, out, _ = searched(body, "{x: 0.5}", space, trials=2)
    (before,) = out["studies"][0]["best"]
    lr = optuna.distributions.FloatDistribution(0, 1)
    the_study().add_trial(optuna.trial.create_trial(value=-5.0, params={"lr": 0.1}, distributions={"lr": lr}))
    code, out, err = searched(body, "{x: 0.5}", space, trials=3)
    assert code == 0, err
    assert out["studies"][0]["best"] == [before]


def test_a_value_that_is_not_in_the_list_and_was_queued_by_hand_is_told_and_the_study_goes_on():
    body, space = "return {'error_percent': {'a': 1.0, 'b': 2.0}[settings['x']]}", "{x: [a, b]}"
    _, first, _ = searched(body, "{x: a}", space, trials=1)
    the_study().enqueue_trial({"settings.x": "typo"})
    code, _, err = searched(body, "{x: a}", space, trials=3)
    assert (code, "must have values of the search's space, got 'typo' not in ('a', 'b')" in err) == (2, True), err
    code, out, err = searched(body, "{x: a}", space, trials=3)
    assert code == 0, err
    assert out["studies"][0]["study"] == first["studies"][0]["study"]
    assert out["studies"][0]["best"][0]["trial"] == 0
