"""One study in Optuna's storage, reached through Ray Tune's OptunaSearch: trials, seed by seed, also a killed launch's.

Optuna keeps no trial's owner: a trial that a killed launch left RUNNING is taken over as it is, with its settings and
its seeds so far, because one launch at a time has a sweep.

The storage is a journal file, whose last line a kill may leave half written, or a database.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from ray.tune.search.optuna import OptunaSearch

from l2t_ray.errors import InputError, mask

if TYPE_CHECKING:
    from l2t_ray.sweepfile.search import Search, Study

NUMBER = "number"  # beside the settings that Tune hands out
DIVERGED = "diverged"  # of a trial that Optuna has as failed: it is a result, and would diverge again
DIGITS = 8
REDUCTION = 2  # of ASHA and Hyperband: of the trials at 1, 2, 4, ... seeds the better half goes on
STORAGE = "OPTUNA_STORAGE"
JOURNAL = "study.journal"


optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass
class Trial:
    """A trial that is being trained.

    Attributes:
        id: Tune's name for it.
        number: Optuna's.
        labels: its settings, as Optuna keeps them.
        values: of its seeds so far, one for each objective.
    """

    id: str
    number: int
    labels: Mapping[str, Any]
    values: list[tuple[float, ...]] = field(default_factory=list)

    def means(self) -> tuple[float, ...]:
        """The mean of each objective over the seeds so far."""
        return tuple(sum(found) / len(found) for found in zip(*self.values, strict=True))


class TunedStudy(OptunaSearch):  # type: ignore[misc]  # ray is untyped
    """Tune's searcher for one study, which can take over trials and prune them.

    Args:
        name: of the study.
        spec: the cell whose settings are searched.
        search: how.
        storage: Optuna's.
    """

    def __init__(self, name: str, spec: "Study", search: "Search", storage: Any) -> None:
        single = len(search.objectives) == 1
        self._spec, self._search, self._n_asked = spec, search, 0
        seed = int(hashlib.sha256(f"{name} {len(read_trials(storage, name))}".encode()).hexdigest()[:DIGITS], 16)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            super().__init__(
                space=self._suggest_all,
                metric=search.objectives[0] if single else [*search.objectives],
                mode=search.modes[0] if single else [*search.modes],
                sampler=_sampler(search.settings.sampler, seed),
                study_name=name,
                storage=storage,
            )
            self.study: Any = self._ot_study
            self.study.pruner = _pruner(search.settings.pruner if single else "none", len(search.seeds))
        if not self.study.get_trials(deepcopy=False) and (own := spec.own_labels()) is not None:
            self.study.enqueue_trial(own)

    def begin(self) -> Trial:
        """A new trial.

        Returns:
            With the settings that Optuna suggests.
        """
        self._n_asked += 1
        return self._begin(f"asked {self._n_asked}")

    def take_over(self) -> list[Trial]:
        """The trials that a killed launch has left.

        Returns:
            Their settings, completed if the launch was killed while it drew them; no seed's value yet.
        """
        left = self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        found = []
        for frozen in left:
            name = f"left {frozen.number}"
            self._ot_trials[name] = optuna.trial.Trial(self.study, frozen._trial_id)
            found.append(self._begin(name))
        return found

    def retry_failed(self) -> int:
        """Asks for the settings of failed trials once more; those that diverged stay as they are.

        Returns:
            How many failed trials have been asked for again, in this launch and before.
        """
        retried: list[int] = self.study.user_attrs.get("retried", [])
        failed = self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.FAIL,))
        for frozen in failed:
            if frozen.number not in retried and not frozen.user_attrs.get(DIVERGED):
                self.study.enqueue_trial(frozen.params)
                retried = [*retried, frozen.number]
                self.study.set_user_attr("retried", retried)
        return len(retried)

    def saw(self, trial: Trial, value: tuple[float, ...]) -> bool:
        """Tells Optuna of a seed.

        Args:
            trial: of this study.
            value: of the seed, one for each objective.

        Returns:
            Whether the trial is to be ended, because others are better.
        """
        trial.values.append(value)
        if len(value) > 1:
            return False
        step = len(trial.values)
        told = value[0] if self._search.settings.pruner == "wilcoxon" else trial.means()[0]
        asked = self._ot_trials[trial.id]
        if step not in self.study.get_trials(deepcopy=False)[trial.number].intermediate_values:
            self.on_trial_result(trial.id, {self.metric: told, "training_iteration": step})
        return bool(asked.should_prune())

    def end(self, trial: Trial, *, pruned: bool = False, failed: bool = False) -> None:
        """Tells Optuna that a trial is over.

        Args:
            trial: of this study.
            pruned: whether without its last seeds, or because a run diverged: it counts as a bad one.
            failed: whether a run raised: it counts for nothing.
        """
        names = self.metric if isinstance(self.metric, list) else [self.metric]
        if pruned and len(names) > 1:
            self._ot_trials[trial.id].set_user_attr(DIVERGED, True)  # the only way to be pruned here
            pruned, failed = False, True  # with two objectives, Optuna knows no pruned trials
        result = None if pruned or failed else dict(zip(names, trial.means(), strict=True))
        self.on_trial_complete(trial.id, result, error=failed)

    def _begin(self, name: str) -> Trial:
        found = self.suggest(name)
        labels = {dimension.name: found[dimension.name] for dimension in self._spec.space}
        return Trial(name, found[NUMBER], labels)

    def _suggest_all(self, trial: Any) -> dict[str, Any]:
        """Optuna's define-by-run: also draws what a killed launch had not drawn yet."""
        for dimension in self._spec.space:
            dimension.suggest(trial)
        return {NUMBER: trial.number}


def study_name(sweep: str, spec: "Study", search: "Search") -> str:
    """A study is known by what it searches: another space, or other seeds, begin another study.

    Args:
        sweep: the experiment.
        spec: the cell.
        search: how.

    Returns:
        SWEEP/CELL and 8 hex digits.
    """
    space = [[d.name, d.kind, d.low, d.high, d.log, d.step, [*map(str, d.values)]] for d in spec.space]
    content = [spec.run.around_seed, space, search.seeds, spec.validation_per_class, search.objectives]
    return f"{sweep}/{spec.name} {hashlib.sha256(json.dumps(content).encode()).hexdigest()[:DIGITS]}"


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
    """Where Optuna keeps the studies.

    Args:
        search: of the sweep file.
        folder: the sweep's.

    Returns:
        A URL or a file: OPTUNA_STORAGE, else what the sweep file says, else a journal in the sweep's folder.
    """
    return os.environ.get(STORAGE) or search.settings.storage or str(folder / JOURNAL)


def open_storage(address: str, *, write: bool) -> Any:
    """Optuna's storage.

    Args:
        address: of `storage_address`.
        write: whether it may be made; then this process is the only launch of the sweep.

    Returns:
        The storage; None where there is none and none may be made.

    Raises:
        InputError: if it cannot be reached.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if "://" in address:
                return optuna.storages.RDBStorage(address)
            if not write and not Path(address).exists():
                return None
            if write:
                Path(address).parent.mkdir(parents=True, exist_ok=True)
                _mend(Path(address))
            return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(address))
    except Exception as error:
        told = mask((str(error).splitlines() or [""])[0])
        law = "search.storage must be a journal file or a database that answers"
        raise InputError(
            f"{mask(address)}: {law}, got {type(error).__name__}: {told}; correct {STORAGE} or the file"
        ) from None


def read_trials(storage: Any, name: str) -> Sequence[Any]:
    """A study's trials as they are stored.

    Args:
        storage: of `open_storage`.
        name: of `study_name`.

    Returns:
        Optuna's frozen trials; none where there is no such study.
    """
    if storage is None:
        return []
    try:
        study = storage.get_study_id_from_name(name)
    except KeyError:
        return []
    found: Sequence[Any] = storage.get_all_trials(study, deepcopy=False)
    return found


def _mend(journal: Path) -> None:
    """Cuts off half a line that a full disk or a killed machine has left: nothing could be added behind it."""
    if journal.exists() and (content := journal.read_bytes()) and not content.endswith(b"\n"):
        with journal.open("r+b") as stream:
            stream.truncate(content.rfind(b"\n") + 1)
