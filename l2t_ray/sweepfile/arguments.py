"""The command line's changes to a sweep: other settings (`--set transfer.beta=0.1`), fewer runs (`--where seed=0`)."""

import dataclasses
import fnmatch
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from l2t_ray.errors import InputError, suggest
from l2t_ray.sweepfile.cells import Cell
from l2t_ray.sweepfile.settings import RUN, SECTIONS, full_name, shown
from l2t_ray.sweepfile.yaml_lines import Item, parse_yaml
from l2t_ray.trainer.run import OwnRun

# of a sweep file, and no settings of a trainer of the user's own unless the file has them below `settings:`
PARTS = frozenset({
    "sweep", "trainer", "metric", "method", "axis", "data", "methods", "run", "grid", "design", "search", "execution",
    "variant",
})  # fmt: skip


def override(parts: dict[str, Item], overrides: Sequence[str], problems: list[str], *, is_own: bool = False) -> None:
    """Puts settings into `run:` (or `execution:`, `search:`), and removes them from every block.

    Args:
        parts: the sweep file's, changed in place.
        overrides: `dotted.key=VALUE`, the value as YAML.
        problems: a line is added for each override that cannot be read.
        is_own: whether the settings are those of a trainer of the user's own.
    """
    for text in overrides:
        place = f"--set {text}"
        key, equals, value = text.partition("=")
        if not equals:
            problems.append(f"{place}: must be dotted.key=VALUE, got no '='; write e.g. --set training.epochs=5")
            continue
        item, mistakes = parse_yaml(value, "", place)
        problems.extend(mistakes)
        key = key.strip().removeprefix("run.")
        if key == "sweep" or (is_own and key in {"trainer", "method", "axis", "data"}):
            parts[key] = item
        elif key.startswith(("execution.", "search.")):
            part, _, name = key.partition(".")
            parts[part] = parts.get(part, Item({}, place)).with_value((name,), item)
        elif is_own and (first := key.partition(".")[0]) in PARTS and not _given(parts, ("settings", first)):
            remedy = f"change it in the file, or write settings.{key} if it is the trainer's"
            problems.append(f"{place}: {first!r} must be a setting of a run, got a part of the file; {remedy}")
        else:
            key = _own_name(key) if is_own else full_name(key)
            changes = [(tuple(key.split(".", -1 if is_own else 1)), item)]
            if key in ({"settings"} if is_own else SECTIONS) and isinstance(item.value, dict):
                changes = [((key, name), child) for name, child in item.value.items()]
            for path, child in changes:
                if is_own and (meant := _number_meant(child, value, _given(parts, path))):
                    rule = f"{'.'.join(path)} must be a number as in the file, got {shown(child)}"
                    problems.append(f"{place}: {rule}; write {meant}")
                    continue
                parts["run"] = parts.get("run", Item({}, place)).with_value(path, child)
                if "grid" in parts and isinstance(parts["grid"].value, list):
                    blocks = [_without(block, path) for block in parts["grid"].value]
                    parts["grid"] = dataclasses.replace(parts["grid"], value=blocks)


def _own_name(key: str) -> str:
    """A setting of a trainer of the user's own: `lr` is `settings.lr`."""
    return key if key in {"seed", "settings"} or key.startswith("settings.") else f"settings.{key}"


def _given(parts: dict[str, Item], path: Sequence[str]) -> list[Item]:
    """The values that `run:` and the blocks give to the setting at a path."""
    grid = parts["grid"].value if "grid" in parts else None
    blocks = [*([parts["run"]] if "run" in parts else []), *(grid if isinstance(grid, list) else [])]
    return [trail[-1] for block in blocks if len(trail := block.trail(path)) > len(path)]


def _number_meant(item: Item, text: str, given: Sequence[Item]) -> str:
    """What to write for a number with underscores, a text to YAML, in the place of numbers; else an empty text."""

    def values(item: Item) -> list[Any]:
        found = item.plain()
        return found if isinstance(found, list) else [found]

    if not any(type(value) in {int, float} for other in given for value in values(other)):
        return ""
    for value in values(item):
        is_quoted = f'"{value}"' in text or f"'{value}'" in text
        if isinstance(value, str) and re.fullmatch(r"[-+]?\d[\d_]*(\.\d+)?", value) and "_" in value and not is_quoted:
            return value.replace("_", "")
    return ""


def _without(item: Item, path: tuple[str, ...]) -> Item:
    """Returns a block without the setting at a path."""
    if not isinstance(item.value, dict) or path[0] not in item.value:
        return item
    rest = {name: child for name, child in item.value.items() if name != path[0]}
    if len(path) > 1:
        inner = _without(item.value[path[0]], path[1:])
        if inner.value or inner is item.value[path[0]]:  # a section without settings would replace that of `run:`
            rest[path[0]] = inner
    return Item(rest, item.place)


def select(cells: Sequence[Cell], where: Sequence[str]) -> list[Cell]:
    """Returns the cells that match, with the seeds that match.

    Args:
        cells: of the sweep.
        where: `KEY=VALUE` with a setting's name, or `cell=PATTERN`; of several with one key, one is enough.

    Raises:
        InputError: if a key is unknown, or nothing matches.
    """
    wanted: dict[str, list[Item]] = {}
    problems = []
    settings = (name for cell in cells if isinstance(cell.run, OwnRun) for name in cell.run.settings)
    own = [f"settings.{name}" for name in dict.fromkeys(settings)]  # blocks may give different ones
    for text in where:
        key, equals, value = text.partition("=")
        name = key if key == "cell" else _own_name(key) if own else full_name(key)
        if not equals:
            problems.append(f"--where {text}: must be KEY=VALUE, got no '='; write e.g. --where method=scratch")
        elif own and name not in {*own, "seed", "cell"}:
            remedy = suggest(name, [*own, "seed", "cell"])
            problems.append(f"--where {text}: KEY must be `cell`, `seed` or a setting, got {key!r}; {remedy}")
        elif not own and name not in RUN and name != "cell" and not name.startswith("options."):
            ambiguous = [known for known in RUN if name in {known.partition(".")[0], known.rpartition(".")[2]}]
            remedy = f"write {' or '.join(ambiguous)}" if ambiguous else suggest(name, [*RUN, "cell"])
            problems.append(f"--where {text}: KEY must be `cell` or a setting of a run, got {name!r}; {remedy}")
        else:
            item = Item(value, f"--where {text}") if name == "cell" else parse_yaml(value, "", f"--where {text}")[0]
            wanted.setdefault(name, []).append(item)
    if problems:
        raise InputError(problems)
    for name, items in wanted.items():
        kept = []
        for cell in cells:
            if name == "seed":
                seeds = {
                    seed: trace for seed, trace in cell.seeds.items() if any(_matches(seed, item) for item in items)
                }
                kept += [dataclasses.replace(cell, seeds=seeds)] if seeds else []
            elif name == "cell":
                kept += [cell] if any(fnmatch.fnmatchcase(cell.name, str(item.value)) for item in items) else []
            elif any(_matches(cell.run.setting(name), item) for item in items):
                kept.append(cell)
        if not kept:
            values = dict.fromkeys(_shown_values(cells, name))
            some = f"{', '.join(itertools.islice(values, 12))}{', ...' if len(values) > 12 else ''}"
            raise InputError(f"{items[0].place}: must match a run of the sweep, got none; {name} is one of {some}")
        cells = kept
    return [*cells]


def _shown_values(cells: Sequence[Cell], name: str) -> Iterator[str]:
    for cell in cells:
        if name == "seed":
            yield from map(str, cell.seeds)
        else:
            yield cell.name if name == "cell" else json.dumps(cell.run.setting(name)).strip('"')


def _matches(value: Any, item: Item) -> bool:
    """Whether two values are equal and neither takes a boolean for a number."""
    return bool(value == item.plain() and isinstance(value, bool) == isinstance(item.value, bool))
