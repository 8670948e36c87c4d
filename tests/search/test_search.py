"""A search from its command line: real Ray, real Optuna, real training on digits."""

import json
import os
import shutil
import signal
from pathlib import Path

import optuna
import pytest

from l2t_ray import sweep
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.search.search import Searching
from l2t_ray.search.study import open_storage, read_trials
from l2t_ray.sweepfile.read import read_sweep
from tests.support import launches
from tests.support.launches import OF_RAY, call, refuse_ray
from tests.support.marks import LONG
from tests.support.stepped import Steps
from tests.support.waiting import wait_for

pytestmark = [*OF_RAY, LONG]

FILE = """
sweep: tiny
run:
  data: {name: digits, samples_per_class: 2}
  target: {width: 0.125}
  training: {epochs: EPOCHS, batch_size: 16}
  record: {evaluations: 0}
grid:
  - method: [METHOD]
    seed: {from: 0, to: 1}
search:
  space:
    training.lr: {low: 0.001, high: 0.3, log: true}
    training.momentum: [0.5, 0.9]
  trials: TRIALS
  seeds: [100, 101]
  validation_per_class: 5
  pruner: none
  untuned: true
  run_best: true
execution: {retries: 1, checkpoint_s: 0, hang_s: 3600}
"""


@pytest.fixture
def folder(tmp_path, template, monkeypatch):
    """A working folder with a hostile name."""
    path = tmp_path / 'it\'s a "folder"'
    path.mkdir()
    shutil.copy(template, path)
    monkeypatch.chdir(path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return path


def write_sweep(folder, epochs=2, trials=3, head="", method="scratch"):
    text = FILE.replace("EPOCHS", str(epochs)).replace("TRIALS", str(trials)).replace("METHOD", method)
    (folder / "tiny.yaml").write_text(head + text)


def command(*arguments):
    """Exit code, stdout, stderr."""
    return call(sweep.main, "tiny.yaml", *arguments)


def entries(folder, kind="run"):
    return [entry for entry in Ledger("tiny", folder=folder).entries() if entry.kind == kind]


def stored(folder):
    """The study's trials, read in the way that another process would."""
    search = Searching(read_sweep(folder / "tiny.yaml"), write=False)
    (summary,) = search.summaries()
    return read_trials(open_storage(str(folder / ".l2t/tiny/study.journal"), write=False), summary.study)


def test_one_command_searches_writes_the_best_settings_and_runs_them_and_again_is_a_no_op(
    folder, ray_cluster, monkeypatch
):
    write_sweep(folder)
    code, out, err = command("--status", "--json")
    assert (code, json.loads(out)["studies"][0]["n_complete"]) == (0, 0)
    assert not (folder / ".l2t").exists()  # looking starts nothing

    code, out, err = command("--json")
    assert code == 0, err
    assert err.startswith("tiny: 1 study of 3 trials with 2 seeds, 0 trials ended, at most 6 runs to train, ")
    final = json.loads(out)
    assert (final["sweep"], final["n_finished"], len(final["cells"])) == ("tiny_best", 4, 2)

    code, out, _ = command("--status", "--json")
    (study,) = json.loads(out)["studies"]
    assert (code, study["n_complete"], study["is_done"]) == (0, 3, True)
    runs = entries(folder)
    of_trials = [entry for entry in runs if entry.experiment == "tiny"]
    assert len(of_trials) == 6
    assert all("test_accuracy_percent" not in entry.metrics for entry in of_trials)  # never looked at
    for trial in stored(folder):
        cell = f"digits/2/scratch/trial={trial.number}"
        values = [e.metrics["validation_accuracy_percent"] for e in of_trials if e.tags["cell"] == cell]
        assert len(values) == 2
        assert trial.value == pytest.approx(sum(values) / 2)
    best = max(stored(folder), key=lambda trial: trial.value)
    tuned = [run for key, run in read_sweep(Path("tiny_best.yaml")).runs.items() if run.seed == 0]
    assert best.params["training.lr"] in {run.training.lr for run in tuned}
    figures = {path.name for path in Path("report/tiny/search").iterdir()}
    assert {"digits_2_scratch_history.svg", "digits_2_scratch_slice.svg"} <= figures
    assert all(b"<svg" in path.read_bytes() for path in Path("report/tiny/search").iterdir())
    manifests = {entry.experiment: entry for entry in entries(folder, "manifest")}
    text = (folder / "mlartifacts/tiny" / manifests["tiny"].run_id / "artifacts/manifest.json").read_text()
    assert len(json.loads(text)["runs"]) == 6

    with monkeypatch.context() as patched:
        refuse_ray(patched)
        code, _, err = command()
    assert (code, len(entries(folder))) == (0, len(runs))
    assert "nothing to search" in err
    assert "tiny_best: 4 runs wanted, 4 finished, nothing to train" in err

    shutil.rmtree("report")
    Path("report").write_text("a file where the folder of figures must be")
    Path("tiny_best.yaml").unlink()
    monkeypatch.setenv("MPLBACKEND", "module://a_notebook_elsewhere")
    code, _, err = command("--set", "search.run_best=false")
    assert code == 0  # pictures fail alone
    assert "digits/2/scratch: its figures cannot be drawn: " in err
    assert len(read_sweep(Path("tiny_best.yaml")).runs) == 4

    write_sweep(folder, trials=4)  # a trial more continues the study
    plan = json.loads(command("--plan", "--json")[1])
    assert sum(cell["n_to_train"] for cell in plan["cells"]) == 2


def start(folder):
    alone = f"execution.threads={os.cpu_count()}"  # one training at a time
    settings = ("search.run_best=false", "execution.pack=1", alone)
    return launches.start(folder, "tiny.yaml", *(word for setting in settings for word in ("--set", setting)))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_search_goes_on_with_the_same_study_and_trains_no_run_twice(folder, number):
    steps = Steps(folder)
    (folder / "stepped.py").write_text(steps.method)
    write_sweep(folder, epochs=15, trials=4, head="methods: [stepped.py]\n", method="stepped")
    for _ in range(2):
        steps.allow(steps.n_taken + 45)  # a run has 30: one ends, and the next stands still
        process, before = start(folder), len(entries(folder))
        wait_for(lambda: len(entries(folder)) > before, process=process, told=launches.said(process), most_s=600)  # noqa: B023
        err = launches.end(process, number)
    assert optuna.trial.TrialState.RUNNING in {trial.state for trial in stored(folder)}
    if number == signal.SIGINT:
        assert "launch again to go on with the same studies" in err
        assert process.returncode == 1
    steps.allow(None)
    process = start(folder)
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    trials = stored(folder)
    assert [trial.state for trial in trials] == [optuna.trial.TrialState.COMPLETE] * 4
    assert len(optuna.study.get_all_study_names(open_storage(".l2t/tiny/study.journal", write=False))) == 1
    keys = [entry.key for entry in entries(folder) if entry.status == "FINISHED"]
    distinct = {(trial.params["training.lr"], trial.params["training.momentum"]) for trial in trials}
    assert len(keys) == len(set(keys)) == 2 * len(distinct)
