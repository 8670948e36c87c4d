"""Trials in real Optuna studies, fed with results as a launch feeds them: order, pruning, kills, nothing twice."""

import hashlib
import json
import math
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from l2t_ray.errors import InputError
from l2t_ray.ledger.entries import Entry
from l2t_ray.ledger.spool import Ended
from l2t_ray.search.search import Searching
from l2t_ray.search.study import TunedStudy, open_storage, read_trials, study_name
from l2t_ray.search.trials import Trials
from l2t_ray.sweepfile.read import read_sweep
from tests.support.marks import LONG

OBJECTIVE = "validation_accuracy_percent"
States = optuna.trial.TrialState
FILE = """
sweep: s
run: {data: {name: digits, samples_per_class: [1, 2]}, method: scratch, seed: 0}
grid: [{}]
search:
  space: SPACE
  trials: TRIALS
  seeds: {from: 100, to: LAST}
  validation_per_class: 20
  parallel: PARALLEL
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(space="{training.lr: {low: 0.001, high: 0.3, log: true}}", trials=4, last=102, parallel=2, more=""):
    text = FILE.replace("SPACE", space).replace("TRIALS", str(trials)).replace("LAST", str(last))
    Path("s.yaml").write_text(textwrap.dedent(text.replace("PARALLEL", str(parallel))) + more)
    return read_sweep(Path("s.yaml")).search


class Launch:
    """What a launch does with trials, without the training: `results` gives a run's validation accuracy."""

    def __init__(self, search, results, *, storage="study.journal", entries=(), **options):
        self.search, self.results = search, results
        self.storage = open_storage(storage, write=True)
        names = [study_name("s", spec, search, self.storage) for spec in search.studies]
        self.studies = [
            TunedStudy(n, spec, search, self.storage) for n, spec in zip(names, search.studies, strict=True)
        ]
        self.trials = Trials(search, list(zip(search.studies, self.studies, strict=True)), entries, **options)
        self.trained, self.running = [], []

    def go(self, n_results=10_000, width=4):
        """Trains until all has ended, or so many results have come."""
        while n_results:
            self.running += self.trials.next_runs(width - len(self.running))
            if not self.running:
                return self
            run = self.running.pop(0)
            self.trained.append(run)
            self.trials.ended(run, self.ended(run))
            n_results -= 1
        return self

    def ended(self, run):
        value = self.results(run)
        if isinstance(value, str):
            return Ended(run.key, value, "because")
        return Ended(run.key, "finished", "", {OBJECTIVE: [(1, 0.0), (2, value)], "train_loss": [(1, 1.0)]}, 2.0)

    def entries(self):
        """What the ledger would hold."""
        for run in self.trained:
            ended = self.ended(run)
            tags = {"kind": "run", "key": run.key, "outcome": ended.status}
            status = "FINISHED" if ended.status == "finished" else "FAILED"
            metrics = {OBJECTIVE: ended.metrics[OBJECTIVE][-1][1], "wall_s": 2.0} if ended.metrics else {}
            yield Entry(run.key, "s", status, 0, tags, metrics)

    def stored(self, index=0):
        return read_trials(self.storage, self.studies[index].study.study_name)


def accuracy(run):
    """Best at lr 0.03, a little better for some seeds."""
    return 90 - 10 * abs(math.log10(run.training.lr / 0.03)) + run.seed % 3


def test_every_study_gets_its_trials_whose_values_are_means_over_the_seeds():
    launch = Launch(read(), accuracy).go()
    assert len(launch.trained) == 2 * 4 * 3
    for index in (0, 1):
        trials = launch.stored(index)
        assert [trial.state for trial in trials] == [States.COMPLETE] * 4
        for trial in trials:
            drawn = (trial.params["training.lr"], index + 1)
            runs = [run for run in launch.trained if (run.training.lr, run.data.samples_per_class) == drawn]
            assert [run.seed for run in runs] == [100, 101, 102]
            assert trial.value == pytest.approx(sum(map(accuracy, runs)) / 3)
            assert set(trial.intermediate_values) == {1, 2, 3}
    assert launch.trials.n_further == 0
    assert {run.data.validation_per_class for run in launch.trained} == {20}


def test_the_first_trial_has_the_files_own_settings():
    assert Launch(read(), accuracy).go().stored()[0].params == {"training.lr": 0.1}


def test_no_more_trials_of_a_study_are_open_than_asked_for_and_studies_take_turns():
    launch = Launch(read(parallel=2), accuracy)
    first = launch.trials.next_runs(100)
    assert [run.data.samples_per_class for run in first] == [1, 2, 1, 2]  # each trial's first seed alone
    assert [run.seed for run in first] == [100] * 4
    assert launch.trials.next_runs(100) == []


def test_a_launch_that_was_killed_goes_on_with_its_trials_and_trains_nothing_twice():
    search = read(trials=6)
    first = Launch(search, accuracy).go(n_results=7)  # four more run when it is killed
    begun = [len(first.stored(index)) for index in (0, 1)]
    second = Launch(search, accuracy, entries=first.entries())
    assert [len(second.stored(index)) for index in (0, 1)] == begun
    second.go()
    keys = [run.key for run in [*first.trained, *second.trained]]
    assert len(keys) == len(set(keys)) == 2 * 6 * 3
    for index in (0, 1):
        assert [trial.state for trial in second.stored(index)] == [States.COMPLETE] * 6
    third = Launch(search, accuracy, entries=[*first.entries(), *second.entries()]).go()
    assert third.trained == []


def test_two_launches_that_share_a_study_are_told_so():
    """Each folder has a lock of its own, so the second takes over the trials that the first still trains."""
    first = Launch(read(), accuracy).go(n_results=3)
    second = Launch(read(), accuracy)
    first.go()
    with pytest.raises(InputError, match=r"^s/.*: a study must be of one launch at a time, got a trial that another"):
        second.go()


def test_a_trial_that_was_killed_while_it_was_drawn_is_drawn_to_its_end():
    search = read("{training.lr: {low: 0.001, high: 0.3, log: true}, training.momentum: [0.5, 0.9]}", trials=2)
    launch = Launch(search, accuracy)
    asked = launch.studies[0].study.ask()  # the first, with the file's own settings
    asked.suggest_float("training.lr", 0.001, 0.3, log=True)
    after = Launch(search, accuracy).go()
    assert after.stored()[0].params == {"training.lr": 0.1, "training.momentum": 0.9}
    assert [trial.state for trial in after.stored()] == [States.COMPLETE] * 2


def test_more_trials_continue_the_study_and_another_space_begins_another():
    Launch(read(trials=2), accuracy).go()
    more = Launch(read(trials=5), accuracy).go()
    assert len(more.stored()) == 5
    other = Launch(read("{training.lr: {low: 0.001, high: 0.2, log: true}}", trials=2), accuracy)
    assert len(other.stored()) == 1  # its first point waits
    assert len(optuna.study.get_all_study_names(other.storage)) == 4


def as_named_by_version_0_2(spec, search, labels):
    content = [spec.run.around_seed, labels, search.seeds, spec.validation_per_class, search.objectives]
    return f"s/{spec.name} {hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]}"


def test_a_study_keeps_its_name_of_version_0_2_unless_its_direction_has_changed():
    search = read(trials=2)
    space = [["training.lr", "float", 0.001, 0.3, True, None, []]]
    older = [as_named_by_version_0_2(spec, search, space) for spec in search.studies]
    assert [one.study.study_name for one in Launch(search, accuracy).go().studies] == older
    other = Launch(replace(search, lower_is_better=True), accuracy).go()
    names = [one.study.study_name for one in other.studies]
    assert not {*names} & {*older}
    assert other.studies[0].study.best_value == min(trial.value for trial in other.stored())
    assert [one.study.study_name for one in Launch(search, accuracy).studies] == older


def test_settings_drawn_twice_are_trained_once():
    search = read("{training.momentum: [0.5, 0.9]}", trials=8, parallel=8, more="  pruner: none\n")
    launch = Launch(search, lambda run: run.training.momentum).go()
    assert len(launch.trained) == len({run.key for run in launch.trained}) == 2 * 2 * 3
    assert [trial.state for trial in launch.stored()] == [States.COMPLETE] * 8


def test_a_diverged_trial_counts_as_a_bad_one_and_a_failed_one_for_nothing():
    def result(run):
        return "diverged" if run.training.lr > 0.05 else "failed" if run.seed == 102 else 50.0

    launch = Launch(read(), result).go()
    states = {trial.number: trial.state for trial in launch.stored()}
    assert states[0] == States.PRUNED  # lr 0.1, the file's own
    assert set(states.values()) == {States.PRUNED, States.FAIL}


def test_failed_trials_are_tried_again_on_request():
    failing = Launch(read(trials=3), lambda run: "failed").go()
    assert [trial.state for trial in failing.stored()] == [States.FAIL] * 3
    assert Launch(read(trials=3), accuracy, entries=failing.entries()).go().trained == []
    again = Launch(read(trials=3), accuracy, entries=failing.entries(), retry_failed=True).go()
    params = [trial.params for trial in again.stored()]
    assert [trial.state for trial in again.stored()] == [States.FAIL] * 3 + [States.COMPLETE] * 3
    assert params[:3] == params[3:]
    entries = [*failing.entries(), *again.entries()]
    assert Launch(read(trials=3), accuracy, entries=entries, retry_failed=True).go().trained == []


@pytest.mark.parametrize("pruner", ["median", "percentile", "asha", "hyperband", "wilcoxon"])
def test_pruners_end_bad_trials_seed_by_seed(pruner):
    search = read(trials=20, last=107, parallel=1, more=f"  pruner: {pruner}\n  sampler: random\n")
    launch = Launch(search, accuracy).go()
    states = [trial.state for trial in launch.stored()]
    assert set(states) == {States.COMPLETE, States.PRUNED}
    pruned = [trial for trial in launch.stored() if trial.state == States.PRUNED]
    assert all(len(trial.intermediate_values) < 8 for trial in pruned)
    best = max((t for t in launch.stored() if t.state == States.COMPLETE), key=lambda trial: trial.value)
    true = max(launch.stored(), key=lambda t: accuracy_of(t.params["training.lr"]))
    assert best.params == true.params  # the noiseless best one survives
    assert len(launch.trained) < 2 * 20 * 8


def accuracy_of(lr):
    return -abs(math.log10(lr / 0.03))


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "qmc", "nsgaii"])
def test_samplers_are_known_by_name(sampler):
    launch = Launch(read(trials=4, last=100, more=f"  sampler: {sampler}\n"), accuracy).go()
    assert len({trial.params["training.lr"] for trial in launch.stored()}) == 4


def test_two_objectives_have_a_front():
    launch = Launch(read(more="  second_objective: wall_s\n"), accuracy).go()
    assert all(len(trial.values) == 2 and trial.values[1] == 2.0 for trial in launch.stored())
    assert launch.studies[0].study.best_trials


def test_a_divergence_under_two_objectives_counts_for_nothing_and_is_not_tried_again():
    def result(run):
        return "diverged" if run.training.lr > 0.05 else accuracy(run)

    search = read(trials=3, more="  second_objective: wall_s\n")
    storage = ".l2t/s/study.journal"
    launch = Launch(search, result, storage=storage).go()
    assert launch.stored()[0].state == States.FAIL  # lr 0.1, the file's own: Optuna prunes none here
    again = Launch(search, result, storage=storage, entries=launch.entries(), retry_failed=True).go()
    assert again.trained == []
    assert len(again.stored()) == 3
    for summary in Searching(read_sweep(Path("s.yaml")), write=False).summaries():
        assert summary.n_pruned > 0  # told as under one objective, and no failure of the search
        assert (summary.n_failed, summary.is_done) == (0, True)


def test_a_trial_that_was_killed_beside_a_diverged_run_takes_it_as_it_is_also_when_failures_are_tried_again():
    first = Launch(read(trials=1), lambda run: "diverged").go()
    entries = [*first.entries()]
    Path("study.journal").unlink()
    second = Launch(read(trials=1), accuracy, entries=entries, retry_failed=True).go()
    assert second.trained == []
    assert [trial.state for trial in second.stored()] == [States.PRUNED]


def test_an_objective_that_no_run_logs_is_told_with_what_they_log():
    launch = Launch(read(more="  objective: validation_accuracy_class_9_percent\n"), accuracy)
    with pytest.raises(
        InputError, match="got 'validation_accuracy_class_9_percent'; they log validation_accuracy_perc"
    ):
        launch.go()


def test_half_a_line_at_the_journals_end_is_cut_off():
    Launch(read(trials=2), accuracy).go()
    with Path("study.journal").open("ab") as stream:
        stream.write(b'{"op_code": 4, "worker')
    launch = Launch(read(trials=3), accuracy).go()
    assert [trial.state for trial in launch.stored()] == [States.COMPLETE] * 3


def test_a_storage_that_does_not_answer_is_told_without_its_password():
    with pytest.raises(InputError, match="must be a journal file or a database that answers") as caught:
        open_storage("postgresql://me:planted-secret@127.0.0.1:1/optuna", write=True)
    assert "planted-secret" not in str(caught.value)


@pytest.mark.parametrize("write", [False, True])
def test_mlflows_database_is_refused_as_storage_and_left_as_it_is(template, tmp_path, write):
    file = shutil.copy(template, tmp_path)
    before = Path(file).read_bytes()
    with pytest.raises(InputError, match="must be another database than MLflow"):
        open_storage(f"sqlite:///{file}", write=write)
    assert Path(file).read_bytes() == before


def test_a_plan_makes_no_database():
    assert open_storage("sqlite:///studies.db", write=False) is None
    assert not Path("studies.db").exists()


@pytest.mark.slow
@LONG
def test_a_lock_that_a_killed_launch_has_left_on_the_journal_is_not_waited_for_in_vain(monkeypatch):
    code = (
        "import os, signal, sys; from l2t_ray.search.study import open_storage\n"
        "storage = open_storage('study.journal', write=True)\n"
        "storage._backend._lock.acquire(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert Path("study.journal.lock").is_symlink()
    monkeypatch.setattr(
        optuna.storages.journal.JournalFileSymlinkLock.__init__, "__defaults__", (3,)
    )  # seconds, not 30
    study = optuna.create_study(storage=open_storage("study.journal", write=True), study_name="next")
    assert study.trials == []
    assert not Path("study.journal.lock").is_symlink()


@pytest.mark.slow
@LONG
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_study_in_a_real_postgresql_goes_on_after_a_kill(postgresql):
    search, storage = read(trials=3), postgresql.database()
    first = Launch(search, accuracy, storage=storage).go(n_results=5)
    second = Launch(search, accuracy, storage=storage, entries=first.entries()).go()
    assert [trial.state for trial in second.stored()] == [States.COMPLETE] * 3
    keys = [run.key for run in [*first.trained, *second.trained]]
    assert len(keys) == len(set(keys)) == 2 * 3 * 3
    second.storage.engine.dispose()
    first.storage.engine.dispose()
