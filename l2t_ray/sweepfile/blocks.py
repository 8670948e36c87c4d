"""A block of a sweep file: the values that each setting may take, with their places. The block is their product."""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from l2t_ray import registry
from l2t_ray.config import OPTIONAL_SECTIONS
from l2t_ray.errors import suggest
from l2t_ray.sweepfile.settings import BROKEN, LABEL, OPTION, RUN, SECTIONS, Setting, short, shown
from l2t_ray.sweepfile.yaml_lines import Item

Leaves = dict[str, Item]  # by dotted name
MAX_NAME_CHARACTERS = 60
MAX_RUNS = 1_000_000
# settings that the first parts of a cell's name stand for
NAMED = {"data.name", "data.samples_per_class", "data.path", "data.title", "data.sha256", "method"}


@dataclass(frozen=True)
class Choice:
    """One value that a setting may take, with the item that gives it."""

    value: Any
    item: Item


@dataclass(frozen=True)
class Block:
    """A block whose values have their types."""

    place: str  # of the block
    variant: str  # the last part of its cells' names, or ""
    choices: Mapping[str, list[Choice]]  # by dotted name, without the seed
    listed: frozenset[str]  # the settings that are given as a list
    seeds: tuple[range, ...]  # in order

    @property
    def n_runs(self) -> int:
        """The size of the product."""
        return math.prod(len(values) for values in self.choices.values()) * sum(len(seeds) for seeds in self.seeds)

    def values(self, name: str) -> list[Choice]:
        """Returns the choices of a setting by its dotted name; none where it is left out, or broken."""
        return self.choices.get(name, [])

    def products(self) -> Iterator[dict[str, Choice]]:
        """Yields the block's cells: a choice for each setting that has one."""
        whole = {name: values for name, values in self.choices.items() if values}
        for chosen in itertools.product(*whole.values()):
            yield dict(zip(whole, chosen, strict=True))

    def cell_name(self, chosen: Mapping[str, Choice], label: str) -> str:
        """Returns a cell's name: data/samples/method, then the variant and every listed setting that the method reads.

        Args:
            chosen: one of `products`.
            label: the data set's name in tables.
        """
        method = registry.METHODS[chosen["method"].value]
        parts = [self.variant] if self.variant else []
        for name in [*RUN, *(name for name in chosen if name.startswith("options."))]:
            if name in self.listed and name in chosen and name not in NAMED and reads(method, name):
                parts.append(f"{short(name)}={_shown(name, chosen[name].value)}")
        cell = [label, _samples(chosen["data.samples_per_class"].value), method.name]
        return "/".join([*cell, ",".join(parts)] if parts else cell)


def check_size(path: Path, blocks: Iterable[Block]) -> list[str]:
    """Returns a problem if the blocks make more than MAX_RUNS runs; ask before they are made, which takes memory."""
    n_runs = sum(block.n_runs for block in blocks)
    if n_runs <= MAX_RUNS:
        return []
    return [f"{path}: must have at most {MAX_RUNS:,} runs, got {n_runs:,}; shorten the longest lists"]


def flatten(item: Item, problems: list[str], *, is_block: bool) -> Leaves:
    """Returns the settings of `run:` or of a block by their dotted names; their values are not checked.

    Args:
        item: a map of settings and sections.
        problems: a line is added for each unknown name, or section that is no map.
        is_block: whether `variant` may stand there.
    """
    leaves: Leaves = {}
    if not isinstance(item.value, dict):
        problems.append(f"{item.place}: a block must be a map of settings, got {shown(item)}; write `setting: value`")
        return leaves
    for name, child in item.value.items():
        section, _, inner = name.partition(".")
        if (name in RUN and not inner) or (is_block and name == "variant"):
            leaves[name] = child
        elif name in RUN:  # the section may hold the same setting, and `--set` would miss one of them
            rule = f"{name} must stand below `{section}:` here"
            problems.append(f"{child.place}: {rule}, got a dotted name; write `{section}: {{{inner}: {shown(child)}}}`")
        elif name not in SECTIONS:
            here = [*sorted(SECTIONS), "method", "seed", *(["variant"] if is_block else [])]
            remedy = suggest(name, [*here, *RUN], listed=here)
            problems.append(f"{child.place}: {name!r} must be a setting of a run; {remedy}")
        elif not isinstance(child.value, dict):
            rule = f"{name} must be a map of settings"
            problems.append(
                f"{child.place}: {rule}, got {shown(child)}; write lists at its settings, or further blocks"
            )
        else:
            for inner, leaf in child.value.items():
                dotted = f"{name}.{inner}"
                if dotted in RUN or name == "options":
                    leaves[dotted] = leaf
                else:
                    here = [known.partition(".")[2] for known in RUN if known.startswith(f"{name}.")]
                    elsewhere = [known for known in RUN if known.rpartition(".")[2] == inner]
                    remedy = suggest(inner, elsewhere or here)
                    problems.append(f"{leaf.place}: {inner!r} must be a setting of {name}; {remedy}")
    return leaves


def read_block(place: str, leaves: Leaves, problems: list[str]) -> Block:
    """Returns a block with its values in their types, without the broken ones.

    Args:
        place: of the block.
        leaves: its own settings, and the defaults of `run:`.
        problems: a line is added for each broken value, and for each setting that is missing.
    """
    choices: dict[str, list[Choice]] = {}
    listed: set[str] = set()
    seeds: list[range] = []
    for name, item in leaves.items():
        if name == "variant":
            continue
        setting = RUN[name] if name in RUN else replace(OPTION, name=name)
        axis = _axis(name, item)
        items = [item] if axis is None else axis
        if axis is not None:
            listed.add(name)
        if not items:
            remedy = "add one" if setting.required else "add one, or leave it out"
            problems.append(f"{item.place}: {name} must have at least one value, got []; {remedy}")
        if name == "seed":
            seeds = [part for child in items for part in read_seeds(setting, child, problems)]
        else:
            read = [Choice(setting.read(child, problems), child) for child in items]
            choices[name] = [choice for choice in read if choice.value is not BROKEN]
    for name, setting in RUN.items():
        if setting.required and name not in leaves:
            problems.append(f"{place}: {name} must be given, in this block or in `run:`; add it")
    variant = LABEL.read(leaves["variant"], problems) if "variant" in leaves else ""
    order = [name for name in RUN if name in choices] + [name for name in choices if name not in RUN]
    return Block(
        place,
        "" if variant is BROKEN else variant or "",
        {name: choices[name] for name in order},
        frozenset(listed),
        tuple(seeds),
    )


def reads(method: registry.Described, name: str) -> bool:
    """Whether a setting can change a method's result; a setting of an optional section only if the method names it."""
    section, _, option = name.partition(".")
    if section == "options":
        return option in method.options
    return section not in OPTIONAL_SECTIONS or section in method.uses or name in method.uses


def _axis(name: str, item: Item) -> list[Item] | None:
    """Returns the values of a setting that lists several; None for one value, which may itself be a list."""
    if not isinstance(item.value, list):
        return None
    children = [child.value for child in item.value]
    if name in {"trace.weights", "trace.gamma"}:
        return None
    if name in {"data.classes", "source.levels", "target.levels"} and not any(
        child is None or isinstance(child, list) for child in children
    ):
        return None
    if name == "transfer.pairs" and not any(isinstance(child, str) or _is_list_of_lists(child) for child in children):
        return None
    return item.value


def _is_list_of_lists(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(child.value, list) for child in value)


def read_seeds(setting: Setting, item: Item, problems: list[str]) -> list[range]:
    """Returns the seeds of one entry as one range; none where it is broken.

    Args:
        setting: a run's seed.
        item: a number, or {from: FIRST, to: LAST}.
        problems: a line is added for each broken rule.
    """
    if not isinstance(item.value, dict):
        seed = setting.read(item, problems)
        return [] if seed is BROKEN else [range(seed, seed + 1)]
    if set(item.value) != {"from", "to"}:
        rule = "seed must be a whole number, a list of them, or {from: FIRST, to: LAST}"
        problems.append(f"{item.place}: {rule}, got {shown(item)}; correct the keys")
        return []
    ends = [setting.read(item.value[name], problems) for name in ("from", "to")]
    if BROKEN in ends:
        return []
    if ends[0] > ends[1]:
        problems.append(f"{item.place}: seed must have from <= to, got {shown(item)}; swap them")
        return []
    return [range(ends[0], ends[1] + 1)]


def _shown(name: str, value: Any) -> str:
    if name == "source.weights":
        value = Path(value or "").stem
    return brief(value)


def _samples(value: int | Mapping[str, int]) -> str:
    if isinstance(value, int):
        return str(value)
    others = [str(value["*"])] if "*" in value else []
    return brief(",".join([*others, *(f"{name}={n}" for name, n in sorted(value.items()) if name != "*")]))


def brief(value: Any) -> str:
    """Returns a plain value as a part of a cell's name: no slash, no space, not long."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":")).replace('"', "")
    text = re.sub(r"[/\s]", "_", text)
    if len(text) <= MAX_NAME_CHARACTERS:
        return text
    return f"{text[:MAX_NAME_CHARACTERS]}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"
