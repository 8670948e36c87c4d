"""The training of one run on one device: epochs, evaluations, snapshots. Other runs beside it change nothing."""

import base64
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from l2t_ray.config import PREDICTIONS, TARGET, Run
from l2t_ray.data.augment import crop_and_flip, epoch_draws
from l2t_ray.data.feed import Feed
from l2t_ray.data.load import DataSet
from l2t_ray.data.place import Images
from l2t_ray.data.subsets import stratified_subset, validation_subset
from l2t_ray.methods import Method
from l2t_ray.models import Backbone
from l2t_ray.registry import IMAGE_SIZE
from l2t_ray.training.calibration import Bins
from l2t_ray.training.kept import predictions_file, target_file
from l2t_ray.training.learner import Learner
from l2t_ray.training.run_tensors import RunState
from l2t_ray.training.traces import Tracer

EVALUATION_BATCH, LEAST_BATCH = 500, 50  # images of IMAGE_SIZE; of larger ones at least
FEW_CLASSES = 20  # up to so many classes, the last evaluation measures each one: a ledger's row for each run
Metrics = dict[str, list[tuple[int, float]]]


def evaluation_epochs(n_epochs: int, n_evaluations: int) -> frozenset[int]:
    """Returns the epochs, counted from 1, after which a run is measured: evenly spread points and the last."""
    points = (math.ceil(n_epochs * i / (n_evaluations + 1)) for i in range(1, n_evaluations + 1))
    return frozenset(points) | {n_epochs}


def learning_rate(initial: float, epoch: int, n_epochs: int) -> float:
    """Returns alpha_n = alpha (1 + cos(pi n / N)) / 2 for epoch n counted from 0 (thesis 5.4)."""
    return initial * (1 + math.cos(math.pi * epoch / n_epochs)) / 2


def evaluation_batch(size: int) -> int:
    """Returns how many images are evaluated at once; fewer of larger ones, whose activations need more memory."""
    return max(LEAST_BATCH, EVALUATION_BATCH * IMAGE_SIZE**2 // size**2)


class RunTraining:
    """One run's learner, its images on the device, and the measurements so far.

    Args:
        run: its settings.
        data: the data set on the device, with the run's classes.
        source: the frozen source network, or None.
        device: where to train.
    """

    def __init__(self, run: Run, data: DataSet, source: Backbone | None, device: torch.device) -> None:
        self.device, self.n_epochs = device, run.training.epochs
        self.learner = Learner(run, len(data.classes), source, device, data.classes)
        self.measured_on = "test" if run.data.validation_per_class is None else "validation"
        self.lr, self.loss, self.n_right = (torch.zeros((), dtype=self.learner.dtype, device=device) for _ in range(3))
        self.right, self.bins = torch.zeros(len(data.classes), device=device), Bins(device)
        subset = self._subset(run, data)
        self.images, self.labels = Images(data.train_images, subset, device), data.train_labels[subset.to(device)]
        self.offsets = torch.zeros(len(subset), 2, dtype=torch.long, device=device)
        self.flips = torch.zeros(len(subset), dtype=torch.bool, device=device)
        self._start(run, data)

    def load(self, run: Run, data: DataSet) -> None:
        """Takes another run of the same shape in the place of this one; every tensor stays where it is.

        Args:
            run: it differs in seed and scalar settings alone (`pack_shape`).
            data: the same data set, where there is room for it.
        """
        subset = self._subset(run, data)
        self.learner.load(run)
        self.images.replace(data.train_images, subset)
        self.labels.copy_(data.train_labels[subset.to(self.device)])
        self._start(run, data)

    def _subset(self, run: Run, data: DataSet) -> Tensor:
        return stratified_subset(data.train_labels, data.classes, run.data.samples_per_class, run.seed)

    def _start(self, run: Run, data: DataSet) -> None:
        self.run, self.data, self.n_done = run, data, 0
        self.moves_alone = run.augment.is_plain and self.images.there is not None  # then a step makes its batch, too
        self.evaluated = evaluation_epochs(self.n_epochs, run.record.evaluations)
        self.judged_images, self.judged_labels = Images(data.test_images, None, self.device), data.test_labels
        if run.data.validation_per_class is not None:
            held, labels = validation_subset(data.train_labels, data.classes, run.data, run.seed), data.train_labels
            self.judged_images, self.judged_labels = (
                Images(data.train_images, held, self.device),
                labels[held.to(self.device)],
            )
        self.metrics: Metrics = {}
        self.reason = ""  # why the run has diverged
        self.tracer = Tracer(self.learner, self.images)
        self.tracer.look(0)

    @property
    def is_steady(self) -> bool:
        """Whether every step has the same operations, which a CUDA graph needs."""
        return self.learner.method.capturable and type(self.learner.method).stage is Method.stage

    def prepare(self) -> None:
        """Lets the method prepare what it needs from the training images, before the first epoch."""
        if type(self.learner.method).prepare is not Method.prepare:  # saves a float copy of all images
            self.learner.prepare(self.learner.normalized(self.images.take(torch.arange(len(self.images)))))
        if type(self.learner.method).study is not Method.study:
            self.learner.study(self._unchanged)

    def begin_epoch(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Draws an epoch, counted from 0; returns the arguments of each of its steps."""
        run = self.run
        self.lr.fill_(learning_rate(run.training.lr, epoch, self.n_epochs))
        self.loss.zero_()
        self.n_right.zero_()
        self.learner.begin_epoch(epoch)
        if not self.moves_alone:
            n_classes, normalized = len(self.data.classes), self.learner.normalized
            feed = Feed(self.images, self.labels, n_classes, run.augment, run.seed, normalized)
            return feed.batches(epoch, run.training.batch_size)
        order, offsets, flips = epoch_draws(run.seed, epoch, len(self.labels), run.augment)
        self.offsets.copy_(offsets)
        self.flips.copy_(flips)
        return ((rows,) for rows in order.to(self.device).split(run.training.batch_size))

    def step(self, *given: Tensor) -> None:
        """Trains on a batch: on the images at some rows [B] with the epoch's draws, or on images and labels."""
        x, labels = (self.batch(*given), self.labels[given[0]]) if self.moves_alone else given
        batch_loss, batch_right = self.learner.step(x, labels, self.lr)
        self.loss.add_(batch_loss * len(x))
        self.n_right.add_(batch_right)

    def end_epoch(self, epoch: int) -> None:
        """Measures the epoch, after its evaluation if it has one; synchronises with the device once."""
        n_images = len(self.labels)
        measured = {"train_loss": self.loss / n_images, "train_accuracy_percent": 100 * self.n_right / n_images}
        learner = self.learner
        finite = {"train_loss": self.loss.isfinite(), "a parameter": learner.finite()}
        finite["a running statistic"] = learner.finite_statistics()
        self.tracer.look(epoch + 1)
        if epoch + 1 in self.evaluated:
            measured |= self._judgement(epoch + 1)
            finite["a prediction"] = measured[f"{self.measured_on}_ece_percent"].isfinite()
        self.n_done = epoch + 1
        values = torch.stack([value.double() for value in (*finite.values(), *measured.values())]).tolist()
        if wrong := [name for name, is_finite in zip(finite, values, strict=False) if not is_finite]:
            self.reason = f"{wrong[0]} is not finite in epoch {epoch + 1}"
            return
        for name, value in zip(measured, values[len(finite) :], strict=True):
            if math.isfinite(value):
                self.metrics.setdefault(name, []).append((epoch + 1, value))

    def begin_evaluation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Forgets the evaluation before; returns the arguments of each call of `judge`."""
        self.right.zero_()
        self.bins.clear()
        split = torch.arange(len(self.judged_labels)).split(evaluation_batch(self.judged_images.size))
        labels = (self.judged_labels[rows.to(self.device)] for rows in split)
        return zip(self.judged_images.batches(split), labels, strict=True)

    def judge(self, images: Tensor, labels: Tensor) -> None:
        """Adds images, uint8 [B, 3, S, S], and their labels [B] to the evaluation."""
        logits = self.predict(images)
        self.right.index_add_(0, labels, (logits.argmax(-1) == labels).to(self.right.dtype))
        self.bins.add(logits, labels)

    def predict(self, images: Tensor) -> Tensor:
        """Returns logits [B, N] of images, uint8 [B, 3, S, S]."""
        return self.learner.predict(self.learner.normalized(images).contiguous(memory_format=torch.channels_last))

    def tensors(self) -> list[Tensor]:
        """Returns every tensor that `step` and `judge` change, in place."""
        return [*self.learner.tensors(), self.loss, self.n_right, self.right, *self.bins.tensors()]

    def snapshot(self) -> RunState:
        """Returns the run's state for `restore`; tensors and plain values alone."""
        return self.learner.state() | {
            "key": self.run.key,
            "epoch": self.n_done,
            "metrics": self.metrics,
            "reason": self.reason,
            "trace": self.tracer.state(),
        }

    def restore(self, state: RunState) -> None:
        """Continues from a snapshot."""
        assert state["key"] == self.run.key, "a state belongs to its run"
        self.learner.restore(state)
        self.tracer.restore(state["trace"])
        self.n_done, self.metrics, self.reason = state["epoch"], dict(state["metrics"]), state["reason"]

    def files(self) -> dict[str, str]:
        """Returns the files that the run asks for, as base64: its traces, and what is kept of a run that has ended."""
        kept: dict[str, bytes] = {}
        names = () if self.reason or not self.n_done else self.run.kept
        if TARGET in names:
            kept[TARGET] = target_file(self.learner, self.data.classes)
        if PREDICTIONS in names:
            logits = torch.cat([self.predict(images) for images, _ in self.begin_evaluation()])
            kept[PREDICTIONS] = predictions_file(logits, self.judged_labels, self.data.classes)
        return self.tracer.files() | {name: base64.b64encode(content).decode() for name, content in kept.items()}

    def _judgement(self, epoch: int) -> dict[str, Tensor]:
        """Returns accuracy on test or validation images, calibration error and, at the end or on request, classes."""
        labels, n_classes = self.judged_labels, len(self.data.classes)
        measured = {f"{self.measured_on}_accuracy_percent": 100 * self.right.sum() / len(labels)}
        measured[f"{self.measured_on}_ece_percent"] = self.bins.error_percent()
        if self.run.record.per_class or (epoch == self.n_epochs and n_classes <= FEW_CLASSES):
            by_class = 100 * self.right / torch.bincount(labels, minlength=n_classes)
            for name, value in zip(self.data.classes, by_class, strict=True):
                measured[f"{self.measured_on}_accuracy_class_{name}_percent"] = value
        return measured

    def _unchanged(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the training images without augmentation, normalised, and their labels [B]."""
        for rows in torch.arange(len(self.labels)).split(evaluation_batch(self.images.size)):
            yield self.learner.normalized(self.images.take(rows)), self.labels[rows.to(self.device)]

    def batch(self, rows: Tensor) -> Tensor:
        """Returns images [B, 3, S, S], moved and flipped, at `rows` [B] of the subset."""
        assert self.images.there is not None
        padding = self.run.augment.crop_padding
        moved = crop_and_flip(self.images.there[rows], self.offsets[rows], self.flips[rows], padding)
        return self.learner.normalized(moved).contiguous(memory_format=torch.channels_last)
