"""Trains a source network; on a CPU it continues bitwise from a checkpoint.

The recipe is the published networks': SGD, the rate times 0.1 at half and three quarters of the epochs, batch 128.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from l2t_ray import models
from l2t_ray.data.augment import normalize
from l2t_ray.data.feed import Feed
from l2t_ray.data.load import DataSet
from l2t_ray.data.place import Images
from l2t_ray.data.streams import stream
from l2t_ray.data.subsets import stratified_subset
from l2t_ray.errors import InputError
from l2t_ray.models.precision import allow_tf32, parameter_type
from l2t_ray.training.checkpoint import load_state, save_state
from l2t_ray.training.cuda_graph import Replay
from l2t_ray.training.run_training import evaluation_batch, evaluation_epochs
from l2t_ray.training.source_settings import Pretraining, SourceNetwork, SourceTraining

DECAY = 0.1
EVALUATIONS = 10  # during training; the last epoch always has one
Metrics = dict[str, list[tuple[int, float]]]


@dataclass
class Progress:
    """A training so far, as its checkpoint stores it."""

    epoch: int = 0  # epochs done
    metrics: Metrics = field(default_factory=dict)  # (epoch, value) by name, epochs counted from 1
    wall_s: float = 0.0  # seconds of training, all sessions added up


def learning_rate(settings: SourceTraining, epoch: int) -> float:
    """Returns the rate in an epoch counted from 0: lr times 0.1 for every milestone that has passed."""
    return float(settings.lr * DECAY ** sum(epoch >= share * settings.epochs for share in settings.milestones))


def train_source(
    settings: Pretraining,
    data: DataSet,
    *,
    device: torch.device,
    checkpoint: Path,
    on_epoch: Callable[[Progress], None],
) -> tuple[models.Backbone, Progress]:
    """Trains a source network, or continues from its checkpoint if that has the same settings.

    Args:
        settings: all of them.
        data: the data set they name.
        device: where to train.
        checkpoint: written after every epoch; it stays.
        on_epoch: called after every epoch, once its checkpoint is on disk.

    Returns:
        The network in eval mode on the CPU, in float32, and the measurements.

    Raises:
        InputError: if the loss is not finite.
    """
    training, resolved = settings.training, settings.resolved()
    allow_tf32(training.precision)
    dtype = parameter_type(training.precision)
    source, image_size = settings.source, data.train_images.shape[-1]
    network = models.build(source.arch, source.width, len(data.classes), image_size, source.levels)
    network.redraw(stream(settings.seed, "init"))
    if settings.source.weights is not None:
        _start(network, settings.source, image_size)
    network.classes = data.classes
    network.history = (*network.history, {"data": data.name, "classes": list(data.classes), "sha256": data.sha256})
    network.to(device, dtype).to(memory_format=torch.channels_last)
    subset = stratified_subset(data.train_labels, data.classes, settings.data.samples_per_class, settings.seed)
    data = data.placed(device)
    images, labels = Images(data.train_images, subset, device), data.train_labels[subset.to(device)]
    feed = Feed(
        images, labels, len(data.classes), settings.augment, settings.seed, lambda moved: normalize(moved, dtype)
    )
    steps = _Steps(settings, network, feed)
    progress = Progress()
    saved = load_state(checkpoint)
    if saved is not None and saved["settings"] == resolved:
        network.load_state_dict(saved["network"])
        steps.load(saved["optimizer"])
        progress = Progress(saved["epoch"], saved["metrics"], saved["wall_s"])
    evaluated = evaluation_epochs(training.epochs, EVALUATIONS)
    for epoch in range(progress.epoch, training.epochs):
        started_s = time.perf_counter()
        measured = steps.train_epoch(epoch)
        if not math.isfinite(measured["train_loss"]):
            raise InputError(
                f"training.lr must keep the loss finite, got {training.lr:g}: train_loss is "
                f"{measured['train_loss']} in epoch {epoch + 1}; lower it"
            )
        if epoch + 1 in evaluated:
            measured["test_accuracy_percent"] = compute_accuracy_percent(network, data.test_images, data.test_labels)
        for name, value in measured.items():
            progress.metrics.setdefault(name, []).append((epoch + 1, value))
        progress.epoch = epoch + 1
        progress.wall_s += time.perf_counter() - started_s
        state = {"settings": resolved, "network": network.state_dict(), "optimizer": steps.optimizer.state_dict()}
        save_state(checkpoint, {**state, "epoch": epoch + 1, "metrics": progress.metrics, "wall_s": progress.wall_s})
        on_epoch(progress)
    return network.to("cpu", torch.float32).to(memory_format=torch.contiguous_format).eval(), progress


def _start(network: models.Backbone, settings: SourceNetwork, image_size: int) -> None:
    """Copies everything but the classifier from other weights, and the history of what they were trained on."""
    before = models.load_source(settings, image_size)
    state = {name: tensor for name, tensor in before.state_dict().items() if not name.startswith("fc.")}
    network.load_state_dict(state, strict=False)
    network.history = before.history or ({"data": "unknown", "sha256": settings.sha256},)


class _Steps:
    """The steps of a training; on a card they are one CUDA graph."""

    def __init__(self, settings: Pretraining, network: models.Backbone, feed: Feed) -> None:
        self.settings, self.network, self.feed = settings, network, feed
        training, device, parameters = settings.training, feed.labels.device, [*network.parameters()]
        self.captured = _captures(device)  # then the rate is a tensor that a graph can read
        self.rate = torch.tensor(training.lr, device=device) if self.captured else training.lr
        self.optimizer = torch.optim.SGD(
            parameters, self.rate, training.momentum, weight_decay=training.weight_decay, fused=self.captured or None
        )
        self.momentum = [torch.zeros_like(p) for p in parameters]
        for parameter, buffer in zip(parameters, self.momentum, strict=True):
            self.optimizer.state[parameter]["momentum_buffer"] = buffer
        self.loss, self.n_right = torch.zeros((), device=device), torch.zeros((), device=device)
        state = [*network.state_dict().values(), *self.momentum, self.loss, self.n_right]
        self.step = Replay([self._step], state, captured=self.captured)

    def load(self, optimizer: dict[str, Any]) -> None:
        """Continues from the optimizer's state of a checkpoint."""
        for place, buffer in enumerate(self.momentum):
            buffer.copy_(optimizer["state"][place]["momentum_buffer"])

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Trains on all batches of an epoch and returns its measurements; synchronises with the device once."""
        n_images = len(self.feed.labels)
        self.loss.zero_()
        self.n_right.zero_()
        for group in self.optimizer.param_groups:
            rate = learning_rate(self.settings.training, epoch)
            group["lr"] = group["lr"].fill_(rate) if self.captured else rate
        self.network.train()
        for batch in self.feed.batches(epoch, self.settings.training.batch_size):
            self.step([batch], [True])
        loss, n_right = torch.stack([self.loss, self.n_right]).tolist()
        return {"train_loss": loss / n_images, "train_accuracy_percent": 100 * n_right / n_images}

    def _step(self, x: Tensor, labels: Tensor) -> None:
        bf16 = self.settings.training.precision == "bf16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            logits = self.network(x)
        logits = logits.to(self.network.fc.weight.dtype)
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.loss.add_(loss.detach() * len(x))
        self.n_right.add_((logits.detach().argmax(1) == (labels.argmax(1) if labels.dim() > 1 else labels)).sum())


def _captures(device: torch.device) -> bool:
    return device.type == "cuda"


@torch.no_grad()
def compute_accuracy_percent(network: models.Backbone, images: Tensor, labels: Tensor) -> float:
    """Returns the percentage of images that a network classifies correctly, with running statistics.

    Args:
        network: left in eval mode.
        images: uint8 [N, 3, H, W], anywhere.
        labels: int64 [N], on the network's device.
    """
    network.eval()
    judged, n_right = Images(images, None, labels.device), torch.zeros((), device=labels.device)
    split = torch.arange(len(labels)).split(evaluation_batch(judged.size))
    for rows, batch in zip(split, judged.batches(split), strict=True):
        x = normalize(batch, network.fc.weight.dtype).contiguous(memory_format=torch.channels_last)
        n_right += (network(x).argmax(1) == labels[rows.to(labels.device)]).sum()
    return 100 * float(n_right) / len(labels)
