"""Trains one pack from start to end: epochs, evaluations, outcomes. Uses neither Ray nor MLflow."""

import base64
import math
import resource
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from l2t_ray.config import PREDICTIONS, TARGET, Run, pack_shape
from l2t_ray.data.augment import crop_and_flip, epoch_draws, normalize
from l2t_ray.data.load import DataSet
from l2t_ray.data.subsets import stratified_subset, validation_subset
from l2t_ray.methods import Method
from l2t_ray.models import Backbone
from l2t_ray.models.chain import Chain
from l2t_ray.models.precision import allow_tf32
from l2t_ray.training.calibration import Bins
from l2t_ray.training.cuda_graph import Replay
from l2t_ray.training.device import keep_freed_memory
from l2t_ray.training.kept import predictions_file, target_file
from l2t_ray.training.learner import Learner, RunState
from l2t_ray.training.traces import Tracer

EVALUATION_BATCH = 500
FEW_CLASSES = 20  # up to so many classes, the last evaluation measures each one: a ledger's row for each run
Metrics = dict[str, list[tuple[int, float]]]
OnEpoch = Callable[[int, Callable[[], list[RunState]]], None]


@dataclass(frozen=True)
class Outcome:
    """The result of one run."""

    key: str  # the run's
    status: Literal["finished", "diverged"]  # "diverged" when a loss or a parameter was not finite
    reason: str  # empty when finished
    metrics: Metrics  # (epoch, value) by name, epochs counted from 1
    wall_s: float  # seconds of training, all sessions added up; the runs of a pack share its time evenly
    peak_bytes: int  # as `peak_bytes` returns it
    # files as base64, by name: `traces.parquet` and what `record:` keeps, where the run asks for them
    artifacts: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values, which `spool.Ended.from_json` reads."""
        return asdict(self)


def evaluation_epochs(n_epochs: int, n_evaluations: int) -> frozenset[int]:
    """Returns the epochs, counted from 1, after which a run is measured: evenly spread points and the last."""
    points = (math.ceil(n_epochs * i / (n_evaluations + 1)) for i in range(1, n_evaluations + 1))
    return frozenset(points) | {n_epochs}


def learning_rate(initial: float, epoch: int, n_epochs: int) -> float:
    """Returns alpha_n = alpha (1 + cos(pi n / N)) / 2 for epoch n counted from 0 (thesis 5.4)."""
    return initial * (1 + math.cos(math.pi * epoch / n_epochs)) / 2


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
        runs: K runs of equal shape (`pack_shape`).
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
    pack = Pack(runs, data, source, device)
    if states is not None and all(state is not None for state in states):
        pack.restore([state for state in states if state is not None])
    else:
        pack.prepare()
    for epoch in range(pack.n_done, pack.n_epochs):
        pack.train_epoch(epoch)
        if on_epoch is not None:
            on_epoch(epoch + 1, pack.snapshot)
        if all(pack.reasons):
            break
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
    return Pack([run], data, source, device).outcomes()[0]


def try_batch(run: Run, data: DataSet, source: Backbone | None, device: torch.device) -> int:
    """Trains a run on two images, in the method's first and last stage, and classifies them: what raises, raises now.

    Args:
        run: the run; its data must have at least two classes.
        data: the data set, with the run's classes.
        source: the frozen source network, or None.
        device: where to compute.

    Returns:
        The bytes of the run's state.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        pack = Pack([run], data, source, device)
        pack.images, pack.labels = pack.images[:, :2], pack.labels[:, :2]
        pack.judged_images, pack.judged_labels = pack.judged_images[:2], pack.judged_labels[:2]
        pack.prepare()
        pack.train_epoch(0)
        if type(pack.learner.method).stage is not Method.stage:
            pack.train_epoch(pack.n_epochs - 1)
        pack.evaluate(1)
        return sum(tensor.nbytes for tensor in pack.learner.tensors())


class Pack:
    """The training of one pack: the learner, the images on the device, and the measurements so far."""

    def __init__(self, runs: Sequence[Run], data: DataSet, source: Backbone | None, device: torch.device) -> None:
        allow_tf32(runs[0].training.precision)
        if device.type == "cuda":
            torch.cuda.empty_cache()  # frees the memory of the pack before
            torch.cuda.reset_peak_memory_stats(device)
            torch.backends.cudnn.benchmark = True  # shapes do not change, so cuDNN may choose by measurement
        else:
            keep_freed_memory()
        self.runs, self.device, self.data = runs, device, data.to(device)
        self.n_epochs, self.n_done = runs[0].training.epochs, 0
        self.learner = Learner(runs, len(data.classes), source, device, data.classes)
        samples = [stratified_subset(data.train_labels, data.classes, r.data.samples_per_class, r.seed) for r in runs]
        subsets = torch.stack(samples).to(device)
        self.images, self.labels = self.data.train_images[subsets], self.data.train_labels[subsets]
        self.measured_on = "test"
        self.judged_images, self.judged_labels = self.data.test_images, self.data.test_labels
        if runs[0].data.validation_per_class is not None:
            self.measured_on = "validation"
            held = torch.stack([validation_subset(data.train_labels, data.classes, r.data, r.seed) for r in runs])
            held = held.to(device)
            self.judged_images = self.data.train_images[held].transpose(0, 1)  # [M, K, 3, 32, 32]
            self.judged_labels = self.data.train_labels[held[0]]  # class by class: the same for every run
        self.rows = torch.arange(len(runs), device=device)[:, None]
        written_out = isinstance(self.learner.network, Chain)  # passes made by torch.func cannot be captured yet
        method = self.learner.method
        steady = method.capturable and type(method).stage is Method.stage  # every epoch has the same operations
        graphs = device.type == "cuda" and steady and written_out
        itself = weakref.ref(self)  # a cycle would hold the card's memory until the garbage collector runs

        def own_step(*given: Tensor) -> tuple[Tensor, ...]:
            pack = itself()
            assert pack is not None, "the caller holds the pack"
            return pack._step(*given)

        self.step = Replay(own_step, self.learner.tensors(), captured=graphs)
        self.evaluated = evaluation_epochs(self.n_epochs, runs[0].record.evaluations)
        self.metrics: list[Metrics] = [{} for _ in runs]
        self.reasons = ["" for _ in runs]
        self.tracer = Tracer(runs, self.learner, self.images)
        self.tracer.look(0)
        self.earlier_s, self.started_s = [0.0] * len(runs), time.perf_counter()

    def prepare(self) -> None:
        """Lets the method prepare what it needs from the training images, before the first epoch."""
        if type(self.learner.method).prepare is Method.prepare:
            return  # saves a float copy of all images
        flat = normalize(self.images.flatten(0, 1), self.learner.dtype)
        self.learner.prepare(flat.unflatten(0, self.images.shape[:2]))

    def train_epoch(self, epoch: int) -> None:
        """Trains on all batches of one epoch, then measures; synchronises with the device once."""
        n_images, batch_size = self.labels.shape[1], self.runs[0].training.batch_size
        draws = [epoch_draws(run.seed, epoch, n_images, run.augment) for run in self.runs]
        order, offsets, flips = (torch.stack(parts).to(self.device) for parts in zip(*draws, strict=True))
        rates = [learning_rate(run.training.lr, epoch, self.n_epochs) for run in self.runs]
        lr = torch.tensor(rates, dtype=self.learner.dtype, device=self.device)
        self.learner.begin_epoch(epoch)
        loss, n_right = torch.zeros_like(lr), torch.zeros_like(lr)
        for start in range(0, n_images, batch_size):
            rows = order[:, start : start + batch_size]
            batch_loss, batch_right = self.step(rows, offsets, flips, lr)
            loss += batch_loss * rows.shape[1]
            n_right += batch_right
        measured = {"train_loss": loss / n_images, "train_accuracy_percent": 100 * n_right / n_images}
        finite = self.learner.finite() & loss.isfinite()
        self.tracer.look(epoch + 1)
        if epoch + 1 in self.evaluated:
            measured |= self.evaluate(epoch + 1)
        self.n_done = epoch + 1
        for k, ok in enumerate(finite.tolist()):
            if not ok and not self.reasons[k]:
                what = "a parameter" if math.isfinite(float(loss[k])) else "train_loss"
                self.reasons[k] = f"{what} is not finite in epoch {epoch + 1}"
        for name, values in measured.items():
            for k, value in enumerate(values.tolist()):
                if math.isfinite(value) and not self.reasons[k]:
                    self.metrics[k].setdefault(name, []).append((epoch + 1, value))

    def snapshot(self) -> list[RunState]:
        """Returns each run's state for `restore`; tensors and plain values alone."""
        return [
            self.learner.state(k)
            | {"key": run.key, "epoch": self.n_done, "metrics": self.metrics[k], "wall_s": wall_s, "reason": reason}
            | {"trace": self.tracer.state(k)}
            for k, (run, reason, wall_s) in enumerate(zip(self.runs, self.reasons, self._wall_s(), strict=True))
        ]

    def restore(self, states: Sequence[RunState]) -> None:
        """Continues from a snapshot."""
        assert [state["key"] for state in states] == [run.key for run in self.runs], "a state belongs to its run"
        assert len({state["epoch"] for state in states}) == 1, "runs of one pack continue from the same epoch"
        self.learner.restore(states)
        self.tracer.restore([state["trace"] for state in states])
        self.n_done = states[0]["epoch"]
        self.metrics = [dict(state["metrics"]) for state in states]
        self.reasons = [state["reason"] for state in states]
        self.earlier_s = [state["wall_s"] for state in states]

    def outcomes(self) -> list[Outcome]:
        """Returns an outcome for each run."""
        peak, ended = peak_bytes(self.device), zip(self.runs, self.reasons, self.metrics, self._wall_s(), strict=True)
        kept = self._kept()
        return [
            Outcome(run.key, "diverged" if reason else "finished", reason, metrics, wall_s, peak, files)
            for k, (run, reason, metrics, wall_s) in enumerate(ended)
            for files in [self.tracer.files(k) | kept[k]]
        ]

    def _kept(self) -> list[dict[str, str]]:
        """Returns the files that each run asks for besides its traces, as base64; none of a run that diverged."""
        files: list[dict[str, bytes]] = [{} for _ in self.runs]
        logits: Tensor | None = None
        for k, (run, reason) in enumerate(zip(self.runs, self.reasons, strict=True)):
            names = () if reason or not self.n_done else run.kept
            if TARGET in names:
                files[k][TARGET] = target_file(self.learner, k, self.data.classes)
            if PREDICTIONS in names:
                logits = self._logits() if logits is None else logits
                files[k][PREDICTIONS] = predictions_file(logits[k], self.judged_labels, self.data.classes)
        return [{name: base64.b64encode(content).decode() for name, content in of_run.items()} for of_run in files]

    def _logits(self) -> Tensor:
        """Returns the logits of all images on which the runs are judged, [K, M, N]."""
        return torch.cat([self.learner.predict(images) for images, _ in self._judged()], 1)

    def _judged(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the images on which the runs are judged as `Learner.predict` takes them, and their labels [B]."""
        for start in range(0, len(self.judged_labels), EVALUATION_BATCH):
            images = normalize(self.judged_images[start : start + EVALUATION_BATCH], self.learner.dtype)
            images = images.flatten(1, -3)  # each run has its own validation images: [B, K*3, 32, 32]
            labels = self.judged_labels[start : start + EVALUATION_BATCH]
            yield images.contiguous(memory_format=torch.channels_last), labels

    def _wall_s(self) -> list[float]:
        """Returns each run's seconds: those of earlier sessions, and its share of this one's."""
        share_s = (time.perf_counter() - self.started_s) / len(self.runs)
        return [earlier_s + share_s for earlier_s in self.earlier_s]

    def _step(self, rows: Tensor, offsets: Tensor, flips: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Trains on the images at `rows` [K, B] of each subset with an epoch's draws; returns as `Learner.step`."""
        images = self.batch(rows, offsets.gather(1, rows[..., None].expand(-1, -1, 2)), flips.gather(1, rows))
        return self.learner.step(images, self.labels[self.rows, rows], lr)

    def batch(self, rows: Tensor, offsets: Tensor, flips: Tensor) -> Tensor:
        """Returns augmented images [B, K*3, 32, 32]; rows, offsets and flips are [K, B, ...]."""
        chosen = self.images[self.rows, rows].flatten(0, 1)
        moved = crop_and_flip(chosen, offsets.flatten(0, 1), flips.flatten(), self.runs[0].augment.crop_padding)
        x: Tensor = normalize(moved, self.learner.dtype).unflatten(0, rows.shape).transpose(0, 1).flatten(1, 2)
        return x.contiguous(memory_format=torch.channels_last)

    def evaluate(self, epoch: int) -> dict[str, Tensor]:
        """Measures accuracy on test or validation images, calibration error and, at the end or on request, classes."""
        labels, n_classes = self.judged_labels, len(self.data.classes)
        right, bins = torch.zeros(len(self.runs), n_classes, device=self.device), Bins(len(self.runs), self.device)
        for images, batch in self._judged():
            logits = self.learner.predict(images)
            right.index_add_(1, batch, (logits.argmax(-1) == batch).to(right.dtype))
            bins.add(logits, batch)
        measured = {f"{self.measured_on}_accuracy_percent": 100 * right.sum(1) / len(labels)}
        measured[f"{self.measured_on}_ece_percent"] = bins.error_percent()
        if self.runs[0].record.per_class or (epoch == self.n_epochs and n_classes <= FEW_CLASSES):
            counts = torch.bincount(labels, minlength=n_classes)
            for index, name in enumerate(self.data.classes):
                measured[f"{self.measured_on}_accuracy_class_{name}_percent"] = 100 * right[:, index] / counts[index]
        return measured


def peak_bytes(device: torch.device) -> int:
    """Returns the device allocator's peak; on a CPU the process' peak resident set."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
