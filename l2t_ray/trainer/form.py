"""What a trainer's settings must be, and what is wrong with given ones: names, types and laws, each by its path."""

import dataclasses
import json
import math
import sysconfig
import traceback
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, TypeAdapter, ValidationError

from l2t_ray.trainer.names import dotted, nested

SECRET = "must not be a secret, because settings are recorded; the trainer must read it from the environment"
UNSTEADY = "must have a default that is always the same, because it is part of the run's key; state it in the file"
LOSSY = "must be the same when its record is read again; correct how the type reads or writes it"
LISTS = (list, tuple, set, frozenset, Sequence, Collection)
Steps = tuple[int | str, ...]


@dataclass(frozen=True)
class Wrong:
    """A law that the settings break."""

    path: Steps  # of the value within the nested settings
    kind: str  # of pydantic's errors; "unknown" for a name that the type does not have
    message: str  # pydantic's
    context: Mapping[str, Any]  # numbers of the law


class FormError(ValueError):
    """The settings do not fit; `wrong` lists why."""

    def __init__(self, wrong: Sequence[Wrong]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, one.path))} {one.message}" for one in wrong))
        self.wrong = tuple(wrong)


class Form:
    """The type of a trainer's settings.

    Args:
        adapter: of the annotated type; None takes every plain value.
        kind: the annotated type.
    """

    def __init__(self, adapter: TypeAdapter[Any] | None, kind: Any = None) -> None:
        self._adapter, self._kind = adapter, kind

    @property
    def names(self) -> list[str]:
        """The dotted names that the type has; none where every name is taken."""
        return [*_fields(self._kind)]

    def takes_list(self, name: str) -> bool:
        """Whether a setting is itself a list, so that one list in the file is one value."""
        kind = _fields(self._kind).get(name)
        parts = [kind, *typing.get_args(kind)]  # also `list[int] | None`
        return any(part in LISTS or typing.get_origin(part) in LISTS for part in parts)

    def is_float(self, name: str) -> bool:
        """Whether a setting is a number with a fraction, whatever the file writes."""
        kind = _fields(self._kind).get(name)
        return kind is float or (float in typing.get_args(kind) and int not in typing.get_args(kind))

    def complete(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Returns settings with the type's defaults, as plain JSON values, by dotted name.

        Args:
            settings: by dotted name.

        Raises:
            FormError: if one breaks a law.
        """
        odd = [
            Wrong((*name.split("."),), "finite_number", "must be finite", {})
            for name, value in settings.items()
            if isinstance(value, float) and not math.isfinite(value)
        ]
        if odd:
            raise FormError(odd)
        if self._adapter is None:
            return dict(settings)
        try:
            built = self._build(settings)
        except ValidationError as error:
            found = [
                Wrong(part["loc"], part["type"], part["msg"], part.get("ctx", {}))
                for part in error.errors(include_url=False)
            ]
            strange = [name for name in settings if self.names and not any(_overlap(name, one) for one in self.names)]
            raise FormError([*map(_unknown, strange), *(w for w in found if w.kind != "extra_forbidden")]) from error
        except Exception as error:  # of the user's own checks; recorded in the message
            raise FormError([Wrong((), "raised", told(error), {})]) from error
        whole = self._record(built)
        if (second := self._record(self._build(settings))) != whole:
            raise FormError([_wrong(name, UNSTEADY) for name in whole if second.get(name) != whole[name]])
        unknown = [name for name in settings if not any(name == one or one.startswith(f"{name}.") for one in whole)]
        taken = [name for name in unknown if settings[name] == {} or _is_below(name, whole)]
        left_out = [
            Wrong((*name.split("."), *path), "unknown", "must be a setting", {})
            for name, value in settings.items()
            for path in _left_out(value, whole.get(name))
        ]
        if names := [name for name in unknown if name not in taken]:
            raise FormError([*map(_unknown, names)])
        if left_out:
            raise FormError(left_out)
        self._check_record(built, whole)
        return whole

    def build(self, settings: Mapping[str, Any]) -> Any:
        """Returns what the function is given: the annotated type, or a nested dictionary."""
        return nested(settings) if self._adapter is None else self._build(settings)

    def _record(self, built: Any) -> dict[str, Any]:
        assert self._adapter is not None
        record = self._adapter.dump_python(built, mode="json", by_alias=True, round_trip=True)  # no computed fields
        return dotted(_ordered(record, self._adapter.dump_python(built, by_alias=True, round_trip=True)))

    def _check_record(self, built: Any, whole: Mapping[str, Any]) -> None:
        """Refuses settings that are others when their record is read again, as the trainer reads it."""
        leaves = dotted(_plain(built))
        if secret := [name for name, value in leaves.items() if _has_secret(value)]:
            raise FormError([_wrong(name, SECRET) for name in secret])
        try:
            again = dotted(_plain(self._build(whole)))
        except ValidationError as error:
            names = [".".join(map(str, part["loc"])) for part in error.errors(include_url=False)]
            raise FormError([_wrong(name, LOSSY) for name in names]) from error
        if lost := [name for name in {**leaves, **again} if not _is_same(leaves.get(name), again.get(name))]:
            raise FormError([_wrong(name, LOSSY) for name in lost])

    def _build(self, settings: Mapping[str, Any]) -> Any:
        assert self._adapter is not None
        # of JSON, so that a dataclass is built and a text is no number
        return self._adapter.validate_json(json.dumps(nested(settings)), strict=True)


def differently_named(adapter: TypeAdapter[Any]) -> str | None:
    """A field that is read by another name than it is recorded by; then a given setting would be left out."""
    return _differently_named(adapter.core_schema)


def _differently_named(schema: Any) -> str | None:
    if isinstance(schema, list | tuple):
        return next((found for part in schema if (found := _differently_named(part))), None)
    if not isinstance(schema, dict):
        return None
    for name, part in schema.items():
        read = part.get("validation_alias") if isinstance(part, dict) else None
        if read is not None and read != (part.get("serialization_alias") or name):
            return str(name)
        if (
            name == "validation_alias"
            and "name" in schema
            and part != (schema.get("serialization_alias") or schema["name"])
        ):
            return str(schema["name"])  # of a dataclass
    return _differently_named([part for name, part in schema.items() if name not in {"metadata", "serialization"}])


def _plain(value: Any) -> Any:
    """An object of settings as nested dictionaries and lists, with the values that the trainer sees."""
    if isinstance(value, BaseModel):
        return {name: _plain(part) for name, part in value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name, None)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [*map(_plain, value)] if isinstance(value, list | tuple) else value


def _ordered(record: Any, value: Any) -> Any:
    """A record whose sets are sorted, as their order differs between processes; `value` has them as sets."""
    if isinstance(record, dict) and isinstance(value, Mapping) and len(record) == len(value):
        return {name: _ordered(part, inner) for (name, part), inner in zip(record.items(), value.values(), strict=True)}
    if isinstance(record, list) and isinstance(value, set | frozenset):
        return sorted(record, key=lambda part: json.dumps(part, sort_keys=True))
    if isinstance(record, list) and isinstance(value, list | tuple) and len(record) == len(value):
        return [_ordered(part, inner) for part, inner in zip(record, value, strict=True)]
    return record


def _has_secret(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_secret, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_has_secret, value))
    return isinstance(value, SecretStr | SecretBytes | Secret)


def _is_same(one: Any, other: Any) -> bool:
    try:
        # NaN differs from itself, and what has no __eq__ from its copy
        return bool(one == other or one != one) or getattr(type(one), "__eq__", None) is object.__eq__  # noqa: PLR0124
    except (TypeError, ValueError):  # of arrays
        return True


def _wrong(name: str, message: str) -> Wrong:
    return Wrong((*name.split("."),), "record", message, {})


def told(error: BaseException) -> str:
    """Returns an error with the place in the user's code that it comes from."""
    libraries = ("importlib", "site-packages", "<string>", sysconfig.get_path("stdlib"))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(part in frame.filename for part in libraries)
    ]
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def _unknown(name: str) -> Wrong:
    return Wrong((*name.split("."),), "unknown", "must be a setting", {})


def _left_out(given: Any, record: Any) -> Iterator[Steps]:
    """The names in a given value, such as a list of sections, that its record lacks."""
    if isinstance(given, Mapping) and isinstance(record, Mapping):
        yield from ((name,) for name in given if name not in record)
        parts: list[tuple[int | str, Any, Any]] = [(n, part, record[n]) for n, part in given.items() if n in record]
    elif isinstance(given, list) and isinstance(record, list) and len(given) == len(record):
        parts = [(n, *pair) for n, pair in enumerate(zip(given, record, strict=True))]
    else:
        return
    yield from ((step, *path) for step, part, kept in parts for path in _left_out(part, kept))


def _overlap(name: str, other: str) -> bool:
    """Whether one dotted name is the other, or within it."""
    return f"{name}.".startswith(f"{other}.") or f"{other}.".startswith(f"{name}.")


def _is_below(name: str, whole: Mapping[str, Any]) -> bool:
    """Whether a name is within a value that the type keeps as one, such as an empty map."""
    return any(name.startswith(f"{one}.") and value not in ({}, None) for one, value in whole.items())


def _fields(kind: Any, prefix: str = "") -> dict[str, Any]:
    """The dotted names of a type's leaves, with their annotations."""
    found: dict[str, Any] = {}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        hints = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
    elif dataclasses.is_dataclass(kind):
        known = typing.get_type_hints(kind)
        hints = {field.name: known[field.name] for field in dataclasses.fields(kind)}
    elif typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind)
    else:
        return found
    for name, hint in hints.items():
        found |= _fields(hint, f"{prefix}{name}.") or {f"{prefix}{name}": hint}
    return found
