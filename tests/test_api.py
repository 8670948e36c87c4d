"""The public API: small, documented, and imported when it is first used."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest

import analysis
import l2t_ray
from tests.support.places import ROOT
from tests.support.waiting import wait_for

PAGE = (ROOT / "docs" / "api.md").read_text()


@pytest.mark.parametrize("package", [l2t_ray, analysis])
def test_every_public_name_exists_and_is_documented(package):
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert re.search(rf"`[^`]*\b{name}\b", PAGE), name
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing


def test_importing_the_packages_imports_no_library():
    heavy = "('torch', 'pydantic', 'numpy', 'pandas')"
    code = f"import sys, l2t_ray, analysis; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


QUICK = ["method=scratch", "data.samples_per_class=1", "seed=0"]


@pytest.fixture
def quickstart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "sweeps", "sweeps")


def test_a_single_run_has_a_single_outcome_and_loads_what_it_needs(quickstart):
    (run,) = l2t_ray.read_sweep("sweeps/quickstart.yaml", overrides=["training.epochs=1"], where=QUICK).runs.values()
    outcome = l2t_ray.train(run)
    assert (outcome.key, outcome.status) == (run.key, "finished")
    assert [one.metrics for one in l2t_ray.train([run])] == [outcome.metrics]


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ({"fleet": "h200:2", "price_per_hour": 7}, ["--fleet", "h200:2", "--price-per-hour", "7"]),
        ({"backend": "inline"}, ["--backend", "inline"]),
        ({"backend": "slurm"}, ["--backend", "slurm"]),
        ({"backend": "slurm", "fleet": "h100:8"}, ["--backend", "slurm", "--fleet", "h100:8"]),
    ],
    ids=["fleet", "inline", "slurm", "slurm on a fleet"],
)
def test_a_plan_is_that_of_the_command(quickstart, capsys, asked, options):
    from l2t.command import main

    plan = l2t_ray.read_sweep("sweeps/quickstart.yaml", where=QUICK).plan(**asked)
    command = ["plan", "sweeps/quickstart.yaml", "--json", *options]
    assert main([*command, *(word for pair in QUICK for word in ("--where", pair))]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {name: printed[name] for name in asdict(plan)} == json.loads(json.dumps(asdict(plan)))


def test_a_refused_run_raises_with_every_problem(quickstart):
    (folder := Path("mine.yaml")).write_text(
        "sweep: x\ngrid:\n- {data: {name: digits, samples_per_class: 99}, method: scratch, seed: 0}\n"
    )
    with pytest.raises(l2t_ray.InputError, match="samples_per_class must be <= 87"):
        l2t_ray.read_sweep(folder)


def test_a_backend_that_does_not_exist_is_refused_first(quickstart):
    sweep = l2t_ray.read_sweep("sweeps/quickstart.yaml", where=QUICK)
    told = "backend must be one of ray, inline, slurm, got 'inlin'; did you mean inline?"
    with pytest.raises(l2t_ray.InputError, match=re.escape(told)):
        sweep.run(backend="inlin")
    assert not Path("mlflow.db").exists()


def test_results_are_ours_beside_a_script_with_an_analysis_of_its_own(tmp_path):
    (tmp_path / "analysis.py").write_text("raise ImportError('the wrong analysis')")
    (tmp_path / "mine.py").write_text("import l2t_ray; l2t_ray.results('x')")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "mine.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("l2t_ray.errors.InputError: ")
    assert "no ledger here" in done.stderr  # said by our reader


def test_another_analysis_that_was_imported_before_is_named(tmp_path, monkeypatch):
    other = ModuleType("analysis")
    other.__file__ = str(tmp_path / "analysis.py")
    monkeypatch.setitem(sys.modules, "analysis", other)
    with pytest.raises(l2t_ray.InputError, match=r"/analysis\.py: must not be named analysis .*; rename it"):
        l2t_ray.results("x")


OWN = """
import pathlib, time
def train(settings, seed, context):
    pathlib.Path("begun").touch()
    while pathlib.Path("waits").exists():
        time.sleep(0.01)
    return {"error": 1.0 + seed}
"""
OWN_FILE = """
sweep: mine
trainer: own.py
metric: {name: error, lower_is_better: true, margin: 0.1}
grid: [{settings: {m: x}, seed: [0, 1]}]
"""


@pytest.fixture
def mine(tmp_path, template, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(template, tmp_path)
    Path("own.py").write_text(OWN)
    Path("mine.yaml").write_text(OWN_FILE)
    return l2t_ray.read_sweep("mine.yaml")


def test_a_second_run_in_the_process_is_refused_and_stdout_comes_back(mine, capsys):
    Path("waits").touch()
    stdout, summaries = sys.stdout, []
    thread = threading.Thread(target=lambda: summaries.append(mine.run(backend="inline")))
    thread.start()
    wait_for(Path("begun").exists)
    with pytest.raises(l2t_ray.InputError, match="mine: must be the only sweep that runs in this process, got another"):
        mine.run(backend="inline")
    Path("waits").unlink()
    thread.join()
    assert [cell.n_finished for cell in summaries[0].cells] == [2]
    assert sys.stdout is stdout
    assert mine.run(backend="inline").cells == summaries[0].cells  # nobody else runs now
    assert sys.stdout is stdout


@pytest.mark.parametrize("use", [lambda sweep: sweep.plan("cpu:2"), lambda sweep: sweep.run(backend="inline")],
                         ids=["plan", "run"])  # fmt: skip
def test_a_sweep_is_refused_in_another_folder_than_it_was_read_in(mine, tmp_path, monkeypatch, use):
    (other := tmp_path / "other").mkdir()
    monkeypatch.chdir(other)
    rule = f"mine.yaml: must be planned and run in the folder in which it was read, {tmp_path}, got {other}; go back"
    with pytest.raises(l2t_ray.InputError, match=re.escape(rule)):
        use(mine)
    assert not [*other.iterdir()]
    monkeypatch.chdir(tmp_path)
    use(mine)
