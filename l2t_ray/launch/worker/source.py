"""Trains one source network on this machine, with a card beside its weights and an entry for the ledger."""

import base64
import hashlib
import io
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from l2t_ray import errors, models
from l2t_ray.data.load import DataSet, load_data
from l2t_ray.errors import InputError
from l2t_ray.files import Lock, write_atomic
from l2t_ray.ledger import provenance
from l2t_ray.ledger.spool import Record, dotted
from l2t_ray.training.checkpoint import remove_state
from l2t_ray.training.model_card import Card, card_path, check_places, find_card, remove_weights
from l2t_ray.training.pack import peak_bytes
from l2t_ray.training.pretraining import Progress, train_source
from l2t_ray.training.source_settings import Pretraining

LINE_S = 10.0  # at least, between two lines of progress


Say = Callable[..., None]


def pretrain(
    settings: Pretraining,
    data_dir: Path,
    *,
    download: bool = True,
    force: bool = False,
    wait: bool = False,
    say: Say | None = None,
) -> tuple[Card, bool]:
    """Trains a source network unless its weights exist.

    One process at a time trains for a file: a lock beside it, which the kernel releases when the process ends, keeps
    others out. Machines that share no disk have a lock each.

    Args:
        settings: of the training.
        data_dir: for downloads and caches.
        download: whether a missing data set may be downloaded.
        force: trains again even if the weights exist.
        wait: waits for another process that trains for the same file; otherwise that is refused.
        say: receives lines of progress; stderr by default.

    Returns:
        The card, and whether the weights were trained by this call.

    Raises:
        InputError: if other weights have this name, the folder is not writable, another process trains for the file, or
            the data are not as they must be.
    """
    say, out = say or errors.say, Path(settings.out)
    if out.is_dir() or force:
        check_places(out)
    if not force and not _checkpoint(out).exists():
        with suppress(
            InputError, OSError
        ):  # another process may be writing it at this moment; the check under the lock decides
            if (card := find_card(out, settings)) is not None:  # also in a folder that is not writable
                return _taken(out, card, say)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise InputError(
            f"{out}: must be in a folder that can be written, got {error.strerror!r}; name another"
        ) from error

    def tell(holder: str) -> None:
        say(f"{out} is being trained by {holder}; waiting for it")

    file, law = out.with_name(f".{out.stem}.lock"), f"{out} is being trained already"  # of the card: see `card_path`
    with Lock(file, law, "launch again", on_wait=tell if wait else None):
        if not force and (card := find_card(out, settings)) is not None:
            remove_state(_checkpoint(out))  # a kill after the weights were written left it
            return _taken(out, card, say)
        check_places(out)
        return _train(settings, data_dir, say, download=download, force=force), True


def _taken(out: Path, card: Card, say: Say) -> tuple[Card, bool]:
    say(f"{out} exists already, trained with the same settings; --force trains it again")
    return card, False


def _checkpoint(out: Path) -> Path:
    return out.with_name(f"{out.name}.checkpoint")


def _train(settings: Pretraining, data_dir: Path, say: Say, *, download: bool, force: bool) -> Card:
    """Trains, from the checkpoint if there is one, and writes card and weights; the caller holds the lock."""
    out = Path(settings.out)
    checkpoint = _checkpoint(out)
    data = load_data(settings.data, data_dir, download=download)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if force:
        remove_state(checkpoint)
    say(
        f"training {settings.source.arch} (width {settings.source.width:g}) on {data.name}, "
        f"{len(data.classes)} classes, {settings.training.epochs} epochs, on {device}, for {out}"
    )
    printer = _Printer(settings.training.epochs, say)

    def on_epoch(progress: Progress) -> None:
        if force and progress.epoch == 1:  # from here on a launch without --force can go on
            remove_weights(out)
        printer(progress)

    network, progress = train_source(settings, data, device=device, checkpoint=checkpoint, on_epoch=on_epoch)
    buffer = io.BytesIO()
    torch.save(models.source_state(network), buffer)
    weights = buffer.getvalue()
    content = _describe(settings, data, network.history, progress, hashlib.sha256(weights).hexdigest(), device)
    write_atomic(
        card_path(out), json.dumps(content, indent=1).encode()
    )  # first, so that weights never exist without their card
    write_atomic(out, weights)
    remove_state(checkpoint)
    return content


def as_record(settings: Pretraining, card: Card, sweep: str) -> Record:
    """The ledger's entry of a source network."""
    return Record(
        key=settings.key,
        sweep=sweep,
        name=f"{card['arch']} on {card['data']}",
        kind="source",
        outcome="finished",
        params=dotted(settings.resolved()),
        tags={
            "weights_sha": card["weights_sha256"],
            "data_sha": card["data_sha256"],
            "device": card["device"],
            "git": card["git"],
            "versions": json.dumps(card["versions"]),
        },
        metrics={name: [(epoch, value) for epoch, value in points] for name, points in card["metrics"].items()},
        wall_s=card["wall_s"],
        peak_bytes=card.get("peak_bytes", 0),
        artifacts={"card.json": base64.b64encode(json.dumps(card, indent=1).encode()).decode()},
    )


def _describe(
    settings: Pretraining,
    data: DataSet,
    history: Sequence[Mapping[str, Any]],
    progress: Progress,
    weights_sha256: str,
    device: torch.device,
) -> dict[str, Any]:
    """The card: what was trained on which data, and how well."""
    last: Mapping[str, float] = {name: points[-1][1] for name, points in progress.metrics.items()}
    return {
        **last,
        "file": Path(settings.out).name,
        "arch": settings.source.arch,
        "width": settings.source.width,
        "data": data.name,
        "history": [dict(part) for part in history],
        "classes": list(data.classes),
        "n_test": len(data.test_labels),
        "data_sha256": data.sha256,
        "weights_sha256": weights_sha256,
        "settings": settings.resolved(),
        "wall_s": round(progress.wall_s, 3),
        "peak_bytes": peak_bytes(device),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "git": provenance.commit(),
        "versions": json.loads(provenance.versions()),
        "metrics": progress.metrics,
    }


class _Printer:
    """Prints a line of progress for the first epoch, the last, and every `LINE_S` seconds."""

    def __init__(self, n_epochs: int, say: Say) -> None:
        self.n_epochs, self.last_s, self.say = n_epochs, -LINE_S, say

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() - self.last_s < LINE_S and progress.epoch < self.n_epochs:
            return
        self.last_s = time.monotonic()
        left_s = progress.wall_s / progress.epoch * (self.n_epochs - progress.epoch)
        tested = [f"test accuracy {value:.2f} %" for _, value in progress.metrics.get("test_accuracy_percent", [])]
        parts = [f"train_loss {progress.metrics['train_loss'][-1][1]:.4f}", *tested[-1:], f"{left_s:.0f} s left"]
        self.say(f"epoch {progress.epoch}/{self.n_epochs}: {', '.join(parts)}")
