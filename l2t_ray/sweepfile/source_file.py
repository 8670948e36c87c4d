"""The file of a source network's training: YAML, read and checked as a whole; every mistake is told at its own line."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from l2t_ray.data.digests import Digests
from l2t_ray.errors import InputError, suggest
from l2t_ray.files import compute_sha256
from l2t_ray.sweepfile.settings import BROKEN, Setting, shown
from l2t_ray.sweepfile.yaml_lines import Item, load_yaml, parse_yaml
from l2t_ray.training.source_settings import Pretraining


def read_pretraining(
    path: Path, *, overrides: Sequence[str] = (), data_dir: Path = Path("data"), digests: Digests | None = None
) -> Pretraining:
    """Reads the settings' file; what `data.path` contains is put into `data.sha256`.

    Args:
        path: of the YAML file; paths inside count from the working folder.
        overrides: `dotted.key=VALUE`.
        data_dir: remembers digests, unless they are given.
        digests: of contents.

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
    digests = digests or Digests(data_dir / ".cache")
    sha256 = digests.of_images(Path(settings.data.path)).sha256
    digests.save()
    if settings.data.sha256 not in {None, sha256}:
        raise InputError(f"{settings.data.path}: must hold what data.sha256 says, got {sha256}; correct one of them")
    return settings.model_copy(update={"data": settings.data.model_copy(update={"sha256": sha256})})


def missing_starts(path: Path, settings: Pretraining, digests: Digests | None = None) -> dict[str, Path]:
    """The weights that a training starts from, those that they start from, and so on, as far as they are not there.

    Args:
        path: of the training's file.
        settings: read from it.
        digests: of contents.

    Returns:
        By weights, the file that trains them; in the order of training.

    Raises:
        InputError: if one of these files does not make what the next one starts from, or they start from each other.
    """
    found: dict[str, Path] = {}
    while (weights := settings.source.weights) is not None and not Path(weights).is_file():
        file = Path(str(settings.source.train))
        if weights in found:
            raise InputError(f"{path}: source.train must not come back to where it began, got {file} twice; correct it")
        before = read_pretraining(file, digests=digests)
        made = (before.out, before.source.arch, before.source.width)
        if made != (wanted := (weights, settings.source.arch, settings.source.width)):
            law = f"source.train must make {' '.join(map(str, wanted))}"
            raise InputError(f"{path}: {law}, got {' '.join(map(str, made))} of {file}; correct one of them")
        found = {weights: file, **found}
        path, settings = file, before
    return found


def _with_start(settings: Pretraining) -> Pretraining:
    """The settings with what their starting weights contain, unless these are still to be trained."""
    path = Path(str(settings.source.weights))
    if not path.is_file() and settings.source.train is not None:
        return settings
    if not path.is_file():
        raise InputError(
            f"{path}: source.weights must be a file of weights to start from; correct the path, or add `train: FILE`"
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
