"""The command line that trains a source network and writes its weights, with a card beside them.

Launching again resumes; launching when the weights are there does nothing. stdout is the result, stderr the progress.
Exit codes: 0 the weights are there; 1 interrupted; 2 usage.
"""

import argparse
import dataclasses
import io
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from l2t_ray import models, provenance
from l2t_ray.checkpoint import remove_state
from l2t_ray.data import DataSet, load_data
from l2t_ray.digests import Digests
from l2t_ray.errors import InputError
from l2t_ray.files import compute_sha256, write_atomic
from l2t_ray.pretraining import Pretraining, Progress, differences, train_source
from l2t_ray.settings import BROKEN, Setting, shown, suggest
from l2t_ray.yaml_lines import Item, load_yaml, parse_yaml

LINE_S = 10.0  # between two lines of progress, at the least


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: arguments, by default the process'.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m l2t_ray.pretrain", description="Train a source network.")
    parser.add_argument("file", type=Path, help="YAML: out, data, source, training, augment, seed")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="override a setting")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of the data sets")
    parser.add_argument("--no-download", action="store_true", help="do not fetch data sets that are not there")
    parser.add_argument("--force", action="store_true", help="train anew, whatever is there")
    arguments = parser.parse_args(argv)
    try:
        settings = read_pretraining(arguments.file, overrides=arguments.set, data_dir=arguments.data_dir)
        pretrain(settings, arguments.data_dir, download=not arguments.no_download, force=arguments.force)
    except InputError as error:
        _say(*error.problems)
        return 2
    except KeyboardInterrupt:
        _say("interrupted; launch again to go on")
        return 1
    return 0


def pretrain(settings: Pretraining, data_dir: Path, *, download: bool = True, force: bool = False) -> None:
    """Makes the weights be there: trains the network unless they are, and prints where they lie.

    Args:
        settings: all of them.
        data_dir: for downloads and caches.
        download: whether a missing data set may be fetched.
        force: train anew, whatever is there.

    Raises:
        InputError: if other weights are there, the folder cannot be written, or the data are not as they must be.
    """
    out, card, checkpoint = Path(settings.out), card_path(Path(settings.out)), Path(f"{settings.out}.checkpoint")
    if force:
        remove_state(checkpoint)
    elif out.exists():
        _check_weights(out, card, settings)
        told = json.loads(card.read_bytes())
        _say(f"{out} is there already, of the same settings; --force trains it anew")
        print(_result(out, told))
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise InputError(
            f"{out}: must be in a folder that can be written, got {error.strerror!r}; name another"
        ) from error
    data = load_data(settings.data, data_dir, download=download)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _say(
        f"training {settings.source.arch} (width {settings.source.width:g}) on {data.name}, "
        f"{len(data.classes)} classes, {settings.training.epochs} epochs, on {device}, for {out}"
    )
    printer = _Printer(settings.training.epochs)
    network, progress = train_source(settings, data, device=device, checkpoint=checkpoint, on_epoch=printer)
    buffer = io.BytesIO()
    torch.save(models.source_state(network), buffer)
    write_atomic(out, buffer.getvalue())
    told = _describe(settings, data, network.history, progress, compute_sha256(out), device)
    write_atomic(card, json.dumps(told, indent=1).encode())
    remove_state(checkpoint)
    print(_result(out, told))


def card_path(out: Path) -> Path:
    """Where a file of weights has its card.

    Args:
        out: the weights.

    Returns:
        The path beside it.
    """
    return out.with_suffix(".json")


def read_pretraining(path: Path, *, overrides: Sequence[str] = (), data_dir: Path = Path("data")) -> Pretraining:
    """Reads the settings' file; what `data.path` contains is put into `data.sha256`.

    Args:
        path: of the YAML file; paths inside count from the working folder.
        overrides: `dotted.key=VALUE`.
        data_dir: remembers digests.

    Returns:
        The settings.

    Raises:
        InputError: with a line for every problem.
    """
    top, problems = load_yaml(path)
    for text in overrides:
        key, equals, value = text.partition("=")
        item, told = parse_yaml(value, "", f"--set {text}")
        problems += told if equals else [f"--set {text}: must be dotted.key=VALUE, got no '='"]
        if equals:
            top = _with(top, key.strip().split("."), item)
    values = _read(Pretraining, top, "", problems)
    if problems:
        raise InputError(problems)
    settings = Pretraining.model_validate(values)
    if settings.source.weights is not None:
        settings = _with_start(settings)
    if settings.data.path is None or not Path(settings.data.path).exists():
        return settings  # `load_data` says what is missing
    digests = Digests(data_dir / ".cache")
    sha256 = digests.of_images(Path(settings.data.path)).sha256
    digests.save()
    if settings.data.sha256 not in {None, sha256}:
        raise InputError(f"{settings.data.path}: must hold what data.sha256 says, got {sha256}; correct one of them")
    return settings.model_copy(update={"data": settings.data.model_copy(update={"sha256": sha256})})


def _with_start(settings: Pretraining) -> Pretraining:
    """The settings with what their starting weights contain."""
    path = Path(str(settings.source.weights))
    if not path.is_file():
        raise InputError(
            f"{path}: source.weights must be a file of weights to start from; correct the path, or train it"
        )
    sha256 = compute_sha256(path)
    if settings.source.sha256 not in {None, sha256}:
        raise InputError(f"{path}: must hold what source.sha256 says, got {sha256}; correct one of them")
    return settings.model_copy(update={"source": settings.source.model_copy(update={"sha256": sha256})})


def _read(model: type[BaseModel], item: Item, prefix: str, problems: list[str]) -> dict[str, Any]:
    """A section's values in their types; every mistake is told at its own line."""
    if not isinstance(item.value, dict):
        problems.append(f"{item.place}: {prefix or 'the file'} must be a map of settings, got {shown(item)}")
        return {}
    values: dict[str, Any] = {}
    for name, child in item.value.items():
        field = model.model_fields.get(name)
        if field is None:
            problems.append(f"{child.place}: {prefix}{name} is no setting; {suggest(name, model.model_fields)}")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            values[name] = _read(field.annotation, child, f"{prefix}{name}.", problems)
        else:
            kind: Any = Annotated[field.annotation, field]
            adapter = TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))
            default = None if field.is_required() else field.get_default()
            values[name] = Setting(prefix + name, adapter, default).read(child, problems)
    missing = [name for name, field in model.model_fields.items() if field.is_required() and name not in values]
    problems += [f"{item.place}: {prefix}{name} must be given; add it" for name in missing]
    if BROKEN not in values.values() and not problems:
        try:  # laws between settings
            model.model_validate(values)
        except ValidationError as error:
            problems += [f"{item.place}: {prefix.rstrip('.')}: {part['msg']}" for part in error.errors()]
    return values


def _with(item: Item, keys: Sequence[str], value: Item) -> Item:
    if not keys:
        return value
    children = item.value if isinstance(item.value, dict) else {}
    child = _with(children.get(keys[0], Item({}, value.place)), keys[1:], value)
    return dataclasses.replace(item, value={**children, keys[0]: child})


def _check_weights(out: Path, card: Path, settings: Pretraining) -> None:
    """Refuses to overwrite what is not the result of the same settings."""
    remedy = "name another file in `out`, or train anew with --force"
    try:
        told = json.loads(card.read_bytes())
        known, sha256 = told["settings"], told["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{out}: must not be there, or have the card {card} of its training; {remedy}") from None
    if found := differences(known, settings.resolved()):
        raise InputError(f"{out}: holds weights of other settings: {'; '.join(found)}; {remedy}")
    if compute_sha256(out) != sha256:
        raise InputError(f"{out}: must hold the weights that {card} describes, got others; {remedy}")


def _describe(
    settings: Pretraining,
    data: DataSet,
    history: Sequence[Mapping[str, Any]],
    progress: Progress,
    weights_sha256: str,
    device: torch.device,
) -> dict[str, Any]:
    """The card: what was trained on what, and how well."""
    last: Mapping[str, float] = {name: points[-1][1] for name, points in progress.metrics.items()}
    return {
        **last,
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
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "git": provenance.commit(),
        "versions": json.loads(provenance.versions()),
        "metrics": progress.metrics,
    }


def _result(out: Path, card: Mapping[str, Any]) -> str:
    return (
        f"{out}: {card['test_accuracy_percent']:.2f} % of {card['n_test']} test images of {card['data']} "
        f"({len(card['classes'])} classes) in {card['wall_s']:.0f} s; its card is {card_path(out)}"
    )


class _Printer:
    """A line of progress for the first epoch of a session, the last, and every so many seconds."""

    def __init__(self, n_epochs: int) -> None:
        self.n_epochs, self.last_s = n_epochs, -LINE_S

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() - self.last_s < LINE_S and progress.epoch < self.n_epochs:
            return
        self.last_s = time.monotonic()
        left_s = progress.wall_s / progress.epoch * (self.n_epochs - progress.epoch)
        tested = [f"test accuracy {value:.2f} %" for _, value in progress.metrics.get("test_accuracy_percent", [])]
        told = [f"train_loss {progress.metrics['train_loss'][-1][1]:.4f}", *tested[-1:], f"{left_s:.0f} s left"]
        _say(f"epoch {progress.epoch}/{self.n_epochs}: {', '.join(told)}")


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
