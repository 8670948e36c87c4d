"""What a launch asks of a trainer, and the words for what it raises. No Ray, no MLflow, no torch."""

import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from l2t_ray.errors import InputError, mask
from l2t_ray.trainer.outcome import ResultError

Watch = Callable[[int, int], None]  # epochs done, and their total; 0 where it is not known
Stop = Callable[[], bool]  # whether to end after the current epoch


class StoppedError(Exception):
    """The launch was interrupted."""


@dataclass(frozen=True)
class Checked:
    """What a trainer's check has found."""

    data_sha: dict[str, str]  # key to the digest of the run's data; empty texts where the trainer's own code reads it
    state_bytes: int = 0  # of one run's checkpoint, as far as known


class Trainer(Protocol):
    """What a launch asks of a trainer: the built-in one is `worker.transfer`, the user's own `worker.own`.

    It is made of a `Work`, in the driver and in every worker.
    """

    def check(self, runs: Sequence[Any], later: Collection[str]) -> Checked:
        """Checks in the driver, before anything is written, everything that the runs read; raises InputError.

        Args:
            runs: to train.
            later: files of weights that are trained first.
        """

    def files(self, runs: Sequence[Any]) -> Iterable[str]:
        """Paths of the files that workers on other machines need."""

    def train(self, runs: Sequence[Any], watch: Watch, stop: Stop) -> list[dict[str, Any]]:
        """Trains a pack in a worker, from its checkpoints if there are any.

        Args:
            runs: of one shape.
            watch: receives the progress.
            stop: asked after every epoch.

        Returns:
            Plain values of `ledger.spool.Ended` for every run, in order. An exception fails the pack; a launch then
            tries its runs one by one, and again.
        """


def describe(error: BaseException) -> str:
    """An exception in one line, without passwords: "ValueError: boom (mine.py:14 in weights)"."""
    if isinstance(error, InputError):
        return _readable("; ".join(error.problems))
    if isinstance(error, ResultError):
        return _readable(str(error))
    told = traceback.TracebackException.from_exception(error)
    told.__notes__ = None  # they may be long, and stand below the whole traceback
    text = _readable(" ".join("".join(told.format_exception_only()).split()))
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})" if frames else text


def trace(error: BaseException) -> str:
    """An exception with all its lines and causes, without passwords."""
    return _readable("".join(traceback.format_exception(error)))


def _readable(text: str) -> str:
    """A text without passwords, and with escapes for what is no Unicode, such as bytes of a file's name."""
    return mask(text.encode(errors="backslashreplace").decode())
