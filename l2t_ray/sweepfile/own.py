"""Reads a sweep of a trainer of the user's own: `trainer:`, `metric:` and free-form `settings:`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from l2t_ray.errors import InputError
from l2t_ray.run import Metric
from l2t_ray.sweepfile.blocks import Block, check_size
from l2t_ray.sweepfile.cells import Cell, join
from l2t_ray.sweepfile.own_blocks import read_blocks
from l2t_ray.sweepfile.own_commands import command_problems
from l2t_ray.sweepfile.own_names import SETTINGS, Asked, Expanded, Factors, Names
from l2t_ray.sweepfile.own_settings import complete
from l2t_ray.sweepfile.settings import BROKEN, PATH, MetricBlock, read_map, settings_of, shown
from l2t_ray.sweepfile.yaml_lines import Item
from l2t_ray.trainer.form import Form
from l2t_ray.trainer.load import form_of, load
from l2t_ray.trainer.outcome import TAKEN
from l2t_ray.trainer.output import logging_kept
from l2t_ray.trainer.run import OwnRun
from l2t_ray.trainer.spec import Spec

UNIT = "_percent"
FORMS = "write `trainer: FILE.py`, `trainer: MODULE:FUNCTION`, or {command: ..., result: ...}"


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
            complete(self.form, block, chosen, problems)
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
    blocks = read_blocks(path, parts, form, problems)
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


def _expand(
    blocks: Sequence[Block], form: Form, identity: dict[str, str], files: dict[str, str], problems: list[str]
) -> Iterator[Expanded]:
    """Yields a block, a choice of its settings, and the first run of that."""
    for block in blocks:
        seeds = next((seeds for seeds in block.seeds if seeds), None)
        for chosen in block.products():
            settings = complete(form, block, chosen, problems)
            if settings is not None and seeds is not None:
                yield block, chosen, OwnRun(trainer=identity, files=files, settings=settings, seed=seeds[0])
