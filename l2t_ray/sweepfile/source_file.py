"""The file of a source network's training: YAML, checked as a whole, every mistake reported at its own line."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from l2t_ray.config.sections import file_in
from l2t_ray.data.digests import Digests
from l2t_ray.data.fetch import fetch
from l2t_ray.errors import InputError, suggest
from l2t_ray.files import compute_sha256
from l2t_ray.published import images_at, weights_at
from l2t_ray.sweepfile.data_checks import TAKERS
from l2t_ray.sweepfile.settings import BROKEN, setting_of, shown
from l2t_ray.sweepfile.yaml_lines import Item, load_yaml, parse_yaml
from l2t_ray.training.source_settings import Pretraining


def read_pretraining(
    path: Path, *, overrides: Sequence[str] = (), data_dir: Path = Path("data"), digests: Digests | None = None
) -> Pretraining:
    """Reads the file and puts the digest of the images at `data.path` into `data.sha256`.

    Args:
        path: of the YAML file; paths inside count from the working folder.
        overrides: `dotted.key=VALUE`.
        data_dir: keeps the known digests, unless `digests` is given.
        digests: of contents.

    Returns:
        The settings.

    Raises:
        InputError: with a line for every problem.
    """
    top, problems = load_yaml(path)
    if isinstance(top.value, dict) and {"sweep", "grid"} & {*top.value}:
        raise InputError(f"{path}: this is the file of a sweep; launch it: python -m l2t_ray.sweep {path}")
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            problems.append(f"--set {text}: must be dotted.key=VALUE, got no '='")
            continue
        item, mistakes = parse_yaml(value, "", f"--set {text}")
        problems += mistakes
        top = top.with_value(key.strip().split("."), item)
    values = _read(Pretraining, top, "", problems)
    if problems:
        raise InputError(problems)
    settings = Pretraining.model_validate(values)
    if idle := [*_idle(top, settings)]:
        raise InputError(idle)
    if settings.source.weights is not None:
        settings = _with_start(settings)
    if settings.data.path is None or not Path(settings.data.path).exists():
        return settings  # `load_data` reports what is missing
    digests = digests or Digests(data_dir / ".cache")
    sha256 = digests.of_images(Path(settings.data.path)).sha256
    digests.save()
    if settings.data.sha256 not in {None, sha256}:
        raise InputError(f"{settings.data.path}: must hold what data.sha256 says, got {sha256}; correct one of them")
    return settings.model_copy(update={"data": settings.data.model_copy(update={"sha256": sha256})})


def fetch_images(path: Path, settings: Pretraining, *, download: bool) -> bool:
    """Fetches published images and weights that a training reads, if they are missing; the settings are read again.

    Args:
        path: of the training's file, for messages.
        settings: read from it.
        download: whether it may be fetched.

    Returns:
        Whether it was fetched.

    Raises:
        InputError: if it is missing and cannot be fetched.
    """
    start = settings.source.file or ""
    found = ((images_at(settings.data.name, settings.data.path), settings.data.path), (weights_at(start), start))
    missing = [(item, Path(str(place))) for item, place in found if item and not Path(str(place)).is_file()]
    try:
        for item, place in missing:
            fetch(item, place, download=download)
    except InputError as error:
        raise InputError(f"{path}: {problem}" for problem in error.problems) from error
    return bool(missing)


def missing_starts(path: Path, settings: Pretraining, digests: Digests | None = None) -> dict[str, Path]:
    """Returns the weights to train before this training, and the file that trains each; in the order of training.

    Each training may start from weights of another one; the missing ones are followed back to the first.

    Args:
        path: of the training's file.
        settings: read from it.
        digests: of contents.

    Raises:
        InputError: if a file does not make the weights that the next one starts from, or the files form a circle.
    """
    starts: dict[str, Path] = {}
    while (weights := settings.source.weights) is not None and not (Path(weights).is_file() or weights_at(weights)):
        file = Path(str(settings.source.train))
        if weights in starts:
            raise InputError(
                f"{path}: source.train must not lead back to a file before it, got {file} twice; correct it"
            )
        before = read_pretraining(file, digests=digests)
        made = (before.out, before.source.arch, before.source.width)
        if made != (wanted := (weights, settings.source.arch, settings.source.width)):
            rule = f"source.train must make {' '.join(map(str, wanted))}"
            raise InputError(f"{path}: {rule}, got {' '.join(map(str, made))} of {file}; correct one of them")
        starts = {weights: file, **starts}
        path, settings = file, before
    return starts


def _with_start(settings: Pretraining) -> Pretraining:
    """Returns the settings with the digest of their starting weights, unless these are still to be trained."""
    path, item = Path(str(settings.source.file)), weights_at(str(settings.source.file))
    if path.is_dir():
        raise InputError(f"{path}: source.weights must be a file, got a folder; {file_in(path)}")
    if not path.is_file() and settings.source.train is not None:
        return settings
    if not path.is_file() and item is None:
        raise InputError(
            f"{path}: source.weights must be a file of weights to start from; correct the path, or add `train: FILE`"
        )
    sha256 = compute_sha256(path) if item is None else item.digest.partition(":")[2]
    if settings.source.sha256 not in {None, sha256}:
        raise InputError(f"{path}: must hold what source.sha256 says, got {sha256}; correct one of them")
    return settings.model_copy(
        update={"source": settings.source.model_copy(update={"sha256": sha256, "weights": str(path)})}
    )


def _idle(top: Item, settings: Pretraining) -> Iterator[str]:
    """Yields a line for each given setting that others leave without an effect, as a sweep file's are refused."""
    augment, data = settings.augment, settings.data
    laws: dict[str, str] = {}
    for setting, takers in TAKERS.items():
        if data.name not in takers and getattr(data, setting.partition(".")[2]) is not None:
            laws[setting] = f"must stand with {' or '.join(sorted(takers))}, got data.name {data.name}"
    if augment.resized_crop is not None:
        laws["augment.crop_padding"] = "must stand without augment.resized_crop, which takes its place"
    if not augment.rand_augment:
        laws["augment.rand_augment_magnitude"] = "must stand with augment.rand_augment of at least 1"
    for setting, law in laws.items():
        section, _, name = setting.partition(".")
        if name in getattr(settings, section).model_fields_set:
            yield f"{top.trail([section, name])[-1].place}: {setting} {law}; remove it, or change the other"


def _read(model: type[BaseModel], item: Item, prefix: str, problems: list[str]) -> dict[str, Any]:
    """Returns a section's values in their types; adds a line to the problems for each mistake."""
    if not isinstance(item.value, dict):
        problems.append(f"{item.place}: {prefix or 'the file'} must be a map of settings, got {shown(item)}")
        return {}
    values: dict[str, Any] = {}
    for name, child in item.value.items():
        field = model.model_fields.get(name)
        if field is None:
            problems.append(f"{child.place}: {prefix}{name} is no setting; {suggest(name, model.model_fields)}")
        elif field.annotation is type(None):  # of a run alone
            if child.value is not None:
                problems.append(f"{child.place}: {prefix}{name} is no setting of a source network; remove it")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            values[name] = _read(field.annotation, child, f"{prefix}{name}.", problems)
        else:
            values[name] = setting_of(prefix + name, field).read(child, problems)
    missing = [name for name, field in model.model_fields.items() if field.is_required() and name not in values]
    problems += [f"{item.place}: {prefix}{name} must be given; add it" for name in missing]
    if BROKEN not in values.values() and not problems:
        try:  # rules between settings
            model.model_validate(values)
        except ValidationError as error:
            problems += [f"{item.place}: {part['msg'].removeprefix('Value error, ')}" for part in error.errors()]
    return values
