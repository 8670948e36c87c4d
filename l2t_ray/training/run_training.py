"""The training of one run on one device: epochs, evaluations, snapshots. Other runs beside it change nothing."""

import base64
import math
import weakref
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
from l2t_ray.models.chain import Chain
from l2t_ray.registry import IMAGE_SIZE
from l2t_ray.training.calibration import Bins
from l2t_ray.training.cuda_graph import Replay
from l2t_ray.training.kept import predictions_file, target_file
from l2t_ray.training.learner import Learner, RunState
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
        self.run, self.device, self.data = run, device, data
        self.n_epochs, self.n_done = run.training.epochs, 0
        self.learner = Learner(run, len(data.classes), source, device, data.classes)
        labels = data.train_labels
        subset = stratified_subset(labels, data.classes, run.data.samples_per_class, run.seed)
        self.images, self.labels = Images(data.train_images, subset, device), labels[subset.to(device)]
        self.measured_on = "test"
        self.judged_images, self.judged_labels = Images(data.test_images, None, device), data.test_labels
        if run.data.validation_per_class is not None:
            self.measured_on = "validation"
            held = validation_subset(labels, data.classes, run.data, run.seed)
            self.judged_images, self.judged_labels = Images(data.train_images, held, device), labels[held.to(device)]
        written_out = isinstance(self.learner.network, Chain)  # passes made by torch.func cannot be captured yet
        method = self.learner.method
        steady = method.capturable and type(method).stage is Method.stage  # every epoch has the same operations
        graphs = device.type == "cuda" and steady and written_out
        itself = weakref.ref(self)  # a cycle would hold the card's memory until the garbage collector runs

        def own_step(*given: Tensor) -> tuple[Tensor, ...]:
            training = itself()
            assert training is not None, "the caller holds the training"
            return training._step(*given)

        self.moves_alone = run.augment.is_plain and self.images.there is not None  # then a step makes its batch, too
        self.step = Replay(own_step, self.learner.tensors(), captured=graphs)
        self.evaluated = evaluation_epochs(self.n_epochs, run.record.evaluations)
        self.metrics: Metrics = {}
        self.reason = ""  # why the run has diverged
        self.tracer = Tracer(self.learner, self.images)
        self.tracer.look(0)

    def prepare(self) -> None:
        """Lets the method prepare what it needs from the training images, before the first epoch."""
        if type(self.learner.method).prepare is not Method.prepare:  # saves a float copy of all images
            self.learner.prepare(self.learner.normalized(self.images.take(torch.arange(len(self.images)))))
        if type(self.learner.method).study is not Method.study:
            self.learner.study(self._unchanged)

    def train_epoch(self, epoch: int) -> None:
        """Trains on all batches of one epoch, then measures; synchronises with the device once."""
        n_images = len(self.labels)
        rate = learning_rate(self.run.training.lr, epoch, self.n_epochs)
        lr = torch.tensor(rate, dtype=self.learner.dtype, device=self.device)
        self.learner.begin_epoch(epoch)
        loss, n_right = torch.zeros_like(lr), torch.zeros_like(lr)
        for given in self._batches(epoch):
            batch_loss, batch_right = self.step(*given, lr)
            loss += batch_loss * len(given[0])
            n_right += batch_right
        measured = {"train_loss": loss / n_images, "train_accuracy_percent": 100 * n_right / n_images}
        finite = self.learner.finite() & loss.isfinite()
        self.tracer.look(epoch + 1)
        if epoch + 1 in self.evaluated:
            measured |= self.evaluate(epoch + 1)
        self.n_done = epoch + 1
        is_finite, *values = torch.stack([value.double() for value in (finite, *measured.values())]).tolist()
        found = dict(zip(measured, values, strict=True))
        if not is_finite:
            what = "a parameter" if math.isfinite(found["train_loss"]) else "train_loss"
            self.reason = f"{what} is not finite in epoch {epoch + 1}"
            return
        for name, value in found.items():
            if math.isfinite(value):
                self.metrics.setdefault(name, []).append((epoch + 1, value))

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
            logits = torch.cat([self.learner.predict(images) for images, _ in self._judged()])
            kept[PREDICTIONS] = predictions_file(logits, self.judged_labels, self.data.classes)
        return self.tracer.files() | {name: base64.b64encode(content).decode() for name, content in kept.items()}

    def evaluate(self, epoch: int) -> dict[str, Tensor]:
        """Measures accuracy on test or validation images, calibration error and, at the end or on request, classes."""
        labels, n_classes = self.judged_labels, len(self.data.classes)
        right, bins = torch.zeros(n_classes, device=self.device), Bins(self.device)
        for images, batch in self._judged():
            logits = self.learner.predict(images)
            right.index_add_(0, batch, (logits.argmax(-1) == batch).to(right.dtype))
            bins.add(logits, batch)
        measured = {f"{self.measured_on}_accuracy_percent": 100 * right.sum() / len(labels)}
        measured[f"{self.measured_on}_ece_percent"] = bins.error_percent()
        if self.run.record.per_class or (epoch == self.n_epochs and n_classes <= FEW_CLASSES):
            by_class = 100 * right / torch.bincount(labels, minlength=n_classes)
            for name, value in zip(self.data.classes, by_class, strict=True):
                measured[f"{self.measured_on}_accuracy_class_{name}_percent"] = value
        return measured

    def _judged(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the images on which the run is judged as `Learner.predict` takes them, and their labels [B]."""
        split = torch.arange(len(self.judged_labels)).split(evaluation_batch(self.judged_images.size))
        for rows, images in zip(split, self.judged_images.batches(split), strict=True):
            x = self.learner.normalized(images)
            yield x.contiguous(memory_format=torch.channels_last), self.judged_labels[rows.to(self.device)]

    def _unchanged(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the training images without augmentation, normalised, and their labels [B]."""
        for rows in torch.arange(len(self.labels)).split(evaluation_batch(self.images.size)):
            yield self.learner.normalized(self.images.take(rows)), self.labels[rows.to(self.device)]

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Yields what `_step` takes: rows with the epoch's draws, or images and labels."""
        run, batch_size = self.run, self.run.training.batch_size
        if not self.moves_alone:
            normalized, n_classes = self.learner.normalized, len(self.data.classes)
            feed = Feed(self.images, self.labels, n_classes, run.augment, run.seed, normalized)
            yield from feed.batches(epoch, batch_size)
            return
        draws = epoch_draws(run.seed, epoch, len(self.labels), run.augment)
        order, offsets, flips = (part.to(self.device) for part in draws)
        yield from ((rows, offsets, flips) for rows in order.split(batch_size))

    def _step(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        """Trains on a batch; returns as `Learner.step`."""
        if not self.moves_alone:
            return self.learner.step(*given)
        rows, offsets, flips, lr = given
        return self.learner.step(self.batch(rows, offsets[rows], flips[rows]), self.labels[rows], lr)

    def batch(self, rows: Tensor, offsets: Tensor, flips: Tensor) -> Tensor:
        """Returns images [B, 3, H, W], moved and flipped; rows, offsets and flips are [B, ...]."""
        assert self.images.there is not None
        moved = crop_and_flip(self.images.there[rows], offsets, flips, self.run.augment.crop_padding)
        return self.learner.normalized(moved).contiguous(memory_format=torch.channels_last)
