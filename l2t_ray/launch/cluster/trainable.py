"""The Ray Tune trainable: trains one pack in a worker process that lives on for the next one.

The trainings have a thread of their own, so that the process can answer Tune meanwhile; one for all packs, because
cuDNN keeps what it has measured of a shape by thread.
"""

import functools
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

from ray import tune

from l2t_ray.errors import InputError
from l2t_ray.launch.worker import mps
from l2t_ray.launch.worker.job import Work
from l2t_ray.launch.worker.train import StoppedError, describe, trace, train_pack
from l2t_ray.trainer.outcome import ResultError
from l2t_ray.training.device import device_name, is_of_machine, is_out_of_memory

STOP_S = 8.0  # for the current epoch when a launch is interrupted; below TUNE_FORCE_TRIAL_CLEANUP_S


class PackFailedError(RuntimeError):
    """A pack raised; carries the reason to the driver as text, because the original error may not be picklable.

    Attributes:
        reason: what was raised, and where.
        hopeless: whether another attempt would end the same way.
        memory: whether memory ran out.
        machine: whether a disk, the network or a card may be the cause, not the training's own code.
        trace: all lines of the error, without passwords.
    """

    def __init__(
        self, reason: str, *, hopeless: bool = False, memory: bool = False, machine: bool = False, trace: str = ""
    ) -> None:
        super().__init__(reason, hopeless, memory)
        self.reason, self.hopeless, self.memory, self.machine, self.trace = reason, hopeless, memory, machine, trace

    def __reduce__(self) -> tuple[Any, ...]:
        more: dict[str, Any] = {
            "hopeless": self.hopeless,
            "memory": self.memory,
            "machine": self.machine,
            "trace": self.trace,
        }
        return functools.partial(PackFailedError, **more), (self.reason,)


class PackTrainable(tune.Trainable):  # type: ignore[misc]  # ray is untyped
    """One trial trains one pack; its last result holds `outcomes`, JSON of a list of `Outcome.to_json()`."""

    def setup(self, config: dict[str, Any]) -> None:
        """Takes the first pack: `config` holds "work", "pack" and "share"."""
        share = config["share"]
        device = "cuda:0" if share.get("gpus") else "cpu"
        self._work = replace(Work.from_json(config["work"]), threads=share["threads"], device=device)
        self._work = replace(self._work, fraction=share["fraction"], compiled=share["compiled"])
        self._pack = config["pack"]
        mps.join(self._work.mps)
        self._begun = False
        self._stop, self._ended = threading.Event(), threading.Event()
        self._epoch, self._epochs, self._outcomes = 0, 0, ""
        self._error: BaseException | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next pack; only loaded data remain of the one before."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains on; returns after `report_s` seconds with the progress, or at the end with the outcomes.

        Returns:
            {"epoch", "epochs"} or {"done", "outcomes", "device"}.

        Raises:
            PackFailedError: if the training raised.
        """
        if not self._begun:
            self._begun = True
            _trainings().put(self._train)
        if not self._ended.wait(self._work.report_s):
            return {"epoch": self._epoch, "epochs": self._epochs}
        if self._error is not None:
            error = self._error
            raise PackFailedError(
                describe(error),
                hopeless=isinstance(error, InputError | ResultError),
                memory=is_out_of_memory(error),
                machine=is_of_machine(error),
                trace=trace(error),
            ) from None  # without its cause, whose text may contain a password
        device = "" if self._work.trainer else device_name()  # of the share: to ask would need torch
        return {"done": True, "outcomes": self._outcomes, "device": device}

    def cleanup(self) -> None:
        """Ends the training after the current epoch with a checkpoint, if that takes at most `STOP_S` seconds."""
        self._stop.set()
        if self._begun:
            self._ended.wait(STOP_S)

    def _train(self) -> None:
        try:
            self._outcomes = json.dumps(train_pack(self._work, self._pack, self._watch, self._stop.is_set))
        except StoppedError:
            pass
        except BaseException as error:  # `step` raises it again; no Ctrl-C comes to this thread
            self._error = error
        finally:
            self._ended.set()

    def _watch(self, epoch: int, epochs: int) -> None:
        self._epoch, self._epochs = epoch, epochs


@functools.cache
def _trainings() -> SimpleQueue[Callable[[], None]]:
    """The queue of the process' one training thread, which calls what is put in."""
    waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def work() -> None:
        while True:
            waiting.get()()

    threading.Thread(target=work, name="training", daemon=True).start()
    return waiting
