"""The built-in trainer in a worker: trains a pack from its checkpoints, writes a checkpoint when one is due."""

import functools
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from l2t_ray import __version__, registry
from l2t_ray.config import Run, weights_files
from l2t_ray.data.load import cache_file
from l2t_ray.errors import count
from l2t_ray.launch.worker import files, preemption
from l2t_ray.launch.worker.inputs import inputs
from l2t_ray.launch.worker.job import Work
from l2t_ray.launch.worker.trainer import Checked, Stop, StoppedError, Watch
from l2t_ray.models.compiling import allow_compiling
from l2t_ray.training import checkpoint
from l2t_ray.training.device import limit_memory
from l2t_ray.training.pack import train

logger = logging.getLogger(__name__)


class Transfer:
    """The built-in trainer, which transfers features from a source network.

    Args:
        work: the launch's settings; the user's methods are loaded.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        registry.load([Path(files.local(work, path)) for path in work.methods])

    def check(self, runs: Sequence[Run], later: Collection[str]) -> Checked:
        """Loads every data set and source network, and trains a batch of every kind of run."""
        from l2t_ray.launch.worker.transfer_check import check_inputs

        return check_inputs(runs, self._work, later)

    def files(self, runs: Sequence[Run]) -> Iterable[str]:
        """Methods, weights and decoded data sets."""
        paths = dict.fromkeys(self._work.methods)
        for run in runs:
            paths |= dict.fromkeys(weights_files(run))
            paths[str(cache_file(run.data, Path(self._work.data_dir)))] = None
        return paths

    def train(self, runs: Sequence[Run], watch: Watch, stop: Stop) -> list[dict[str, Any]]:
        """Trains a pack; its runs that have checkpoints of different epochs are trained as several."""
        torch.set_num_threads(self._work.threads)  # applies to this thread
        limit_memory(self._work.fraction)
        allow_compiling("inductor" if self._work.compiled else None)
        return _train(self._work, [_with_local_target(self._work, run) for run in runs], watch, stop)


def _with_local_target(work: Work, run: Run) -> Run:
    """Returns the run with the place of its target's weights on this machine, which is no part of its key."""
    if run.target.file is None:
        return run
    place = files.local_weights(work, run.target.file)
    return run.model_copy(update={"target": run.target.model_copy(update={"weights": place})})


def _train(work: Work, runs: Sequence[Run], watch: Watch, stop: Stop) -> list[dict[str, Any]]:
    groups = _load_groups(work, runs)
    epochs = max(run.training.epochs for run in runs)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data, source = inputs(work, runs[0])
    found: dict[str, dict[str, Any]] = {}
    for n_before, (places, kept) in enumerate(groups):  # one group, unless the pack was regrouped
        some = [runs[place] for place in places]
        saved = kept if kept and _traced_alike(some, kept) else None
        done = n_before * epochs
        watch(done + (saved[0]["epoch"] if saved else 0), len(groups) * epochs)
        outcomes = train(
            some,
            data,
            source,
            device=device,
            states=[item["state"] for item in saved] if saved else None,
            on_epoch=_keeper(work, some, functools.partial(_watch_group, watch, done, len(groups) * epochs), stop),
        )
        found.update((outcome.key, outcome.to_json()) for outcome in outcomes)
    return [found[run.key] for run in runs]


def _load_groups(work: Work, runs: Sequence[Run]) -> list[tuple[list[int], list[dict[str, Any]] | None]]:
    """The newest states by which runs may go on, in groups of one epoch; tells which states are of other code."""
    other: dict[int, str] = {}

    def fits(place: int, state: Mapping[str, Any]) -> bool:
        now = _code(runs[place])
        made = state.get("code", now)  # older checkpoints do not tell
        parts = sorted(name for name in {*made, *now} if made.get(name) != now.get(name))
        if parts:
            other[place] = ", ".join(f"{name} {made.get(name, 'none')}, now {now.get(name, 'none')}" for name in parts)
        return not parts

    groups = checkpoint.load_groups([work.checkpoint(run.key) for run in runs], by="epoch", fits=fits)
    anew = [place for places, kept in groups if kept is None for place in places if place in other]
    if anew:
        first = runs[anew[0]]
        told = f"{first.title}, seed {first.seed}" + (f" and {count(len(anew) - 1, 'run')} more" if anew[1:] else "")
        logger.warning("%s: trained anew, the checkpoint is of other code (%s)", told, other[anew[0]])
    return groups


def _code(run: Run) -> dict[str, str]:
    """What makes a run's state beside its settings: l2t-ray by its version, the user's method by its file's digest."""
    return {"l2t-ray": __version__, **run.code}


def _traced_alike(runs: Sequence[Run], saved: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the checkpoints hold the traces that the runs ask for now; a trace begins before training."""
    asked = [item["state"].get("trace", {}).get("asked") for item in saved]
    return asked == [[*run.traced] for run in runs]


def _watch_group(watch: Callable[[int, int], None], done: int, epochs: int, epoch: int) -> None:
    watch(done + epoch, epochs)


def _keeper(
    work: Work, runs: list[Run], watch: Callable[[int], None], stop: Callable[[], bool]
) -> Callable[[int, Callable[[], list[dict[str, Any]]]], None]:
    """The function called after every epoch: reports it, and writes a checkpoint if one is due."""
    epochs = max(run.training.epochs for run in runs)
    clock, warned = checkpoint.Clock(work.checkpoint_s), preemption.Watch()

    def on_epoch(epoch: int, snapshot: Callable[[], list[dict[str, Any]]]) -> None:
        watch(epoch)
        clock.tick()
        stopping = stop()
        if epoch < epochs and (stopping or clock.is_due() or warned.is_urgent()):
            with clock:
                try:
                    for run, state in zip(runs, snapshot(), strict=True):
                        file = work.checkpoint(run.key)
                        content = {"key": run.key, "code": _code(run), "epoch": epoch, "state": state}
                        checkpoint.save_state(file, content)
                except OSError as error:  # a full or lost disk costs the checkpoint, not the run
                    logger.warning("%s: no checkpoint was written, the training goes on: %s", work.checkpoints, error)
        if stopping:
            raise StoppedError

    return on_epoch
