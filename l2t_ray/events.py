"""What Tune sees of a launch, told to the queue, the progress and the recorder."""

import pickle
from pathlib import Path
from typing import Any

from ray import tune

from l2t_ray.progress import Progress
from l2t_ray.queue import DriverOnly, Queue
from l2t_ray.recorder import Recorder
from l2t_ray.trainable import PackFailedError

REASON_UNKNOWN = "the worker process died (killed, or out of memory)"


class Events(DriverOnly, tune.Callback):  # type: ignore[misc]  # ray is untyped
    """Tune's callback."""

    def __init__(self, queue: Queue, progress: Progress, recorder: Recorder) -> None:
        self._queue, self._progress, self._recorder = queue, progress, recorder
        self._error: Exception | None = None

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """A round of Tune's loop is over.

        Args:
            iteration: unused.
            trials: unused.
            **info: unused.

        Raises:
            Exception: what went wrong in the launch's own process.
        """
        if self._error is not None:
            raise self._error
        self._recorder.retry()
        self._progress.n_running = sum(len(pack) for pack in self._queue.live.values())
        self._progress.tick()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A pack has got on.

        Args:
            iteration: unused.
            trials: unused.
            trial: Tune's trial.
            result: of `PackTrainable.step`.
            **info: unused.
        """
        if result.get("epochs"):  # 0 until the pack is decoded
            for run in self._queue.live.get(trial.trial_id, ()):
                self._progress.reached(run.key, result["epoch"] / result["epochs"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A pack has been trained.

        Args:
            iteration: unused.
            trials: unused.
            trial: Tune's trial.
            **info: unused.
        """
        try:
            # taken out, because Tune keeps every trial in memory
            self._queue.complete(trial.trial_id, trial.last_result.pop("outcomes"), trial.last_result["device"])
        except Exception as error:
            self._error = error  # Tune would take it for the trial's; raised in `on_step_end`

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A pack raised, or its process died.

        Args:
            iteration: unused.
            trials: unused.
            trial: Tune's trial.
            **info: unused.
        """
        reason, hopeless = failure(trial)
        self._queue.fail(trial.trial_id, reason, hopeless=hopeless)


def failure(trial: Any) -> tuple[str, bool]:
    """Why a trial ended without a result.

    Args:
        trial: Tune's.

    Returns:
        The reason, and whether another attempt must end the same way.
    """
    try:
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())  # written by this process a moment ago
    except (OSError, TypeError, pickle.UnpicklingError):
        return REASON_UNKNOWN, False
    cause = getattr(error, "cause", None)
    if isinstance(cause, PackFailedError):
        return cause.reason, cause.hopeless
    return f"{REASON_UNKNOWN}: {' '.join(str(error).split())[:300]}", False
