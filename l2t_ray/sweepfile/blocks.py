"""A block of a sweep file: the values that each setting may take, with their places; the block is their product."""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
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
NAMED = {
    "data.name",
    "data.samples_per_class",
    "data.path",
    "data.title",
    "data.sha256",
    "method",
}  # in the name already


@dataclass(frozen=True)
class Choice:
    """One value that a setting may take, and where it stands."""

    value: Any
    item: Item


@dataclass(frozen=True)
class Block:
    """A block whose values have their types.

    Attributes:
        place: of the block.
        variant: the last part of its cells' names, or "".
        choices: values by dotted name, without the seed.
        listed: the settings that stand as a list.
        seeds: in order, as ranges.
    """

    place: str
    variant: str
    choices: Mapping[str, list[Choice]]
    listed: frozenset[str]
    seeds: tuple[range, ...]

    @property
    def n_runs(self) -> int:
        """The size of the product."""
        return math.prod(len(values) for values in self.choices.values()) * sum(len(seeds) for seeds in self.seeds)

    def values(self, name: str) -> list[Choice]:
        """What a setting may be.

        Args:
            name: dotted.

        Returns:
            Its choices; none where it is left out, or broken.
        """
        return self.choices.get(name, [])

    def products(self) -> Iterator[dict[str, Choice]]:
        """The block's cells.

        Yields:
            A choice for each setting that has one.
        """
        whole = {name: values for name, values in self.choices.items() if values}
        for chosen in itertools.product(*whole.values()):
            yield dict(zip(whole, chosen, strict=True))

    def cell_name(self, chosen: Mapping[str, Choice], label: str) -> str:
        """`data/samples/method`, then the variant and what else has a list here, as far as the method reads it.

        Args:
            chosen: one of `products`.
            label: the data set's name in tables.

        Returns:
            The name.
        """
        method = registry.METHODS[chosen["method"].value]
        parts = [self.variant] if self.variant else []
        for name in [*RUN, *(name for name in chosen if name.startswith("options."))]:
            if name in self.listed and name in chosen and name not in NAMED and reads(method, name):
                parts.append(f"{short(name)}={_told(name, chosen[name].value)}")
        cell = [label, _samples(chosen["data.samples_per_class"].value), method.name]
        return "/".join([*cell, ",".join(parts)] if parts else cell)


def flatten(item: Item, problems: list[str], *, is_block: bool) -> Leaves:
    """The settings of `run:` or of a block by their dotted names.

    Args:
        item: a map of settings and sections.
        problems: a line is added for each unknown name, or section that is no map.
        is_block: whether `variant` may stand there.

    Returns:
        The leaves; the values are not looked at.
    """
    leaves: Leaves = {}
    if not isinstance(item.value, dict):
        problems.append(f"{item.place}: a block must be a map of settings, got {shown(item)}; write `setting: value`")
        return leaves
    for name, child in item.value.items():
        section, _, inner = name.partition(".")
        if (name in RUN and not inner) or (is_block and name == "variant"):
            leaves[name] = child
        elif name in RUN:  # would stand beside the same setting in its section, and `--set` would not find it
            law = f"{name} must stand below `{section}:` here"
            problems.append(f"{child.place}: {law}, got a dotted name; write `{section}: {{{inner}: {shown(child)}}}`")
        elif name not in SECTIONS:
            here = [*sorted(SECTIONS), "method", "seed", *(["variant"] if is_block else [])]
            remedy = suggest(name, [*here, *RUN], listed=here)
            problems.append(f"{child.place}: {name!r} must be a setting of a run; {remedy}")
        elif not isinstance(child.value, dict):
            law = f"{name} must be a map of settings"
            problems.append(f"{child.place}: {law}, got {shown(child)}; write lists at its settings, or further blocks")
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
    """A block with its values in their types.

    Args:
        place: of the block.
        leaves: its own settings, and the defaults of `run:`.
        problems: a line is added for each law that a value breaks, and for each setting that is missing.

    Returns:
        The block; values that break a law are left out.
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
            seeds = [found for child in items for found in read_seeds(setting, child, problems)]
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
    """Whether a setting can change a method's result.

    Args:
        method: any.
        name: dotted.

    Returns:
        True for everything but optional sections and options that the method does not name.
    """
    section, _, option = name.partition(".")
    if section == "options":
        return option in method.options
    return section not in OPTIONAL_SECTIONS or section in method.uses or name in method.uses


def _axis(name: str, item: Item) -> list[Item] | None:
    """The values of a setting that has a list of them; None where a list, or no list, is one value by itself."""
    if not isinstance(item.value, list):
        return None
    children = [child.value for child in item.value]
    if name in {"trace.weights", "trace.gamma"}:
        return None
    if name == "data.classes" and not any(child is None or isinstance(child, list) for child in children):
        return None
    if name == "transfer.pairs" and not any(isinstance(child, str) or _holds_list(child) for child in children):
        return None
    return item.value


def _holds_list(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(child.value, list) for child in value)


def read_seeds(setting: Setting, item: Item, problems: list[str]) -> list[range]:
    """A seed, or all from the first to the last.

    Args:
        setting: a run's seed.
        item: a number, or {from, to}.
        problems: a line is added for each law that is broken.

    Returns:
        One range; none where it is broken.
    """
    if not isinstance(item.value, dict):
        seed = setting.read(item, problems)
        return [] if seed is BROKEN else [range(seed, seed + 1)]
    if set(item.value) != {"from", "to"}:
        law = "seed must be a whole number, a list of them, or {from: FIRST, to: LAST}"
        problems.append(f"{item.place}: {law}, got {shown(item)}; correct the keys")
        return []
    ends = [setting.read(item.value[name], problems) for name in ("from", "to")]
    if BROKEN in ends:
        return []
    if ends[0] > ends[1]:
        problems.append(f"{item.place}: seed must have from <= to, got {shown(item)}; swap them")
        return []
    return [range(ends[0], ends[1] + 1)]


def _told(name: str, value: Any) -> str:
    if name == "source.weights":
        value = Path(value or "").stem
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":")).replace('"', "")
    return _brief(text)


def _samples(value: int | Mapping[str, int]) -> str:
    if isinstance(value, int):
        return str(value)
    others = [str(value["*"])] if "*" in value else []
    return _brief(",".join([*others, *(f"{name}={n}" for name, n in sorted(value.items()) if name != "*")]))


def _brief(text: str) -> str:
    text = re.sub(r"[/\s]", "_", text)
    if len(text) <= MAX_NAME_CHARACTERS:
        return text
    return f"{text[:MAX_NAME_CHARACTERS]}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"
