"""Reads the blocks of a grid whose `settings:` are a trainer's of the user's own."""

from collections.abc import Mapping
from pathlib import Path

from l2t_ray.errors import suggest
from l2t_ray.sweepfile.blocks import Block, Choice, read_seeds
from l2t_ray.sweepfile.own_names import SETTINGS
from l2t_ray.sweepfile.settings import BROKEN, LABEL, RUN, shown
from l2t_ray.sweepfile.yaml_lines import Item
from l2t_ray.trainer.form import Form

Leaves = dict[str, Item]


def read_blocks(path: Path, parts: Mapping[str, Item], form: Form, problems: list[str]) -> list[Block]:
    """Returns the blocks of the grid, without broken values.

    Args:
        path: of the file.
        parts: of the file, by name.
        form: the trainer's settings, with types and defaults.
        problems: a line is added for each.
    """
    defaults = _flatten(parts["run"], form, problems, is_block=False) if "run" in parts else {}
    grid = parts.get("grid")
    if grid is None or not isinstance(grid.value, list) or not grid.value:
        place = f"{path}:1" if grid is None else grid.place
        rule = "grid must be a list of blocks, at least one"
        problems.append(f"{place}: {rule}; add `grid:` and `- {{settings: ..., seed: {{from: 0, to: 29}}}}` below it")
        return []
    blocks = []
    for item in grid.value:
        own = _flatten(item, form, problems, is_block=True)
        if isinstance(item.value, dict):
            kept = {name: leaf for name, leaf in defaults.items() if not any(_within(name, other) for other in own)}
            blocks.append(_read_block(item.place, {**kept, **own}, form, problems))
    return blocks


def _within(name: str, other: str) -> bool:
    """Whether one of two dotted names is a section of the other, so that a block's replaces the default."""
    return name.startswith(f"{other}.") or other.startswith(f"{name}.")


def _flatten(item: Item, form: Form, problems: list[str], *, is_block: bool) -> Leaves:
    here = ("settings", "seed", "variant") if is_block else ("settings", "seed")
    leaves: Leaves = {}
    if not isinstance(item.value, dict):
        problems.append(f"{item.place}: a block must be a map of {', '.join(here)}, got {shown(item)}")
        return leaves
    for name, child in item.value.items():
        if name not in here:
            remedy = suggest(name, here)
            if remedy.startswith("known"):
                remedy = f"write it below `settings:` if it is the trainer's, else {remedy}"
            problems.append(f"{child.place}: {name!r} must be one of {', '.join(here)}; {remedy}")
        elif name != "settings":
            leaves[name] = child
        elif not isinstance(child.value, dict):
            problems.append(f"{child.place}: settings must be a map, got {shown(child)}; write `NAME: VALUE` below it")
        else:
            leaves |= _leaves(child.value, SETTINGS, problems)
    return leaves


def _leaves(items: Mapping[str, Item], prefix: str, problems: list[str]) -> Leaves:
    found: Leaves = {}
    for name, item in items.items():
        if not name or "." in name:
            rule = "a setting's name must have no dot, because dotted names are of settings within settings"
            problems.append(f"{item.place}: {rule}, got {name!r}; write {{{name.replace('.', ': {')}: ...")
        elif isinstance(item.value, dict) and item.value:
            found |= _leaves(item.value, f"{prefix}{name}.", problems)
        else:
            found[prefix + name] = item
    return found


def _read_block(place: str, leaves: Leaves, form: Form, problems: list[str]) -> Block:
    choices: dict[str, list[Choice]] = {}
    listed: set[str] = set()
    seeds: list[range] = []
    for name, item in leaves.items():
        if name == "variant":
            continue
        children = _axis(name, item, form)
        if children is not None:
            listed.add(name)
            if not children:
                problems.append(f"{item.place}: {name} must have at least one value, got []; add one, or leave it out")
        values = [item] if children is None else children
        if name == "seed":
            seeds = [part for child in values for part in read_seeds(RUN["seed"], child, problems)]
        else:
            choices[name] = [Choice(child.plain(), child) for child in values]
    if "seed" not in leaves:
        problems.append(f"{place}: seed must be given, in this block or in `run:`; add it")
    variant = LABEL.read(leaves["variant"], problems) if "variant" in leaves else ""
    return Block(place, "" if variant is BROKEN else variant or "", choices, frozenset(listed), tuple(seeds))


def _axis(name: str, item: Item, form: Form) -> list[Item] | None:
    """The values of a setting that lists several; None for one value, which may be a list if the type says so."""
    if not isinstance(item.value, list):
        return None
    if name != "seed" and form.takes_list(name.removeprefix(SETTINGS)):
        return item.value if any(isinstance(child.value, list) for child in item.value) else None
    return item.value
