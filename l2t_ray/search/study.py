"""One Optuna study: a launch asks it for trials and tells it the result of every seed.

Optuna does not record which process runs a trial. Only one launch of a sweep runs at a time, so a launch takes over
every trial that a killed launch left RUNNING, with its settings and its results so far.

The storage is a database, or a journal file whose last line may be incomplete after a kill.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from l2t_ray.errors import InputError, mask
from l2t_ray.ledger.address import database_file
from l2t_ray.ledger.sql import is_ledger

if TYPE_CHECKING:
    from l2t_ray.sweepfile.search import Search, Study
    from l2t_ray.sweepfile.space import Dimension

DIVERGED = "diverged"  # marks a trial that Optuna stores as failed: it diverged, so it is not tried again
DIGITS = 8
REDUCTION = 2  # ASHA and Hyperband: after 1, 2, 4, ... seeds the better half of the trials goes on
STORAGE = "OPTUNA_STORAGE"
JOURNAL = "study.journal"
States = optuna.trial.TrialState
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass
class Trial:
    """A trial whose seeds are being trained."""

    asked: optuna.trial.Trial
    labels: Mapping[str, Any]  # the settings, as Optuna's storage has them
    values: list[tuple[float, ...]] = field(default_factory=list)  # one tuple a seed so far, one value an objective

    @property
    def number(self) -> int:
        """Optuna's number of the trial."""
        return int(self.asked.number)

    def means(self) -> tuple[float, ...]:
        """The mean of each objective over the seeds so far."""
        return tuple(sum(found) / len(found) for found in zip(*self.values, strict=True))


class TunedStudy:
    """The study of one cell of the grid."""

    def __init__(self, name: str, spec: "Study", search: "Search", storage: Any) -> None:
        self._spec, self._search, self._is_single = spec, search, len(search.objectives) == 1
        seed = int(hashlib.sha256(f"{name} {len(read_trials(storage, name))}".encode()).hexdigest()[:DIGITS], 16)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study = optuna.create_study(
                storage=storage,
                sampler=_sampler(search.settings.sampler, seed),
                pruner=_pruner(search.settings.pruner if self._is_single else "none", len(search.seeds)),
                study_name=name,
                directions=[f"{mode}imize" for mode in search.modes],
                load_if_exists=True,
            )
        if not self.study.get_trials(deepcopy=False) and (own := spec.own_labels()) is not None:
            self.study.enqueue_trial(own)

    def begin(self) -> Trial:
        """A new trial with the settings that Optuna suggests."""
        return self._drawn(self.study.ask())

    def take_over(self) -> list[Trial]:
        """The trials that a killed launch left, with the settings completed that it had not drawn yet."""
        left = self.study.get_trials(deepcopy=False, states=(States.RUNNING,))
        return [self._drawn(optuna.trial.Trial(self.study, frozen._trial_id)) for frozen in left]

    def retry_failed(self) -> int:
        """Queues the settings of failed trials again; returns how many were queued, by this launch and earlier ones."""
        retried: list[int] = self.study.user_attrs.get("retried", [])
        for frozen in self.study.get_trials(deepcopy=False, states=(States.FAIL,)):
            if frozen.number not in retried and not frozen.user_attrs.get(DIVERGED):
                self.study.enqueue_trial(frozen.params)
                retried = [*retried, frozen.number]
                self.study.set_user_attr("retried", retried)
        return len(retried)

    def saw(self, trial: Trial, value: tuple[float, ...]) -> bool:
        """Reports a seed's result to Optuna; True if the trial should end early because others are better."""
        trial.values.append(value)
        if not self._is_single:
            return False
        step = len(trial.values)
        if step not in self._stored(trial).intermediate_values:
            told = value[0] if self._search.settings.pruner == "wilcoxon" else trial.means()[0]
            trial.asked.report(told, step)
        return bool(trial.asked.should_prune())

    def end(self, trial: Trial, *, pruned: bool = False, failed: bool = False) -> None:
        """Tells Optuna that a trial has ended: a pruned one counts as bad, a failed one does not count."""
        self._stored(trial)
        if pruned and not self._is_single:
            trial.asked.set_user_attr(DIVERGED, True)  # with two objectives a trial is pruned only if a run diverged
            pruned, failed = False, True  # and Optuna has no pruned trials of several objectives
        state = States.FAIL if failed else States.PRUNED if pruned else States.COMPLETE
        self.study.tell(trial.asked, None if pruned or failed else trial.means(), state=state)

    def _stored(self, trial: Trial) -> Any:
        """The trial as the storage has it; it has not ended, unless a launch of another folder shares the storage."""
        frozen = self.study.get_trials(deepcopy=False)[trial.number]
        if frozen.state.is_finished():
            law = "a study must be of one launch at a time, got a trial that another has ended"
            raise InputError(f"{self.study.study_name}: {law}; give each a search.storage or a sweep name of its own")
        return frozen

    def _drawn(self, asked: optuna.trial.Trial) -> Trial:
        for dimension in self._spec.space:
            try:
                dimension.suggest(asked)
            except ValueError as error:  # queued by hand
                asked.set_user_attr(DIVERGED, True)  # it is not tried again
                self.study.tell(asked, state=States.FAIL)
                law = f"a trial that is queued must have values of the search's space, got {error}"
                raise InputError(f"{self.study.study_name}: {law}; it is left out: launch again") from error
        return Trial(asked, dict(self.study.get_trials(deepcopy=False)[asked.number].params))


def study_name(sweep: str, spec: "Study", search: "Search", storage: Any) -> str:
    """SWEEP/CELL and 8 hex digits of what is searched: another space, seeds or direction begin another study."""

    def named(more: Sequence[Any], texts: Callable[["Dimension"], Any]) -> str:
        space = [[d.name, d.kind, d.low, d.high, d.log, d.step, texts(d)] for d in spec.space]
        content = [spec.run.around_seed, space, search.seeds, spec.validation_per_class, search.objectives, *more]
        return f"{sweep}/{spec.name} {hashlib.sha256(json.dumps(content).encode()).hexdigest()[:DIGITS]}"

    # directions and types of values came later: where they differ from a study that is there, its name is not taken
    first = named([], lambda d: [*map(str, d.values)])
    if _fits(storage, first, spec, search):
        return first
    return named([search.modes], lambda d: [*d.values.items()])


def _fits(storage: Any, name: str, spec: "Study", search: "Search") -> bool:
    """Whether a study of this name, if there is one, has the search's directions and its lists' values."""
    try:
        study = None if storage is None else storage.get_study_id_from_name(name)
    except KeyError:
        study = None
    if study is None:
        return True
    directions = [direction.name for direction in storage.get_study_directions(study)]
    lists = {d.name: [*d.values] for d in spec.space if d.kind == "list"}
    return directions == [f"{mode.upper()}IMIZE" for mode in search.modes] and all(
        _is_of(trial, *one) for trial in read_trials(storage, name) for one in lists.items()
    )


def _is_of(trial: Any, name: str, labels: Sequence[Any]) -> bool:
    """Whether a trial drew a setting from a list with these labels, types included, or may yet draw it."""
    if name in trial.distributions:
        return json.dumps(trial.distributions[name].choices) == json.dumps(labels)
    queued = {} if trial.number else trial.system_attrs.get("fixed_params", {})  # later ones may be queued by hand
    return name not in queued or json.dumps(queued[name]) in map(json.dumps, labels)


def _sampler(name: str, seed: int) -> Any:
    samplers = optuna.samplers
    return {
        "tpe": samplers.TPESampler,
        "gp": samplers.GPSampler,
        "random": samplers.RandomSampler,
        "qmc": samplers.QMCSampler,
        "nsgaii": samplers.NSGAIISampler,
    }[name](seed=seed)


def _pruner(name: str, n_seeds: int) -> Any:
    pruners = optuna.pruners
    match name:
        case "median":
            return pruners.MedianPruner()
        case "percentile":
            return pruners.PercentilePruner(25.0)
        case "asha":  # asynchronous successive halving (Li et al. 2018)
            return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)
        case "hyperband":
            return pruners.HyperbandPruner(min_resource=1, max_resource=n_seeds, reduction_factor=REDUCTION)
        case "wilcoxon":
            return pruners.WilcoxonPruner()
    return pruners.NopPruner()


def storage_address(search: "Search", folder: Path) -> str:
    """OPTUNA_STORAGE, else what the sweep file says, else a journal in the sweep's folder."""
    return os.environ.get(STORAGE) or search.settings.storage or str(folder / JOURNAL)


def open_storage(address: str, *, write: bool) -> Any:
    """Opens Optuna's storage."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if "://" in address:
                file = database_file(address)
                if file is not None and not file.exists():
                    if not write:
                        return None
                elif is_ledger(address):
                    law = "search.storage must be another database than MLflow's, because both name one table alike"
                    raise InputError(f"{mask(address)}: {law}; correct {STORAGE} or the file")
                return optuna.storages.RDBStorage(address)
            if not write and not Path(address).exists():
                return None
            if write:
                Path(address).parent.mkdir(parents=True, exist_ok=True)
                _mend(Path(address))
            # absolute: the lock is a link to the file; one that leads nowhere, left by a kill, is waited for for ever
            backend = optuna.storages.journal.JournalFileBackend(str(Path(address).resolve()))
            return optuna.storages.JournalStorage(backend)
    except InputError:
        raise
    except Exception as error:
        told = mask((str(error).splitlines() or [""])[0])
        law = "search.storage must be a journal file or a database that answers"
        raise InputError(
            f"{mask(address)}: {law}, got {type(error).__name__}: {told}; correct {STORAGE} or the file"
        ) from None


def read_trials(storage: Any, name: str) -> Sequence[Any]:
    """A study's trials as Optuna stores them; empty if there is no such study."""
    if storage is None:
        return []
    try:
        study = storage.get_study_id_from_name(name)
    except KeyError:
        return []
    found: Sequence[Any] = storage.get_all_trials(study, deepcopy=False)
    return found


def _mend(journal: Path) -> None:
    """Removes an incomplete last line, left by a full disk or a killed machine: Optuna could not append after it."""
    if journal.exists() and (content := journal.read_bytes()) and not content.endswith(b"\n"):
        with journal.open("r+b") as stream:
            stream.truncate(content.rfind(b"\n") + 1)
