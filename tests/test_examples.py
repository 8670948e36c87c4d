"""The worked examples of a trainer of one's own: each is run as its first line says, and reported."""

import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from analysis.report.answer import answer
from analysis.report.evidence import gather
from l2t_ray import sweep
from tests.support.launches import call
from tests.support.places import ROOT

NAMES = sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_dir())
SWEEPS = {"lightning": "lightning_digits"}


@pytest.fixture
def example(request, tmp_path, monkeypatch):
    """A copy of the example's folder as the working folder."""
    name = request.param
    if name == "lightning" and importlib.util.find_spec("lightning") is None:
        pytest.skip("needs lightning: pip install lightning")
    shutil.copytree(ROOT / "examples" / name, tmp_path / name)
    monkeypatch.chdir(tmp_path / name)
    return name


def launch(name, *arguments):
    return call(sweep.main, f"{name}.yaml", "--backend", "inline", *arguments)


def test_every_example_is_known():
    assert NAMES == ["classifiers", "command", "lightning"]


@pytest.mark.filterwarnings("ignore")  # of Lightning and what it imports
@pytest.mark.parametrize("example", NAMES, indirect=True)
def test_an_example_runs_twice_with_one_training(example):
    code, out, err = launch(example, "--where", "seed=0", "--where", "seed=1")
    assert code == 0, err
    assert "diverged" in out
    again = launch(example, "--where", "seed=0", "--where", "seed=1")
    assert again[0] == 0
    assert "nothing to train" in again[2]


@pytest.mark.parametrize("example", ["classifiers"], indirect=True)
def test_thirty_seeds_of_classifiers_are_compared_by_their_error(example):
    code, _, err = launch(example)
    assert code == 0, err
    evidence = gather(["classifiers"])
    assert len(evidence.results.runs) == 180
    assert evidence.question.words == ("worse", "better")
    assert evidence.cells[0].condition.factors.axis == "n_samples"
    # scikit-learn itself, without l2t: mean error over 30 seeds at 10 samples is 7.42 for logistic, 11.88 for forest
    means = {(cell.method, cell.condition.samples_per_class): cell.mean.mean for cell in evidence.cells}
    assert means["logistic", "10"] == pytest.approx(direct("logistic", 10))
    assert means["logistic", "10"] < means["forest", "10"]
    assert "forest" in answer(evidence)[0]
    assert "worse than logistic" in " ".join(answer(evidence))


def direct(model, n_samples):
    """The same error without l2t-ray."""
    spec = importlib.util.spec_from_file_location("classify_directly", Path("classify.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    settings = module.Settings(model=model, n_samples=n_samples)
    return sum(module.train(settings, seed, SimpleNamespace(threads=1))["error_percent"] for seed in range(30)) / 30
