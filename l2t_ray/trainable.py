"""The Ray Tune trainable: trains one pack in a worker process that lives on for the next one.

The training has a thread of its own, so that the process can answer Tune meanwhile.
"""

import functools
import json
import logging
import os
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ray import tune

from l2t_ray import checkpoint, depot, mps, notice, registry
from l2t_ray.config import Run
from l2t_ray.device import device_name, is_out_of_memory, limit_memory
from l2t_ray.errors import InputError
from l2t_ray.inputs import inputs, trainer
from l2t_ray.work import Work, decode

STOP_S = 3.0  # for the epoch at hand when a launch is interrupted

logger = logging.getLogger(__name__)


class PackFailedError(RuntimeError):
    """A pack raised; carries the reason to the driver as text, for the original may not survive pickling.

    Attributes:
        reason: what was raised, and where.
        hopeless: whether another attempt must end the same way.
        memory: whether memory was short.
    """

    def __init__(self, reason: str, *, hopeless: bool = False, memory: bool = False) -> None:
        super().__init__(reason, hopeless, memory)
        self.reason, self.hopeless, self.memory = reason, hopeless, memory

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(PackFailedError, hopeless=self.hopeless, memory=self.memory), (self.reason,)


class StoppedError(Exception):
    """The launch was interrupted."""


class PackTrainable(tune.Trainable):  # type: ignore[misc]  # ray is untyped
    """One trial: one pack. Its last result holds `outcomes`, JSON text of a list of `Outcome.to_json()`."""

    def setup(self, config: dict[str, Any]) -> None:
        """Takes the first pack.

        Args:
            config: {"work": ..., "pack": ..., "share": ...}
        """
        share = config["share"]
        self._work, self._pack = replace(Work.from_json(config["work"]), threads=share["threads"]), config["pack"]
        mps.join(self._work.mps)
        limit_memory(share["fraction"])
        self._thread: threading.Thread | None = None
        self._stop, self._ended = threading.Event(), threading.Event()
        self._epoch, self._epochs, self._outcomes = 0, 0, ""
        self._error: Exception | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next pack.

        Args:
            new_config: as for `setup`.

        Returns:
            True: nothing of the pack before is left but the loaded data.
        """
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains on; returns after `report_s` with the progress, or at the end with the outcomes.

        Returns:
            {"epoch", "epochs"} or {"done", "outcomes", "device"}.

        Raises:
            PackFailedError: if the training raised.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._train, name="training", daemon=True)
            self._thread.start()
        if not self._ended.wait(self._work.report_s):
            return {"epoch": self._epoch, "epochs": self._epochs}
        if self._error is not None:
            hopeless, memory = isinstance(self._error, InputError), is_out_of_memory(self._error)
            raise PackFailedError(describe(self._error), hopeless=hopeless, memory=memory) from self._error
        return {"done": True, "outcomes": self._outcomes, "device": device_name()}

    def cleanup(self) -> None:
        """Ends the training after the epoch at hand, with a checkpoint, if that takes no longer than `STOP_S`."""
        self._stop.set()
        if self._thread is not None:
            self._ended.wait(STOP_S)

    def _train(self) -> None:
        try:
            self._outcomes = json.dumps(train_pack(self._work, self._pack, self._watch, self._stop.is_set))
        except StoppedError:
            pass
        except Exception as error:  # it is raised again in `step`, whatever it is
            self._error = error
        finally:
            self._ended.set()

    def _watch(self, epoch: int, epochs: int) -> None:
        self._epoch, self._epochs = epoch, epochs


def train_pack(
    work: Work, pack: str, watch: Callable[[int, int], None], stop: Callable[[], bool] = lambda: False
) -> list[dict[str, Any]]:
    """Trains one pack from its checkpoints on.

    Args:
        work: the launch's settings.
        pack: of `encode`.
        watch: is told the epochs done and in all.
        stop: whether to end after the epoch at hand.

    Returns:
        `Outcome.to_json()` of every run.

    Raises:
        StoppedError: if `stop` asked for it.
    """
    if Path(work.folder).is_dir():
        os.chdir(work.folder)
    registry.load([Path(depot.local(work, path)) for path in work.methods])
    torch.set_num_threads(work.threads)  # of this thread
    runs = decode(pack)
    groups = checkpoint.load_groups([work.checkpoint(run.key) for run in runs], by="epoch")
    epochs = max(run.training.epochs for run in runs)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data, source = inputs(work, runs[0])
    found: dict[str, dict[str, Any]] = {}
    for n_before, (places, saved) in enumerate(groups):  # one, unless the pack was put together anew
        some = [runs[place] for place in places]
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


def _watch_group(watch: Callable[[int, int], None], done: int, epochs: int, epoch: int) -> None:
    watch(done + epoch, epochs)


def _keeper(
    work: Work, runs: list[Run], watch: Callable[[int], None], stop: Callable[[], bool]
) -> Callable[[int, Callable[[], list[dict[str, Any]]]], None]:
    """What is called after every epoch: tells of it, and writes a checkpoint where one is due."""
    epochs = max(run.training.epochs for run in runs)
    clock, warned = checkpoint.Clock(work.checkpoint_s), notice.Watch()

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
                except OSError as error:  # a full or lost disk costs the checkpoint and not the run
                    logger.warning("%s: no checkpoint, the training goes on: %s", work.checkpoints, error)
        if stopping:
            raise StoppedError

    return on_epoch


def describe(error: BaseException) -> str:
    """An exception in one line: what, and where it was raised.

    Args:
        error: the exception.

    Returns:
        "ValueError: boom (mine.py:14 in weights)"
    """
    if isinstance(error, InputError):
        return "; ".join(error.problems)
    text = " ".join("".join(traceback.format_exception_only(error)).split())
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})" if frames else text
