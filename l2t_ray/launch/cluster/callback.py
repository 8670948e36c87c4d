"""Tune's callback: passes events on to queue, progress and recorder, and ends processes that hang."""

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
from l2t_ray.launch.live.progress import Progress
from l2t_ray.ledger.recorder import Recorder

PATIENCE = 30.0  # an epoch hangs after `execution.hang_s` plus thirty times its expected time
BLIND_S = 6 * 3600.0  # if the expected time is unknown
LOOK_S = 1.0
NODE_LOOK_S = 5.0

REASON_UNKNOWN = "the worker process died (killed, or out of memory)"


@dataclass
class Watched:
    """A trial whose epochs are timed, so that a hung process can be ended."""

    trial: Any
    since: float  # time of the last report of a new epoch
    epoch: int = -1
    longest_s: float = 0.0  # the longest epoch so far

    def saw(self, epoch: int, now: float) -> None:
        """Takes a worker's report: `epoch` epochs are done."""
        if epoch > self.epoch:
            if self.epoch >= 0:
                self.longest_s = max(self.longest_s, (now - self.since) / (epoch - self.epoch))
            self.epoch, self.since = epoch, now

    def limit_s(self, expected_s: float | None, hang_s: float) -> float:
        """Seconds that the next epoch may take: generous, because another process may use the device."""
        known = max(self.longest_s, expected_s or 0.0)
        return hang_s + (PATIENCE * known if known else BLIND_S)


class NodeLostError(RuntimeError):
    """Ray's processes on this machine are gone; without this error Tune would wait for ever."""


class Events(DriverOnly, tune.Callback):  # type: ignore[misc]  # ray is untyped
    """Passes Tune's events on to queue, progress and recorder, and ends hung processes.

    Args:
        queue: of the launch.
        progress: of the launch.
        recorder: of the launch.
        usage: samples this machine's devices; None samples nothing.
        epoch_s: how long an epoch of a pack should take, in seconds; None if unknown.
        hang_s: the least time that an epoch may take before its process counts as hung.
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
        self._longest_s: dict[tuple[str, str], float] = {}  # the longest epoch of a shape on a device, over all packs
        self._watched: dict[str, Watched] = {}
        self._hung: dict[str, str] = {}
        self._look_at = self._node_look_at = 0.0
        self._error: Exception | None = None

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Runs once in every round of Tune's loop.

        Raises:
            Exception: what went wrong in this process; Tune would take it for the trial's.
            NodeLostError: if Ray on this machine is gone.
        """
        if self._error is not None:
            raise self._error
        self._recorder.retry()
        if self._usage is not None:
            self._usage.tick()
            self._progress.devices = self._usage.latest
        self._progress.tick()
        self._kill_hung()
        self._look_at_node()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A pack has got its device."""
        if (pack := self._queue.started(trial.trial_id)) is not None:
            keys = [run.key for run in pack.runs]
            self._progress.began(trial.trial_id, keys, pack.shape, pack.group.device, pack.share.slots)
        self._watched[trial.trial_id] = Watched(trial, self._now())

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A worker has reported its progress."""
        watched, pack = self._watched.get(trial.trial_id), self._queue.live.get(trial.trial_id)
        if watched is not None:
            watched.saw(result.get("epoch", -1), self._now())
            if pack is not None:
                kind = (pack.shape, pack.group.device)
                self._longest_s[kind] = max(self._longest_s.get(kind, 0.0), watched.longest_s)
        if result.get("epochs") and pack is not None:  # 0 until the worker has read the pack
            self._progress.reached(trial.trial_id, result["epoch"], result["epochs"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A pack has been trained."""
        watched, pack = self._watched.pop(trial.trial_id, None), self._queue.live.get(trial.trial_id)
        if watched is not None and pack is not None and watched.epoch < 1:  # a trainer that logs no epochs
            kind = (pack.shape, pack.group.device)
            self._longest_s[kind] = max(self._longest_s.get(kind, 0.0), self._now() - watched.since)
        try:
            # removed from the result, because Tune keeps every trial in memory
            self._queue.complete(trial.trial_id, trial.last_result.pop("outcomes"), trial.last_result["device"])
            self._progress.stopped(trial.trial_id)
            _forget(trial)
        except Exception as error:
            self._error = error  # Tune would take it for the trial's; raised in `on_step_end`

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A pack raised, or its process died."""
        watched = self._watched.pop(trial.trial_id, None)
        ended = failure(trial)
        hung = self._hung.pop(trial.trial_id, None)
        try:
            if hung or ended.died:
                self._queue.lose(trial.trial_id, hung or ended.reason, watched.epoch if watched else 0)
            else:
                self._queue.fail(
                    trial.trial_id,
                    ended.reason,
                    hopeless=ended.hopeless,
                    memory=ended.memory,
                    machine=ended.machine,
                    trace=ended.trace,
                )
            self._progress.stopped(trial.trial_id)
            _forget(trial)
        except Exception as error:
            self._error = error  # as above

    def _look_at_node(self) -> None:
        """Raises if Ray's process on this machine has died: the launch could start nothing more."""
        now = self._now()
        if now < self._node_look_at or not ray.is_initialized():
            return
        self._node_look_at = now + NODE_LOOK_S
        mine = ray.get_runtime_context().get_node_id()
        if any(node["NodeID"] == mine and not node["Alive"] for node in ray.nodes()):
            raise NodeLostError

    def _kill_hung(self) -> None:
        """Ends processes whose epoch takes too long; Tune then reports an error of the trial."""
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
    hopeless: bool = False  # another attempt would end the same way
    memory: bool = False  # memory ran out
    died: bool = False  # its process or node is gone; the training may not be the cause
    machine: bool = False  # a disk, the network or a card may be the cause
    trace: str = ""  # all lines of the error


def failure(trial: Any) -> Failure:
    """Reads why a trial ended without a result from what Tune keeps of it."""
    try:
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())  # written by this process a moment ago
    except (OSError, TypeError, EOFError, pickle.UnpicklingError):  # missing or incomplete: the disk is full
        return Failure(REASON_UNKNOWN, died=True)
    cause = getattr(error, "cause", None)
    if isinstance(cause, PackFailedError):
        return Failure(cause.reason, cause.hopeless, cause.memory, machine=cause.machine, trace=cause.trace)
    text = " ".join(str(error).split())
    memory = "OutOfMemoryError" in type(error).__name__ or "running low on memory" in text  # Ray's memory monitor
    return Failure(f"{REASON_UNKNOWN}: {text[:300]}", memory=memory, died=not memory)


def _forget(trial: Any) -> None:
    """Empties what Tune keeps of an ended trial; otherwise it is most of the memory that a run costs the driver."""
    with suppress(AttributeError):  # another version of Ray keeps it elsewhere
        metadata = trial.run_metadata
        for kept in (*vars(trial).values(), metadata.metric_analysis, metadata.metric_n_steps):
            if isinstance(kept, dict):  # the configuration, twice, and statistics
                kept.clear()
        trial.experiment_tag = ""  # all settings as one text
        for name in ("config", "experiment_tag"):
            metadata.last_result.pop(name, None)
        trial._default_result_or_future = None  # the actor's description, in Ray's object store
