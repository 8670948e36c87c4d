"""Trains one pack from start to end: runs of one shape, one by one. Uses neither Ray nor MLflow."""

import itertools
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch

from l2t_ray.config import Run, pack_shape
from l2t_ray.data.load import DataSet
from l2t_ray.methods import Method
from l2t_ray.models import Backbone
from l2t_ray.models.compiling import is_compiling_allowed
from l2t_ray.models.precision import allow_tf32
from l2t_ray.registry import BUILTIN
from l2t_ray.training.cuda_graph import Replay
from l2t_ray.training.device import keep_freed_memory
from l2t_ray.training.run_tensors import RunState
from l2t_ray.training.run_training import Metrics, RunTraining

OnEpoch = Callable[[int, Callable[[], list[RunState]]], None]


@dataclass(frozen=True)
class Outcome:
    """The result of one run."""

    key: str  # the run's
    status: Literal["finished", "diverged"]  # "diverged" when a loss, a parameter or a prediction was not finite
    reason: str  # empty when finished
    metrics: Metrics  # (epoch, value) by name, epochs counted from 1
    wall_s: float  # seconds of training, all sessions added up; the runs of a pack share its time evenly
    peak_bytes: int  # as `peak_bytes` returns it
    # files as base64, by name: `traces.parquet` and what `record:` keeps, where the run asks for them
    artifacts: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values, which `spool.Ended.from_json` reads."""
        return asdict(self)


@torch.no_grad()
def train(
    runs: Sequence[Run],
    data: DataSet,
    source: Backbone | None,
    *,
    device: torch.device,
    states: Sequence[RunState | None] | None = None,
    on_epoch: OnEpoch | None = None,
) -> list[Outcome]:
    """Trains one pack.

    Args:
        runs: of equal shape (`pack_shape`).
        data: the data set, with the runs' classes.
        source: the frozen source network, or None.
        device: where to train.
        states: snapshots of an earlier session, one for each run and all of one epoch, or None.
        on_epoch: called after every epoch with the number of epochs done and a function that takes a snapshot; an
            exception that it raises ends the training and passes through.

    Returns:
        An outcome for each run, in order.
    """
    assert len({pack_shape(run) for run in runs}) == 1, "a pack holds runs of equal shape"
    pack = Pack(runs, data.placed(device), source, device)
    if states is not None and all(state is not None for state in states):
        pack.restore([state for state in states if state is not None])
    else:
        pack.prepare()
    for epoch in range(pack.n_done, pack.n_epochs):
        pack.train_epoch(epoch)
        if on_epoch is not None:
            on_epoch(epoch + 1, pack.snapshot)
        if all(training.reason for training in pack.trainings):
            break
    pack.keep()
    return pack.outcomes()


def look_at_start(run: Run, data: DataSet, source: Backbone | None, device: torch.device) -> Outcome:
    """Returns a run's outcome without a single step: no metrics, and a trace with the values before training.

    Args:
        run: the run.
        data: the data set, with the run's classes.
        source: the frozen source network, or None.
        device: where to compute.

    Raises:
        InputError: if the trace asks for something that does not exist.
    """
    return Pack([run], data.placed(device), source, device).outcomes()[0]


def try_batch(
    run: Run, data: DataSet, source: Backbone | None, device: torch.device, *, leaves_one: bool = False
) -> int:
    """Trains a run on two images, in the method's first and last stage, and classifies them: what raises, raises now.

    Args:
        run: the run; its data must have at least two classes.
        data: the data set, with the run's classes.
        source: the frozen source network, or None.
        device: where to compute.
        leaves_one: whether a batch of one image is tried, too.

    Returns:
        The bytes of the run's state.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        training = RunTraining(run, data.placed(device), source, device)
        training.images, training.judged_images = training.images.first(2), training.judged_images.first(2)
        for name in ("labels", "offsets", "flips", "judged_labels"):
            setattr(training, name, getattr(training, name)[:2])
        training.prepare()
        epochs = {0} if type(training.learner.method).stage is Method.stage else {0, training.n_epochs - 1}
        for epoch in sorted(epochs):
            for arguments in training.begin_epoch(epoch):
                training.step(*arguments)
                if leaves_one:
                    training.step(*(part[:1] for part in arguments))
        for arguments in training.begin_evaluation():
            training.judge(*arguments)
        return sum(tensor.nbytes for tensor in training.learner.tensors())


@dataclass
class _Kept:
    """The tensors and graphs of the pack before, for the next one of its shape; at most one in a process."""

    shape: object
    source: Backbone | None  # the graphs read its weights
    trainings: list[RunTraining]
    step: Replay
    judge: Replay


_kept: list[_Kept] = []


def forget_kept() -> None:
    """Frees the tensors and graphs of the pack before."""
    _kept.clear()


class Pack:
    """The trainings of one pack, a step of each in turn; they share nothing but the data set and the source.

    On a card a step of all of them is one CUDA graph, which stays for the next pack of the same shape.

    Args:
        runs: of equal shape.
        data: the data set on the device, with the runs' classes.
        source: the frozen source network, or None.
        device: where to train.
    """

    def __init__(self, runs: Sequence[Run], data: DataSet, source: Backbone | None, device: torch.device) -> None:
        allow_tf32(runs[0].training.precision)
        self.device, self.source, self.n_epochs, self.n_done = device, source, runs[0].training.epochs, 0
        how = (str(device), is_compiling_allowed())
        self.shape = (pack_shape(runs[0]), len(runs), data.sha256, data.classes, how)
        kept = _kept.pop() if _kept else None
        if kept is not None and (kept.shape, kept.source) != (self.shape, source):
            kept = None
        _prepare(device)
        if kept is not None:
            self.trainings, self.step, self.judge = kept.trainings, kept.step, kept.judge
            for training, run in zip(self.trainings, runs, strict=True):
                training.load(run, data)
        else:
            self.trainings = [RunTraining(run, data, source, device) for run in runs]
            state = [tensor for training in self.trainings for tensor in training.tensors()]
            on_card = device.type == "cuda"
            steady = all(training.is_steady for training in self.trainings)
            self.step = Replay([training.step for training in self.trainings], state, captured=on_card and steady)
            self.judge = Replay([training.judge for training in self.trainings], state, captured=on_card)
        self.earlier_s, self.started_s = [0.0] * len(runs), time.perf_counter()

    def keep(self) -> None:
        """Keeps tensors and graphs for the next pack of this process, if it has graphs."""
        method = self.trainings[0].learner.method
        is_own = type(method).target is not Method.target and not type(method).__module__.startswith(BUILTIN)
        if is_own:  # its network may have drawn what `load` does not draw again
            return
        if self.step.captured or self.judge.captured:
            _kept[:] = [_Kept(self.shape, self.source, self.trainings, self.step, self.judge)]

    def prepare(self) -> None:
        """Lets the method prepare each run, before the first epoch."""
        for training in self.trainings:
            training.prepare()

    def train_epoch(self, epoch: int) -> None:
        """Trains one epoch of every run that has not diverged, and measures it."""
        live = [not training.reason for training in self.trainings]
        for arguments in zip(*[training.begin_epoch(epoch) for training in self.trainings], strict=True):
            self.step(arguments, live)
        if any(epoch + 1 in training.evaluated for training in self.trainings):
            for batches in zip(*[training.begin_evaluation() for training in self.trainings], strict=True):
                self.judge(batches, live)
        for training in itertools.compress(self.trainings, live):
            training.end_epoch(epoch)
        self.n_done = epoch + 1

    def snapshot(self) -> list[RunState]:
        """Returns each run's state for `restore`; tensors and plain values alone."""
        return [
            training.snapshot() | {"epoch": self.n_done, "wall_s": wall_s}
            for training, wall_s in zip(self.trainings, self._wall_s(), strict=True)
        ]

    def restore(self, states: Sequence[RunState]) -> None:
        """Continues from a snapshot."""
        assert len({state["epoch"] for state in states}) == 1, "runs of one pack continue from the same epoch"
        for training, state in zip(self.trainings, states, strict=True):
            training.restore(state)
        self.n_done = states[0]["epoch"]
        self.earlier_s = [state["wall_s"] for state in states]

    def outcomes(self) -> list[Outcome]:
        """Returns an outcome for each run."""
        peak = peak_bytes(self.device)
        return [
            Outcome(
                key=training.run.key,
                status="diverged" if training.reason else "finished",
                reason=training.reason,
                metrics=training.metrics,
                wall_s=wall_s,
                peak_bytes=peak,
                artifacts=training.files(),
            )
            for training, wall_s in zip(self.trainings, self._wall_s(), strict=True)
        ]

    def _wall_s(self) -> list[float]:
        """Returns each run's seconds: those of earlier sessions, and its share of this one's."""
        share_s = (time.perf_counter() - self.started_s) / len(self.trainings)
        return [earlier_s + share_s for earlier_s in self.earlier_s]


def _prepare(device: torch.device) -> None:
    """Sets what holds for this process; frees the memory of the pack before, if nothing of it is kept."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        torch.backends.cudnn.benchmark = True  # shapes do not change, so cuDNN may choose by measurement
    else:
        keep_freed_memory()


def peak_bytes(device: torch.device) -> int:
    """Returns the device allocator's peak; on a CPU the process' peak resident set."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
