"""Trains a source network; on a CPU it continues bitwise from a checkpoint.

The recipe is the published networks': SGD, the rate times 0.1 at half and three quarters of the epochs, batch 128.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

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
    optimizer = torch.optim.SGD(
        network.parameters(), training.lr, momentum=training.momentum, weight_decay=training.weight_decay
    )
    subset = stratified_subset(data.train_labels, data.classes, settings.data.samples_per_class, settings.seed)
    data = data.placed(device)
    images, labels = Images(data.train_images, subset, device), data.train_labels[subset.to(device)]
    feed = Feed(
        images, labels, len(data.classes), settings.augment, settings.seed, lambda moved: normalize(moved, dtype)
    )
    progress = Progress()
    saved = load_state(checkpoint)
    if saved is not None and saved["settings"] == resolved:
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        progress = Progress(saved["epoch"], saved["metrics"], saved["wall_s"])
    evaluated = evaluation_epochs(training.epochs, EVALUATIONS)
    for epoch in range(progress.epoch, training.epochs):
        started_s = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(training, epoch)
        measured = _train_epoch(settings, network, optimizer, feed, epoch)
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
        state = {"settings": resolved, "network": network.state_dict(), "optimizer": optimizer.state_dict()}
        save_state(checkpoint, {**state, "epoch": epoch + 1, "metrics": progress.metrics, "wall_s": progress.wall_s})
        on_epoch(progress)
    return network.to("cpu", torch.float32).to(memory_format=torch.contiguous_format).eval(), progress


def _start(network: models.Backbone, settings: SourceNetwork, image_size: int) -> None:
    """Copies everything but the classifier from other weights, and the history of what they were trained on."""
    before = models.load_source(settings, image_size)
    state = {name: tensor for name, tensor in before.state_dict().items() if not name.startswith("fc.")}
    network.load_state_dict(state, strict=False)
    network.history = before.history or ({"data": "unknown", "sha256": settings.sha256},)


def _train_epoch(
    settings: Pretraining,
    network: models.Backbone,
    optimizer: torch.optim.Optimizer,
    feed: Feed,
    epoch: int,
) -> dict[str, float]:
    """Trains on all batches of an epoch and returns its measurements; synchronises with the device once, at the end."""
    n_images, device = len(feed.labels), feed.labels.device
    total, n_right = torch.zeros((), device=device), torch.zeros((), device=device)
    network.train()
    for x, labels in feed.batches(epoch, settings.training.batch_size):
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.training.precision == "bf16"):
            logits = network(x)
        logits = logits.to(network.fc.weight.dtype)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(x)
        n_right += (logits.detach().argmax(1) == (labels.argmax(1) if labels.dim() > 1 else labels)).sum()
    return {"train_loss": float(total) / n_images, "train_accuracy_percent": 100 * float(n_right) / n_images}


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
