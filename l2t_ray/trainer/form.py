"""What a trainer's settings must be, and what is wrong with given ones: names, types and laws, each by its path."""

import dataclasses
import json
import math
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from l2t_ray.trainer.names import dotted, nested

LISTS = (list, tuple, set, frozenset, Sequence, Collection)
Path = tuple[int | str, ...]


@dataclass(frozen=True)
class Wrong:
    """A law that the settings break."""

    path: Path  # of the value within the nested settings
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
        whole = dotted(self._adapter.dump_python(built, mode="json", by_alias=True))
        unknown = [name for name in settings if not any(name == one or one.startswith(f"{name}.") for one in whole)]
        taken = [name for name in unknown if settings[name] == {} or _is_below(name, whole)]
        if names := [name for name in unknown if name not in taken]:
            raise FormError([*map(_unknown, names)])
        return whole

    def build(self, settings: Mapping[str, Any]) -> Any:
        """Returns what the function is given: the annotated type, or a nested dictionary."""
        return nested(settings) if self._adapter is None else self._build(settings)

    def _build(self, settings: Mapping[str, Any]) -> Any:
        assert self._adapter is not None
        # of JSON, so that a dataclass is built and a text is no number
        return self._adapter.validate_json(json.dumps(nested(settings)), strict=True)


def _unknown(name: str) -> Wrong:
    return Wrong((*name.split("."),), "unknown", "must be a setting", {})


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
