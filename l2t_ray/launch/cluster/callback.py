"""What Tune sees of a launch, told to the queue, the progress and the recorder."""

import pickle
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from l2t_ray.launch.cluster.queue import DriverOnly, Pack, Queue
from l2t_ray.launch.cluster.trainable import PackFailedError
from l2t_ray.launch.cluster.usage import Usage
from l2t_ray.launch.placement.progress import Progress
from l2t_ray.ledger.recorder import Recorder

PATIENCE = 30.0  # an epoch hangs after `execution.hang_s` and thirty times what it should take
BLIND_S = 6 * 3600.0  # where nothing tells what it should take
LOOK_S = 1.0
NODE_LOOK_S = 5.0

REASON_UNKNOWN = "the worker process died (killed, or out of memory)"


@dataclass
class Watched:
    """A trial whose epochs are watched."""

    trial: Any
    since: float  # when it last got on
    epoch: int = -1
    longest_s: float = 0.0  # of its epochs so far

    def saw(self, epoch: int, now: float) -> None:
        """Notes a report of the worker.

        Args:
            epoch: done so far.
            now: the clock.
        """
        if epoch > self.epoch:
            if self.epoch >= 0:
                self.longest_s = max(self.longest_s, (now - self.since) / (epoch - self.epoch))
            self.epoch, self.since = epoch, now

    def limit_s(self, expected_s: float | None, hang_s: float) -> float:
        """How long the next epoch may take.

        Args:
            expected_s: of an epoch, where something tells.
            hang_s: at the least.

        Returns:
            Seconds, generously: another process may have taken the device.
        """
        known = max(self.longest_s, expected_s or 0.0)
        return hang_s + (PATIENCE * known if known else BLIND_S)


class NodeLostError(RuntimeError):
    """Ray's processes on the launch's own machine are gone; Tune would wait for ever."""


class Events(DriverOnly, tune.Callback):  # type: ignore[misc]  # ray is untyped
    """Tune's callback.

    Args:
        queue: of the launch.
        progress: of the launch.
        recorder: of the launch.
        usage: of the launch's devices, if anybody wants to know.
        epoch_s: how long a pack's epoch should take, or None where nothing tells.
        hang_s: what an epoch may take at the least.
        now: the clock.
    """

    def __init__(
        self,
        queue: Queue,
        progress: Progress,
        recorder: Recorder,
        *,
        usage: Usage | None = None,
        epoch_s: Callable[[Pack], float | None] = lambda pack: None,
        hang_s: float = 300.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue, self._progress, self._recorder, self._usage = queue, progress, recorder, usage
        self._epoch_s, self._hang_s, self._now = epoch_s, hang_s, now
        self._longest_s: dict[tuple[str, str], float] = {}  # of the epochs of a shape on a device, of all packs
        self._watched: dict[str, Watched] = {}
        self._hung: dict[str, str] = {}
        self._look_at = self._node_look_at = 0.0
        self._error: Exception | None = None

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """A round of Tune's loop is over.

        Args:
            iteration: unused.
            trials: unused.
            **info: unused.

        Raises:
            Exception: what went wrong in the launch's own process, or NodeLostError.
        """
        if self._error is not None:
            raise self._error
        self._recorder.retry()
        self._progress.n_running = sum(len(pack.runs) for pack in self._queue.live.values() if pack.started)
        self._progress.tick()
        if self._usage is not None:
            self._usage.tick()
        self._kill_hung()
        self._look_at_node()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A pack has its device.

        Args:
            iteration: unused.
            trials: unused.
            trial: Tune's trial.
            **info: unused.
        """
        self._queue.started(trial.trial_id)
        self._watched[trial.trial_id] = Watched(trial, self._now())

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
        watched, pack = self._watched.get(trial.trial_id), self._queue.live.get(trial.trial_id)
        if watched is not None:
            watched.saw(result.get("epoch", -1), self._now())
            if pack is not None:
                kind = (pack.shape, pack.group.device)
                self._longest_s[kind] = max(self._longest_s.get(kind, 0.0), watched.longest_s)
        if result.get("epochs") and pack is not None:  # 0 until the pack is decoded
            for run in pack.runs:
                self._progress.reached(run.key, result["epoch"] / result["epochs"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A pack has been trained.

        Args:
            iteration: unused.
            trials: unused.
            trial: Tune's trial.
            **info: unused.
        """
        self._watched.pop(trial.trial_id, None)
        try:
            # taken out, because Tune keeps every trial in memory
            self._queue.complete(trial.trial_id, trial.last_result.pop("outcomes"), trial.last_result["device"])
            _forget(trial)
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
        watched = self._watched.pop(trial.trial_id, None)
        ended = failure(trial)
        hung = self._hung.pop(trial.trial_id, None)
        try:
            if hung or ended.died:
                self._queue.lose(trial.trial_id, hung or ended.reason, watched.epoch if watched else 0)
            else:
                self._queue.fail(trial.trial_id, ended.reason, hopeless=ended.hopeless, memory=ended.memory)
            _forget(trial)
        except Exception as error:
            self._error = error  # as above

    def _look_at_node(self) -> None:
        """Without the raylet of its own machine a launch can start nothing more, whatever other nodes there are."""
        now = self._now()
        if now < self._node_look_at or not ray.is_initialized():
            return
        self._node_look_at = now + NODE_LOOK_S
        mine = ray.get_runtime_context().get_node_id()
        if any(node["NodeID"] == mine and not node["Alive"] for node in ray.nodes()):
            raise NodeLostError

    def _kill_hung(self) -> None:
        """Ends the processes whose packs have not got on for too long; Tune then reports an error of the trial."""
        now = self._now()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        for trial_id, watched in self._watched.items():
            pack = self._queue.live.get(trial_id)
            if pack is None or trial_id in self._hung:
                continue
            longest_s = self._longest_s.get((pack.shape, pack.group.device), 0.0)
            limit_s = watched.limit_s(max(longest_s, self._epoch_s(pack) or 0.0), self._hang_s)
            if now - watched.since > limit_s:
                where = "before its first epoch" if watched.epoch < 1 else f"after epoch {watched.epoch}"
                self._hung[trial_id] = f"no epoch within {limit_s:.0f} s, {where}: its process hung and was ended"
                _kill(watched.trial)


def _kill(trial: Any) -> None:
    actor = trial.temporary_state.ray_actor
    if actor is not None:
        ray.kill(actor)


@dataclass(frozen=True)
class Failure:
    """Why a trial ended without a result."""

    reason: str
    hopeless: bool = False  # another attempt must end the same way
    memory: bool = False  # it was short
    died: bool = False  # its process or node is gone, and nothing says that the training is to blame


def failure(trial: Any) -> Failure:
    """Why a trial ended without a result.

    Args:
        trial: Tune's.

    Returns:
        What Tune has kept of it.
    """
    try:
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())  # written by this process a moment ago
    except (OSError, TypeError, EOFError, pickle.UnpicklingError):  # a full disk
        return Failure(REASON_UNKNOWN, died=True)
    cause = getattr(error, "cause", None)
    if isinstance(cause, PackFailedError):
        return Failure(cause.reason, cause.hopeless, cause.memory)
    text = " ".join(str(error).split())
    memory = "OutOfMemoryError" in type(error).__name__ or "running low on memory" in text  # Ray's own watch
    return Failure(f"{REASON_UNKNOWN}: {text[:300]}", memory=memory, died=not memory)


def _forget(trial: Any) -> None:
    """Empties what Tune keeps of a trial for ever and nobody reads again: most of what a run costs in memory."""
    with suppress(AttributeError):  # another version of Ray: then it is kept
        metadata = trial.run_metadata
        for kept in (*vars(trial).values(), metadata.metric_analysis, metadata.metric_n_steps):
            if isinstance(kept, dict):  # the configuration, twice, and statistics of metrics
                kept.clear()
        trial.experiment_tag = ""  # all settings, as one word
        for name in ("config", "experiment_tag"):
            metadata.last_result.pop(name, None)
        trial._default_result_or_future = None  # what the process said of itself, in Ray's memory
