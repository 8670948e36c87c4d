"""Keys and results are those of earlier versions: whoever updates must not have to train anything again."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from analysis.results.runs import read_results
from l2t_ray.sweepfile.read import read_sweep
from tests.support.places import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
KEYS = json.loads((FIXTURES / "run_keys.json").read_text())  # of commit 6fae182; later cells were added as they came
QUICKSTART = json.loads((FIXTURES / "quickstart_accuracies.json").read_text())  # of the same commit
OTHERWISE = {  # as it was before it named the published weights
    "cifar10_small": ["source.weights=weights/resnet32-tinyimagenet.pt", "source.train=sweeps/tinyimagenet_source.yaml"]
}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """A working folder with the shipped files and nothing else."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "sweeps", "sweeps")


@pytest.mark.parametrize("name", KEYS)
def test_a_shipped_file_has_the_same_keys_and_cells(name):
    sweep = read_sweep(Path("sweeps", f"{name}.yaml"), overrides=OTHERWISE.get(name, ()))
    first_of_cell = {}
    for key in sweep.runs:
        first_of_cell.setdefault(sweep.cells[key], key)
    assert first_of_cell == KEYS[name]["first_of_cell"]
    lines = "".join(f"{key} {sweep.cells[key]}\n" for key in sweep.runs)
    assert (len(sweep.runs), hashlib.sha256(lines.encode()).hexdigest()) == (KEYS[name]["n_runs"], KEYS[name]["sha256"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    (torch.backends.cpu.get_cpu_capability(), torch.__version__) != (QUICKSTART["cpu"], QUICKSTART["torch"]),
    reason="another CPU or torch rounds otherwise",
)
def test_the_quick_starts_accuracies_are_bitwise_the_same():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for module, file in (("pretrain", "quickstart_source"), ("sweep", "quickstart")):
        command = [sys.executable, "-m", f"l2t_ray.{module}", f"sweeps/{file}.yaml"]
        subprocess.run(command, env=environment, check=True)
    runs = read_results(["quickstart"]).runs
    assert dict(zip(runs["key"], runs["test_accuracy_percent"], strict=True)) == QUICKSTART["test_accuracy_percent"]
