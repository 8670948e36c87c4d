"""Trains one pack in a worker, from its checkpoints; writes a checkpoint when one is due. No Ray, no MLflow.

The last data sets and source networks stay in memory, because the next pack often needs the same.
"""

import functools
import importlib
import logging
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from l2t_ray import registry
from l2t_ray.config import Data, Run, Source, reads_source
from l2t_ray.data.load import load_data
from l2t_ray.errors import InputError, mask
from l2t_ray.launch.worker import files, preemption
from l2t_ray.launch.worker.job import Work, decode, whole
from l2t_ray.models import Backbone, load_source
from l2t_ray.training import checkpoint

logger = logging.getLogger(__name__)


class StoppedError(Exception):
    """The launch was interrupted."""


def train_pack(
    work: Work, pack: str, watch: Callable[[int, int], None], stop: Callable[[], bool] = lambda: False
) -> list[dict[str, Any]]:
    """Trains one pack, from its checkpoints if there are any.

    Args:
        work: the launch's settings.
        pack: of `job.encode`.
        watch: receives the epochs done and their total.
        stop: whether to end after the current epoch.

    Returns:
        `Outcome.to_json()` of every run.

    Raises:
        StoppedError: if `stop` asked for it.
    """
    if Path(work.folder).is_dir():
        os.chdir(work.folder)
    registry.load([Path(files.local(work, path)) for path in work.methods])
    torch.set_num_threads(work.threads)  # applies to this thread
    runs = decode(pack)
    groups = checkpoint.load_groups([work.checkpoint(run.key) for run in runs], by="epoch")
    epochs = max(run.training.epochs for run in runs)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data, source = inputs(work, runs[0])
    found: dict[str, dict[str, Any]] = {}
    for n_before, (places, kept) in enumerate(groups):  # one group, unless the pack was regrouped
        some = [runs[place] for place in places]
        saved = kept if kept and _traced_alike(some, kept) else None
        done = n_before * epochs
        watch(done + (saved[0]["epoch"] if saved else 0), len(groups) * epochs)
        outcomes = trainer(work)(
            some,
            data,
            source,
            device=device,
            states=[item["state"] for item in saved] if saved else None,
            on_epoch=_keeper(work, some, functools.partial(_watch_group, watch, done, len(groups) * epochs), stop),
        )
        found.update((outcome.key, outcome.to_json()) for outcome in outcomes)
    return [found[run.key] for run in runs]


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
                        checkpoint.save_state(file, {"key": run.key, "epoch": epoch, "state": state})
                except OSError as error:  # a full or lost disk costs the checkpoint, not the run
                    logger.warning("%s: no checkpoint was written, the training goes on: %s", work.checkpoints, error)
        if stopping:
            raise StoppedError

    return on_epoch


def describe(error: BaseException) -> str:
    """An exception in one line, without passwords: "ValueError: boom (mine.py:14 in weights)"."""
    if isinstance(error, InputError):
        return mask("; ".join(error.problems))
    text = mask(" ".join("".join(traceback.format_exception_only(error)).split()))
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})" if frames else text


def trace(error: BaseException) -> str:
    """An exception with all its lines and causes, without passwords."""
    return mask("".join(traceback.format_exception(error)))


def trainer(work: Work) -> Callable[..., list[Any]]:
    """The function that trains a pack: `training.pack.train`, unless a benchmark names another."""
    module, name = work.trainer.split(":")
    found: Callable[..., list[Any]] = getattr(importlib.import_module(module), name)
    return found


def inputs(work: Work, run: Run, *, with_source: bool = True) -> tuple[Any, Backbone | None]:
    """The data set and source network of a run, on the CPU; the last two of each stay in memory."""
    data = _load_data(whole(run.data).model_dump_json(), files.data_dir(work, run), download=work.download)
    if not with_source or not reads_source(run):
        return data, None
    settings = run.source
    if settings.weights is not None:
        settings = settings.model_copy(update={"weights": files.local(work, settings.weights)})
    return data, _load_source(settings.model_dump_json(), run.training.precision)


@functools.lru_cache(maxsize=2)
def _load_data(settings: str, data_dir: str, *, download: bool) -> Any:
    return load_data(Data.model_validate_json(settings), Path(data_dir), download=download)


@functools.lru_cache(maxsize=2)
def _load_source(
    settings: str, precision: str
) -> Backbone:  # training casts it in place, so each precision has its own
    return load_source(Source.model_validate_json(settings))
