"""Which runs a search trains next: the next seed of every open trial, then new trials, study by study.

A run whose key is in the ledger already, or that another trial is training, is not trained again.
"""

import difflib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import optuna

from l2t_ray.errors import InputError, say
from l2t_ray.ledger.entries import Entry, failures, finished, is_number
from l2t_ray.ledger.limits import safe_name
from l2t_ray.ledger.spool import Ended
from l2t_ray.run import AnyRun
from l2t_ray.search.study import Trial, TunedStudy

if TYPE_CHECKING:
    from l2t_ray.sweepfile.search import Search, Study

FINISHED, DIVERGED = "finished", "diverged"


@dataclass
class Active:
    """A study whose trials are being trained."""

    spec: "Study"
    study: TunedStudy
    n_left: int  # trials to begin
    ready: deque[Trial] = field(default_factory=deque)  # their next seed can be looked up or trained
    n_open: int = 0  # trials that have begun and not ended


class Trials:
    """Hands out the runs of a search, and takes their results.

    Args:
        search: of the sweep file.
        studies: each with its cell.
        entries: of the ledger, with the objectives among their metrics.
        retry_failed: whether failed trials and runs are tried again.
        read: gives all last values of a finished run of the ledger, also those that are not finite.
        say: receives a line for each objective that is not finite.

    Attributes:
        cells: key to cell, of all runs so far.
        studies: key to study, likewise.
        runs: by key.
    """

    def __init__(
        self,
        search: "Search",
        studies: Iterable[tuple["Study", TunedStudy]],
        entries: Iterable[Entry],
        *,
        retry_failed: bool = False,
        read: Callable[[str], Mapping[str, float]] = lambda run_id: {},
        say: Callable[[str], object] = say,
    ) -> None:
        self._search, self._entries = search, list(entries)
        self._retry_failed, self._read, self._say = retry_failed, read, say
        self.cells: dict[str, str] = {}
        self.studies: dict[str, str] = {}
        self.runs: dict[str, AnyRun] = {}
        self._known: dict[str, tuple[str, Mapping[str, float]]] = {}
        self._waiting: dict[str, list[tuple[Active, Trial]]] = defaultdict(list)
        keys = {entry.key for entry in self._entries if entry.kind == "run"}
        for key, (outcome, _) in failures(self._entries, keys).items():
            if outcome == DIVERGED or not retry_failed:  # training it again would diverge again
                self._known[key] = outcome, {}
        self._done = finished(self._entries, keys)
        self._known.update({key: (FINISHED, entry.metrics) for key, entry in self._done.items()})
        self._active = deque(self._activate(spec, study) for spec, study in studies)

    @property
    def n_further(self) -> int:
        """Runs still to train if no trial is pruned."""
        n_seeds = len(self._search.seeds)
        return sum(
            active.n_left * n_seeds + sum(n_seeds - len(trial.values) for trial in active.ready)
            for active in self._active
        ) + sum(n_seeds - len(trial.values) - 1 for waiting in self._waiting.values() for _, trial in waiting)

    def next_runs(self, n: int) -> list[AnyRun]:
        """At most n runs to train now; fewer while others wait for results, none at the end."""
        found: list[AnyRun] = []
        idle = 0
        while len(found) < n and idle < len(self._active):
            active = self._active[0]
            self._active.rotate(-1)
            run = self._next_of(active)
            idle = idle + 1 if run is None else 0
            found += [] if run is None else [run]
        return found

    def ended(self, run: AnyRun, ended: Ended) -> None:
        """Takes the result of a run of `next_runs`."""
        values = {safe_name(name): points[-1][1] for name, points in ended.metrics.items() if points}
        self._known[run.key] = (ended.status, {**values, "wall_s": ended.wall_s})
        for active, trial in self._waiting.pop(run.key, []):
            active.ready.append(trial)

    def _activate(self, spec: "Study", study: TunedStudy) -> Active:
        active = Active(spec, study, 0)
        n_retried = study.retry_failed() if self._retry_failed else len(study.study.user_attrs.get("retried", []))
        for trial in study.take_over():
            active.ready.append(trial)
            active.n_open += 1
        states = [trial.state for trial in study.study.get_trials(deepcopy=False)]
        n_begun = len(states) - states.count(optuna.trial.TrialState.WAITING)
        active.n_left = max(0, self._search.settings.trials + n_retried - n_begun)
        return active

    def _next_of(self, active: Active) -> AnyRun | None:
        while True:
            if active.ready:
                trial = active.ready.popleft()
            elif active.n_left and active.n_open < self._search.settings.parallel:
                trial = active.study.begin()
                active.n_left, active.n_open = active.n_left - 1, active.n_open + 1
            else:
                return None
            run = self._advance(active, trial)
            if run is not None:
                return run

    def _advance(self, active: Active, trial: Trial) -> AnyRun | None:
        """Takes all known results; returns the run that the trial needs next, unless another trial trains it."""
        while len(trial.values) < len(self._search.seeds):
            run = active.spec.trial_run(trial.labels, self._search.seeds[len(trial.values)])
            self.runs.setdefault(run.key, run)
            self.cells.setdefault(run.key, active.spec.trial_cell(trial.number))
            self.studies.setdefault(run.key, active.spec.name)
            if run.key not in self._known:
                is_training = run.key in self._waiting
                self._waiting[run.key].append((active, trial))
                return None if is_training else run
            outcome, values = self._known[run.key]
            if outcome != FINISHED:
                self._end(active, trial, pruned=outcome == DIVERGED, failed=outcome != DIVERGED)
                return None
            found = self._objectives(run, values)
            odd = [f"{name} is {value}" for name, value in found.items() if not is_number(value)]
            if odd:
                cell = active.spec.trial_cell(trial.number)
                self._say(f"{cell} seed {run.seed}: {', '.join(odd)}; the trial counts as diverged")
                self._end(active, trial, pruned=True)
                return None
            is_bad = active.study.saw(trial, tuple(found.values()))
            if is_bad and len(trial.values) < len(self._search.seeds):
                self._end(active, trial, pruned=True)
                return None
        self._end(active, trial)
        return None

    def _end(self, active: Active, trial: Trial, *, pruned: bool = False, failed: bool = False) -> None:
        active.study.end(trial, pruned=pruned, failed=failed)
        active.n_open -= 1

    def _objectives(self, run: AnyRun, values: Mapping[str, float]) -> dict[str, float]:
        names = [safe_name(name) for name in self._search.objectives]
        if run.key in self._done and not values.keys() >= {*names}:  # an entry lacks what is not finite
            values = {**self._read(self._done[run.key].run_id), **values}
        for name in names:
            if name not in values:
                known = ", ".join(n for n in values if self._search.own or n.startswith("validation_")) or "none"
                rule = f"search.objective must be what the runs log, got {name!r}; they log {known}"
                closest = difflib.get_close_matches(name, values, 1)
                raise InputError(f"{rule}; did you mean {closest[0]}?" if closest else rule)
        return {name: values[name] for name in names}
