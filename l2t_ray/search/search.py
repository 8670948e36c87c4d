"""The search of a sweep: its studies in Optuna's storage, the launch that trains their trials, the best settings."""

import functools
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from l2t_ray.errors import LedgerUnavailableError, count, duration, mask
from l2t_ray.files import HOME
from l2t_ray.launch.backlog import State
from l2t_ray.launch.live.tally import Launched
from l2t_ray.launch.options import RAY, Options
from l2t_ray.launch.placement.devices import local_fleet
from l2t_ray.launch.placement.plan import Plan
from l2t_ray.launch.session import train
from l2t_ray.ledger.entries import Entry
from l2t_ray.ledger.reader import Reader, open_ledger
from l2t_ray.run import AnyRun
from l2t_ray.search.study import DIVERGED, TunedStudy, open_storage, read_trials, storage_address, study_name
from l2t_ray.search.summary import Best, StudySummary
from l2t_ray.search.trials import Trials
from l2t_ray.sweepfile.write import Choice, check_best_file, write_best

if TYPE_CHECKING:
    from l2t_ray.ledger.ledger import Ledger
    from l2t_ray.sweepfile.read import Sweep
    from l2t_ray.sweepfile.search import Study

States = optuna.trial.TrialState
REMEDY = "their runs diverged: change the space"


class Searching:
    """The search of a sweep, with its storage.

    Args:
        sweep: with a search.
        write: whether this process may create the storage: it holds the sweep's lock.

    Attributes:
        address: of the storage, without its password.
    """

    def __init__(self, sweep: "Sweep", *, write: bool) -> None:
        assert sweep.search is not None
        self.sweep, self.search = sweep, sweep.search
        address = storage_address(self.search, HOME / sweep.name)
        self.address = mask(address)
        self._storage = open_storage(address, write=write)
        studies = self.search.studies
        self._names = {study.name: study_name(sweep.name, study, self.search, self._storage) for study in studies}

    def state(self, ledger: "Ledger", entries: list[Entry]) -> State:
        """The runs that the search may still train, as examples: only their number and shapes are right."""
        runs: dict[str, AnyRun] = {}
        cells: dict[str, str] = {}
        for study in self.search.studies:
            n_left, n_unlike = self._n_runs_left(study), max((len(d.values) for d in study.space), default=0) or 1
            for turn in range(
                n_unlike
            ):  # every value of a list once: they may need other weights and have other shapes
                example = study.trial_run({d.name: d.example(turn) for d in study.space}, 0)
                for run in example.with_seeds(range(turn, n_left, n_unlike)):
                    runs[run.key], cells[run.key] = run, study.name
        return State(replace(self.sweep, runs=runs, cells=cells), ledger, entries, {}, {}, [*runs])

    @property
    def n_final_runs(self) -> int:
        """Runs of the sweep that the search writes at the end; with two objectives at least so many."""
        return sum(len(study.seeds) for study in self.search.studies) * (2 if self.search.settings.untuned else 1)

    def announce(self, plan: Plan, n_left: int) -> str:
        """The first line of a launch; at most `n_left` runs are to be trained."""
        search = self.search
        ended = sum(s.n_complete + s.n_pruned + s.n_failed for s in self.summaries())
        n_studies, n_trials = len(search.studies), search.settings.trials
        head = f"{self.sweep.name}: {n_studies} stud{'y' if n_studies == 1 else 'ies'} of {count(n_trials, 'trial')}"
        head += f" with {count(len(search.seeds), 'seed')}, {count(ended, 'trial')} ended"
        if not n_left:
            return f"{head}, nothing to search"
        wall = "time unknown" if plan.wall_s is None else f"at most about {duration(plan.wall_s)}"
        work = f"at most {count(n_left, 'run')} to train, {next(iter(plan.shares))}, {wall}"
        return f"{head}, {work}; studies in {self.address}"

    def train(
        self,
        ledger: "Ledger",
        entries: list[Entry],
        options: Options,
        progress_file: Path,
        say: Callable[[str], None],
        *,
        retry_failed: bool,
    ) -> Launched | None:
        """Trains trials until every study has its number; returns None if there was nothing to do."""
        check_best_file(self.search.best_file)
        studies = [
            (study, TunedStudy(self._names[study.name], study, self.search, self._storage))
            for study in self.search.studies
        ]

        @functools.cache
        def reader() -> Reader:
            opened, _ = open_ledger(ledger.uri, ledger.folder)
            opened.entries()  # a server's details are of these
            return opened

        def read(run_id: str) -> Mapping[str, float]:
            return reader().details([run_id])[run_id].metrics

        trials = Trials(self.search, studies, entries, retry_failed=retry_failed, read=read, say=say)
        state = self.state(ledger, entries)
        lanes = state.lanes(local_fleet(), alone=options.backend != RAY)
        say(self.announce(state.plan(lanes), trials.n_further))
        launched = train(state, lanes, options, progress_file, say, feed=trials) if trials.n_further else None
        try:
            entries = ledger.entries()
            ledger.write_manifest(self.wanted(entries), entries)
        except LedgerUnavailableError as error:  # the results wait in the spool, the trials are in Optuna's storage
            say(f"the manifest of the trials' runs was not written: {error}")
        return launched

    def wanted(self, entries: Sequence[Entry]) -> "Sweep":
        """The trials' runs that the ledger has, as a sweep whose cells are the trials; for the manifest."""
        known = {entry.key for entry in entries if entry.kind == "run"}
        runs: dict[str, AnyRun] = {}
        cells: dict[str, str] = {}
        for study in self.search.studies:
            for trial in self._trials(study):
                if not _is_whole(trial, study):
                    continue
                for seed in self.search.seeds:
                    run = study.trial_run(trial.params, seed)
                    if run.key in known:
                        runs.setdefault(run.key, run)
                        cells.setdefault(run.key, study.trial_cell(trial.number))
        return replace(self.sweep, runs=runs, cells=cells)

    def summaries(self) -> list[StudySummary]:
        """The state of every study, in the grid's order, from Optuna's storage alone."""
        return [self._summary(study) for study in self.search.studies]

    def write_best(self) -> tuple[Path | None, list[str]]:
        """Writes the sweep file with the best settings.

        Returns:
            The file, None where no study has any; and a line for each study that has none.
        """
        choices, problems = [], []
        for study, summary in zip(self.search.studies, self.summaries(), strict=True):
            labels = {trial.number: trial.params for trial in self._trials(study)}
            if not summary.best:
                law = f"no trial of {summary.n_trials} has all its seeds, so the cell has no best settings"
                remedy = "see why they failed, and launch with --retry-failed" if summary.n_failed else REMEDY
                problems.append(f"{study.name}: {law}; {remedy}")
            for best in summary.best:
                reached = ", ".join(f"{n} {v:.4g}" for n, v in zip(self.search.objectives, best.values, strict=True))
                told = f"trial {best.trial} of {summary.n_trials}, {reached}, mean of {len(self.search.seeds)} seeds"
                name = {} if len(summary.best) == 1 else {"name": f"tuned trial={best.trial}"}
                choices.append(Choice(study, labels[best.trial], told, **name))
        if not choices:
            return None, problems
        write_best(self.sweep, choices, self.search.best_file, untuned=self.search.settings.untuned)
        return self.search.best_file, problems

    def draw(self, folder: Path, say: Callable[[str], None]) -> list[Path]:
        """Writes Optuna's figures of every study and returns the files; a study that cannot be drawn is reported."""
        from l2t_ray.search.summary import draw

        files = []
        for study in self.search.studies:
            if any(trial.state == States.COMPLETE for trial in self._trials(study)):
                try:
                    files += draw(self._study(study), study.name, self.search.objectives, folder)
                except Exception as error:  # a picture must not take the search's result along
                    say(f"{study.name}: its figures cannot be drawn: {type(error).__name__}: {error}")
        return files

    def _trials(self, study: "Study") -> Sequence[Any]:
        return read_trials(self._storage, self._names[study.name])

    def _study(self, study: "Study") -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.load_study(study_name=self._names[study.name], storage=self._storage)

    def _n_runs_left(self, study: "Study") -> int:
        states = Counter(trial.state for trial in self._trials(study))
        n_begun = sum(n for state, n in states.items() if state != States.WAITING)
        n_to_begin = max(0, self.search.settings.trials + self._n_retried(study) - n_begun)
        return (n_to_begin + states[States.RUNNING]) * len(self.search.seeds)

    def _n_retried(self, study: "Study") -> int:
        return len(self._study(study).user_attrs.get("retried", [])) if self._trials(study) else 0

    def _summary(self, study: "Study") -> StudySummary:
        trials = self._trials(study)
        states = Counter(trial.state for trial in trials)
        n_diverged = sum(
            DIVERGED in trial.user_attrs for trial in trials
        )  # with two objectives they replace pruned trials
        own = study.own_labels()
        first = [t.values[0] for t in trials if t.state == States.COMPLETE and own is not None and t.params == own]
        best: Sequence[Any] = []
        if whole := [t for t in trials if t.state == States.COMPLETE and _is_whole(t, study)]:
            known = optuna.create_study(directions=[f"{mode}imize" for mode in self.search.modes])
            known.add_trials(whole)
            best = [known.best_trial] if len(self.search.objectives) == 1 else known.best_trials
            best = [whole[trial.number] for trial in best]
        return StudySummary(
            cell=study.name,
            study=self._names[study.name],
            n_trials=self.search.settings.trials,
            n_complete=states[States.COMPLETE],
            n_pruned=states[States.PRUNED] + n_diverged,
            n_failed=states[States.FAIL] - n_diverged - self._n_retried(study),
            n_running=states[States.RUNNING],
            own=first[0] if first else None,
            best=tuple(Best(trial.number, tuple(trial.values), dict(trial.params)) for trial in best),
        )


def _is_whole(trial: Any, study: "Study") -> bool:
    """Whether a trial has every setting of the space: not after a kill, nor where it was added by hand."""
    return {*trial.params} >= {dimension.name for dimension in study.space}
