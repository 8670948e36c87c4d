"""Settings that the command line puts in the place of a sweep file's (`--set transfer.beta=0.1`)."""

import dataclasses
from collections.abc import Sequence

from l2t_ray.settings import SECTIONS, full_name
from l2t_ray.yaml_lines import Item, parse_yaml


def override(parts: dict[str, Item], overrides: Sequence[str], problems: list[str]) -> None:
    """Puts settings into `run:` (or `execution:`, `search:`), and takes them out of every block.

    Args:
        parts: the sweep file's, changed in place.
        overrides: `dotted.key=VALUE`, the value as YAML.
        problems: a line is added for each that is no such text.
    """
    for text in overrides:
        place = f"--set {text}"
        key, equals, value = text.partition("=")
        if not equals:
            problems.append(f"{place}: must be dotted.key=VALUE, got no '='; write e.g. --set training.epochs=5")
            continue
        item, told = parse_yaml(value, "", place)
        problems.extend(told)
        key = key.strip().removeprefix("run.")
        if key == "sweep":
            parts["sweep"] = item
        elif key.startswith(("execution.", "search.")):
            part, _, name = key.partition(".")
            parts[part] = _with(parts.get(part), (name,), item)
        else:
            key = full_name(key)
            found = [(tuple(key.split(".", 1)), item)]
            if key in SECTIONS and isinstance(item.value, dict):
                found = [((key, name), child) for name, child in item.value.items()]
            for path, child in found:
                parts["run"] = _with(parts.get("run"), path, child)
                if "grid" in parts and isinstance(parts["grid"].value, list):
                    blocks = [_without(block, path) for block in parts["grid"].value]
                    parts["grid"] = dataclasses.replace(parts["grid"], value=blocks)


def _with(item: Item | None, path: tuple[str, ...], value: Item) -> Item:
    children = item.value if item is not None and isinstance(item.value, dict) else {}
    child = value if len(path) == 1 else _with(children.get(path[0]), path[1:], value)
    return Item({**children, path[0]: child}, item.place if item else value.place)


def _without(item: Item, path: tuple[str, ...]) -> Item:
    if not isinstance(item.value, dict) or path[0] not in item.value:
        return item
    rest = {name: child for name, child in item.value.items() if name != path[0]}
    if len(path) > 1:
        rest[path[0]] = _without(item.value[path[0]], path[1:])
    return Item(rest, item.place)
