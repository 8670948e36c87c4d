"""Settings as a nested map and by dotted name: `{optimizer: {lr: 0.1}}` is `optimizer.lr`."""

from collections.abc import Mapping
from typing import Any


def dotted(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested settings by their dotted names; an empty map stays a value."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= dotted(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings by dotted name as nested maps."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        *sections, last = name.split(".")
        here = found
        for section in sections:
            here = here.setdefault(section, {})
        here[last] = value
    return found
