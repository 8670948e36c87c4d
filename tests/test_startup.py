"""What a command imports before it answers: nothing heavy for help, refusals, plans and the status."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.support.places import ROOT

HEAVY = {"torch", "torchvision", "ray", "mlflow", "optuna", "pandas", "scipy", "sqlalchemy", "matplotlib"}
WRONG = "sweep: x\ngrid:\n- {data: {name: digits, samples_per_class: 1}, method: scrach, seed: 0}\n"
RIVALS = """
sweep: x
grid:
- data: {name: digits, samples_per_class: 1}
  method: [scratch, finetune, hint, attention_transfer, distillation, factor_transfer, spottune]
  options: {rate: -1.0}
  source: {weights: missing.pt}
  seed: 0
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """A working folder with the shipped files and two wrong ones."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "sweeps", "sweeps")
    (tmp_path / "wrong.yaml").write_text(WRONG)
    (tmp_path / "rivals.yaml").write_text(RIVALS)


def imported(*words):
    """The exit code, and the heavy packages that a command has imported."""
    command = [sys.executable, "-X", "importtime", "-m", *words]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    names = {
        line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines() if "import time:" in line
    }
    return done.returncode, names & (HEAVY | {"pydantic"})


@pytest.mark.parametrize("module", ["l2t_ray.sweep", "l2t_ray.pretrain", "l2t_ray.offline", "analysis.stats"])
def test_help_imports_the_standard_library_alone(module):
    assert imported(module, "--help") == (0, set())


@pytest.mark.parametrize("module", ["l2t_ray.sweep", "analysis.stats"])
def test_a_file_of_the_working_folder_is_not_taken_for_a_module(module, tmp_path):
    for name in ("argparse", "random", "typing", "yaml"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError({name!r})")
    assert imported(module, "--help")[0] == 0
    assert imported("l2t_ray.sweep", "sweeps/quickstart.yaml", "--status")[0] == 0


def test_ctrl_c_during_the_imports_is_one_line():
    code = "import sys; sys.argv = ['-m']; import l2t_ray; raise KeyboardInterrupt"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.stderr == "interrupted; launch again to go on\n"
    assert done.returncode == -signal.SIGINT


def test_the_statistics_of_a_checkout_use_its_own_modules(tmp_path):
    for name in ("l2t_ray", "analysis"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-v", "-m", "analysis.stats", "--help"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert f"{tmp_path}/l2t_ray" in done.stderr
    assert f"{ROOT}/l2t_ray" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["l2t_ray.sweep", "nothing.yaml"], id="no file"),
        pytest.param(["l2t_ray.sweep", "wrong.yaml"], id="a method that does not exist"),
        pytest.param(["l2t_ray.sweep", "rivals.yaml"], id="an option and weights of the rivals"),
        pytest.param(["l2t_ray.sweep", "sweeps/quickstart.yaml", "--where", "metod=ufm"], id="--where"),
        pytest.param(["l2t_ray.sweep", "sweeps/quickstart.yaml", "--set", "training.lr=x"], id="--set"),
        pytest.param(["l2t_ray.offline", "wrong.yaml"], id="offline"),
        pytest.param(["l2t_ray.pretrain", "wrong.yaml"], id="a sweep given to pretrain"),
    ],
)
def test_a_refusal_imports_nothing_heavy(words):
    code, names = imported(*words)
    assert (code, names & HEAVY) == (2, set())


def test_a_status_imports_nothing_heavy():
    code, names = imported("l2t_ray.sweep", "sweeps/quickstart.yaml", "--status")
    assert (code, names & HEAVY) == (0, set())


def test_a_plan_needs_no_torch():
    code, names = imported("l2t_ray.sweep", "sweeps/quickstart.yaml", "--plan", "--fleet", "cpu:2")
    assert (code, names & HEAVY) == (0, {"scipy"})  # the power of so many seeds
