"""Reads a sweep of a trainer of the user's own: `trainer:`, `metric:` and free-form `settings:`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from l2t_ray.errors import InputError, suggest
from l2t_ray.run import Metric
from l2t_ray.sweepfile.blocks import Block, Choice, check_size, read_seeds
from l2t_ray.sweepfile.cells import Cell, join
from l2t_ray.sweepfile.own_commands import command_problems
from l2t_ray.sweepfile.own_names import SETTINGS, Asked, Expanded, Factors, Names
from l2t_ray.sweepfile.settings import (
    BROKEN,
    LABEL,
    PATH,
    RULES,
    RUN,
    MetricBlock,
    boolean_meant,
    read_map,
    settings_of,
    shown,
)  # fmt: skip
from l2t_ray.sweepfile.yaml_lines import Item
from l2t_ray.trainer.form import Form, FormError, Wrong
from l2t_ray.trainer.load import form_of, load
from l2t_ray.trainer.names import nested
from l2t_ray.trainer.outcome import TAKEN
from l2t_ray.trainer.output import logging_kept
from l2t_ray.trainer.run import OwnRun
from l2t_ray.trainer.spec import Spec

UNIT = "_percent"
FORMS = "write `trainer: FILE.py`, `trainer: MODULE:FUNCTION`, or {command: ..., result: ...}"
MAPS = frozenset({"model_type", "model_attributes_type", "dataclass_type"})  # of pydantic's errors
Leaves = dict[str, Item]


@dataclass
class Own:
    """A sweep file's trainer of the user's own, with its cells."""

    spec: Spec
    metric: Metric
    factors: Factors
    form: Form
    blocks: list[Block]
    cells: list[Cell]
    names: Names

    def check(self, block: Block) -> list[str]:
        """Returns a line for each law that a block's settings break."""
        problems: list[str] = []
        for chosen in block.products():
            _complete(self.form, block, chosen, problems)
        return [*dict.fromkeys(problems)]


def read_own(path: Path, parts: Mapping[str, Item], problems: list[str]) -> Own | None:
    """Returns a file's trainer with its cells; None where it adds to the problems.

    Args:
        path: of the file.
        parts: of the file, by name, with `trainer`.
        problems: a line is added for each.
    """
    n_before = len(problems)
    metric = _read_metric(path, parts.get("metric"), problems)
    spec, form = _read_trainer(parts["trainer"], metric.name if metric else "", problems)
    if spec is None or form is None:
        return None
    blocks = _read_blocks(path, parts, form, problems)
    if too_many := check_size(path, blocks):
        problems += too_many
        return None
    if spec.command is not None:
        problems += command_problems(spec, parts["trainer"], blocks)
    identity, files = spec.identity(), {Path(place).name: sha256 for place, sha256 in spec.digests.items()}
    expanded = [*_expand(blocks, form, identity, files, problems)]
    asked = {part: _read_names(parts.get(part)) for part in ("method", "axis", "data")}
    if len(problems) > n_before or metric is None:
        return None
    names = Names(path, parts, spec, expanded, blocks, asked, problems)
    if len(problems) > n_before:
        return None
    cells = join((names.cell(block, chosen, run) for block, chosen, run in expanded), problems)
    return Own(spec, metric, names.factors, form, blocks, cells, names)


def _read_metric(path: Path, item: Item | None, problems: list[str]) -> Metric | None:
    example = "metric: {name: error_percent, lower_is_better: true}"
    if item is None or not isinstance(item.value, dict):
        place = f"{path}:1" if item is None else item.place
        problems.append(f"{place}: metric must say which result counts, and which end is better; write `{example}`")
        return None
    values = read_map(item.value, settings_of(MetricBlock, "metric."), "metric", problems)
    for name in ("name", "lower_is_better"):
        if name not in item.value:
            problems.append(f"{item.place}: metric.{name} must be given; write `{example}`")
    if values.get("name") in TAKEN:
        problems.append(f"{item.place}: metric.name must not be {values['name']}, which every run has; choose another")
        return None
    if not str(values.get("name", UNIT)).endswith(UNIT) and "margin" not in item.value:
        rule = f"metric.margin must be given for {values['name']}: the smallest difference that matters, in its unit"
        problems.append(f"{item.place}: {rule}; add e.g. `margin: 0.01`")
        return None
    return Metric(**values) if {"name", "lower_is_better"} <= values.keys() else None


def _read_trainer(item: Item, metric: str, problems: list[str]) -> tuple[Spec | None, Form | None]:
    if isinstance(item.value, str):
        values: dict[str, Any] = {"function": item.value}
    elif isinstance(item.value, dict):
        known = {name: setting for name, setting in settings_of(Spec, "trainer.").items() if name not in _FILLED}
        n_before = len(problems)
        values = read_map(item.value, known, "trainer", problems)
        if len(problems) > n_before:
            return None, None
    else:
        problems.append(f"{item.place}: trainer must be a text or a map, got {shown(item)}; {FORMS}")
        return None, None
    if BROKEN in [PATH.read(path, problems) for path in _paths(item)]:
        return None, None
    try:
        spec = Spec(**values, metric=metric)
        spec.words  # noqa: B018  refuses an open quote
        spec = spec.with_digests()
        with logging_kept():
            return spec, form_of(spec, None if spec.function is None else load(spec))
    except ValidationError as error:
        problems.extend(f"{item.place}: trainer {_said(part)}; {FORMS}" for part in error.errors())
    except InputError as error:
        problems.extend(f"{item.place}: trainer: {problem.removeprefix('trainer ')}" for problem in error.problems)
    except ValueError as error:  # of shlex
        problems.append(f"{item.place}: trainer.command must be words of a shell, got {error}; close the quote")
    return None, None


_FILLED = {"trainer.metric", "trainer.digests"}


def _paths(item: Item) -> list[Item]:
    """The trainer's file, or what else it names, and its further files."""
    if not isinstance(item.value, dict):
        return [item]
    function, files = item.value.get("function"), item.value.get("files")
    further = files.value if files is not None and isinstance(files.value, list) else []
    return [*([] if function is None or function.value is None else [function]), *further]


def _said(part: Any) -> str:
    return str(part["msg"]).removeprefix("Value error, ")


def _read_names(item: Item | None) -> Asked:
    if item is None:
        return (), None
    children = item.value if isinstance(item.value, list) else [item]
    values = [child.value for child in children]
    return tuple(str(value).removeprefix(SETTINGS) for value in values), item


def _read_blocks(path: Path, parts: Mapping[str, Item], form: Form, problems: list[str]) -> list[Block]:
    """Returns the blocks of the grid, without broken values."""
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


def _expand(
    blocks: Sequence[Block], form: Form, identity: dict[str, str], files: dict[str, str], problems: list[str]
) -> Iterator[Expanded]:
    """Yields a block, a choice of its settings, and the first run of that."""
    for block in blocks:
        seeds = next((seeds for seeds in block.seeds if seeds), None)
        for chosen in block.products():
            settings = _complete(form, block, chosen, problems)
            if settings is not None and seeds is not None:
                yield block, chosen, OwnRun(trainer=identity, files=files, settings=settings, seed=seeds[0])


def _complete(form: Form, block: Block, chosen: Mapping[str, Choice], problems: list[str]) -> dict[str, Any] | None:
    """The whole settings of one choice; None where it adds to the problems."""
    settings = {name.removeprefix(SETTINGS): choice.value for name, choice in chosen.items()}
    try:
        whole = form.complete(settings)
        problems += [line for line in _ambiguous(form, settings, chosen) if line not in problems]
        return whole
    except FormError as error:
        tree = _tree(block.place, {name.removeprefix(SETTINGS): choice.item for name, choice in chosen.items()})
        for wrong in error.wrong:
            if (line := _line(tree, wrong, form)) not in problems:
                problems.append(line)
    return None


def _ambiguous(form: Form, settings: Mapping[str, Any], chosen: Mapping[str, Choice]) -> Iterator[str]:
    """Yields a line for each plain `yes` or `no` where the trainer takes a text, and true and false as well."""
    for name, choice in chosen.items():
        for word in choice.item.words():
            try:
                form.complete({**settings, name.removeprefix(SETTINGS): choice.item.plain(word)})
            except FormError:
                continue  # the type says that it is a text
            quoted = f"'\"{word.value}\"'" if word.place.startswith("--") else f'"{word.value}"'  # in a shell
            remedy = f"{boolean_meant(word.value)}, or {quoted} for the text"
            yield f"{word.place}: {name} must be true, false or a text in quotes, got {word.value}; {remedy}"


def _tree(place: str, items: Mapping[str, Item]) -> Item:
    def built(values: Mapping[str, Any]) -> Item:
        children = {name: built(value) if isinstance(value, dict) else value for name, value in values.items()}
        return Item(children, place)

    return built(nested(items))


def _line(tree: Item, wrong: Wrong, form: Form) -> str:
    trail = tree.trail(wrong.path)
    target, name = trail[-1], ".".join(["settings", *(part for part in wrong.path if isinstance(part, str))])
    if wrong.kind == "missing":
        return f"{tree.place}: {name} must be given, in this block or in `run:`; the trainer asks for it; add it"
    if wrong.kind == "unknown":
        inner = name.removeprefix(SETTINGS)
        return f"{target.place}: {inner!r} must be a setting of the trainer; {suggest(inner, form.names)}"
    if wrong.kind == "raised":
        rule = "settings must be taken by the trainer's type"
        return f"{tree.place}: {rule}, got {wrong.message}; correct them, or its check"
    if wrong.kind == "record":
        return f"{target.place}: {name} {wrong.message}"
    context = wrong.context
    expected = context.get("expected") or context.get("expected_tags")  # 'a', 'b' or 'c'
    remedy = (wrong.kind == "bool_type" and boolean_meant(target.value)) or "correct it"
    if "error" in context:  # the user's own law
        rule = str(context["error"])
        rule = rule if rule.startswith("must ") else f"must be taken by the trainer's type: {rule}"
    elif expected is not None:
        known = [part.strip("' ") for part in re.split(", | or ", str(expected))]
        rule = f"must be {known[0]}" if len(known) == 1 else f"must be one of {', '.join(known)}"
        if isinstance(target.value, dict) and (tag := _tag(context)) in target.value:
            target, name = target.value[tag], f"{name}.{tag}"
        remedy = suggest(str(target.value), known)
    elif wrong.kind in MAPS:
        rule = "must be a map"
    elif wrong.kind in RULES:
        rule = f"must {RULES[wrong.kind].format(**context)}"
    else:
        rule = wrong.message.removeprefix("Value error, ").replace("Input should", "must", 1)
        rule = rule.replace("a valid array", "a list").replace("an object", "a map")
    return f"{target.place}: {name} {rule}, got {shown(target)}; {remedy}"


def _tag(context: Mapping[str, Any]) -> str:
    """The setting by which a union of types is told apart."""
    return str(context.get("discriminator", "")).strip("'")
