"""Reads the `search:` of a sweep whose trainer is the user's own: Optuna chooses among its `settings:`.

The trainer says how good a trial is: by a result on held-out data that it returns, which `objective:` names.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from l2t_ray.errors import suggest
from l2t_ray.sweepfile.blocks import MAX_RUNS, Block, Choice
from l2t_ray.sweepfile.cells import Cell, Extras
from l2t_ray.sweepfile.own import Own
from l2t_ray.sweepfile.own_names import SETTINGS
from l2t_ray.sweepfile.search import SUFFIX, VARIANT, Search, SearchBlock, edges, read_search_seeds
from l2t_ray.sweepfile.settings import BROKEN, OPTION, read_map, settings_of, shown
from l2t_ray.sweepfile.space import Dimension, read_dimension
from l2t_ray.sweepfile.yaml_lines import Item
from l2t_ray.trainer.form import Form
from l2t_ray.trainer.run import OwnRun


class OwnSearchBlock(SearchBlock):
    """How a study of a trainer of the user's own is made."""

    validation_per_class: None = Field(None)  # type: ignore[assignment]  # the trainer holds data out
    objective: str = Field("", description="a result of the trainer on held-out data; by default the metric")
    lower_is_better: bool | None = Field(None, description="of the objective, where it is not the metric")


@dataclass(frozen=True)
class OwnStudy:
    """The search for one cell's best settings; it has the methods of `search.Study`."""

    name: str  # the cell's
    run: OwnRun  # with the grid's own settings
    seeds: Mapping[int, Extras | None]  # of the final runs
    space: tuple[Dimension, ...]
    form: Form
    validation_per_class: int = 0

    def trial_run(self, labels: Mapping[str, Any], seed: int) -> OwnRun:
        """Returns a run of a trial; `labels` are Optuna's values by dotted name."""
        chosen = {one.name.removeprefix(SETTINGS): one.value(labels[one.name]) for one in self.space}
        return self.run.with_settings(self.form.complete({**self.run.settings, **chosen}), seed)

    def final_run(self, labels: Mapping[str, Any]) -> OwnRun:
        """Returns the first run of the final sweep; `labels` are the best trial's."""
        return self.trial_run(labels, next(iter(self.seeds)))

    def trial_cell(self, number: int) -> str:
        """Returns the cell of a trial's runs: the study's, with `trial=NUMBER` added to its variant."""
        return f"{self.name}{',' if self.name.count('/') > 2 else '/'}trial={number}"

    def own_labels(self) -> dict[str, Any] | None:
        """Returns the grid's own settings as a point of the space; None where one of them lies outside it."""
        labels = {one.name: one.label(self.run.setting(one.name)) for one in self.space}
        return None if None in labels.values() else labels


def read_own_search(
    item: Item, path: Path, own: Own, chosen: Sequence[Cell], problems: list[str]
) -> tuple[Search | None, list[str]]:
    """Returns the search that a `search:` describes, and notes; no search where it adds to the problems.

    Args:
        item: the block.
        path: of the file.
        own: the file's trainer, with its blocks.
        chosen: the cells to search.
        problems: a line is added for each.
    """
    n_before = len(problems)
    if not isinstance(item.value, dict):
        problems.append(f"{item.place}: search must be a map, got {shown(item)}; write `space:` below it")
        return None, []
    known = {
        name: one for name, one in settings_of(OwnSearchBlock, "search.").items() if not name.endswith("_per_class")
    }
    values = read_map(item.value, known, "search", problems, apart=("space", "seeds"))
    for name, remedy in (("space", "space:"), ("seeds", "seeds: {from: 1000, to: 1002}")):
        if name not in item.value:
            problems.append(f"{item.place}: search.{name} must be given; add `{remedy}`")
    space = _read_space(item.value["space"], own, problems) if "space" in item.value else {}
    seeds = read_search_seeds(item.value["seeds"], problems) if "seeds" in item.value else ()
    problems += _check_objective(item, values, own)
    problems += _check_grid(item, space, own, seeds)
    if len(problems) > n_before or not chosen:
        return None, []
    given = {**values, "objective": values.get("objective") or own.metric.name}
    lower = given.pop("lower_is_better", None)
    settings = OwnSearchBlock(**given)
    if (n_runs := len(chosen) * settings.trials * len(seeds)) > MAX_RUNS:
        rule = f"a search must have at most {MAX_RUNS:,} runs, studies x trials x seeds"
        problems.append(f"{item.place}: {rule}, got {n_runs:,}; lower `trials:`, or list fewer seeds")
        return None, []
    notes = []
    if settings.objective == own.metric.name:
        lower = own.metric.lower_is_better
        told = f"search.objective is {own.metric.name}, by which the final runs are compared too"
        notes.append(f"{item.place}: note: {told}; a result on held-out data keeps them apart")
    studies = []
    for cell in chosen:
        assert isinstance(cell.run, OwnRun)
        studies.append(OwnStudy(cell.name, cell.run, cell.seeds, tuple(space.values()), own.form))
    best = Path(settings.best) if settings.best else path.with_name(f"{path.stem}{SUFFIX}.yaml")
    return Search(settings, seeds, tuple(studies), best, lower_is_better=lower, own=own), notes


def _check_objective(item: Item, values: Mapping[str, Any], own: Own) -> Iterator[str]:
    objective = values.get("objective") or own.metric.name
    if objective != own.metric.name and values.get("lower_is_better") is None:
        place = item.trail(["objective"])[-1].place
        rule = f"search.lower_is_better must be given for {objective}, which is not the metric"
        yield f"{place}: {rule}; add `lower_is_better: true` or `false`"
    if objective == own.metric.name and values.get("lower_is_better") not in {None, own.metric.lower_is_better}:
        place = item.trail(["lower_is_better"])[-1].place
        yield f"{place}: search.lower_is_better must be as in `metric:`, whose result it is; remove it"
    if values.get("second_objective") and values.get("pruner", "none") != "none":
        rule = "search.pruner must be none with a second objective, which Optuna does not prune"
        yield f"{item.trail(['pruner'])[-1].place}: {rule}, got {values['pruner']!r}; remove one of them"


def _read_space(item: Item, own: Own, problems: list[str]) -> dict[str, Dimension]:
    if not isinstance(item.value, dict) or not item.value:
        rule = "search.space must be a map of settings, at least one"
        problems.append(f"{item.place}: {rule}, got {shown(item)}; write `lr: {{low: 0.001, high: 0.3, log: true}}`")
        return {}
    runs = [cell.run for cell in own.cells if isinstance(cell.run, OwnRun)]
    known = [*dict.fromkeys(f"{SETTINGS}{name}" for run in runs for name in run.settings)]
    space: dict[str, Dimension] = {}
    for key, child in item.value.items():
        name = key if key.startswith(SETTINGS) else f"{SETTINGS}{key}"
        if name not in known:
            problems.append(f"{child.place}: search.space must name settings, got {key!r}; {suggest(name, known)}")
        elif name in space:
            problems.append(f"{child.place}: search.space must name a setting once, got {name} twice; remove one")
        elif (found := read_dimension(replace(OPTION, name=name), child, problems)) is not BROKEN:
            is_float = own.form.is_float(name.removeprefix(SETTINGS))
            is_float |= any(isinstance(run.setting(name), float) for run in runs)
            space[name] = replace(found, kind="float") if is_float and found.kind == "int" else found
    return space


def _check_grid(item: Item, space: Mapping[str, Dimension], own: Own, seeds: Sequence[int]) -> Iterator[str]:
    place = item.trail(["seeds"])[-1].place
    drawn = {name: [*_drawn(one, item.trail(["space"])[-1])] for name, one in space.items()}
    for block in own.blocks:
        for name in [name for name in space if name in block.listed]:
            rule = f"{name} must be one value where a search chooses it"
            yield f"{block.values(name)[0].item.place}: {rule}, got a list; remove the list"
        if block.variant and VARIANT in block.variant.split():
            yield f"{block.place}: a searched block must not be called {VARIANT!r}, as its best settings are; rename it"
        common = [seed for seed in seeds if any(seed in final for final in block.seeds)]
        if common:
            rule = "search.seeds must differ from the grid's, whose runs must not have chosen the settings"
            yield f"{place}: {rule}, got {common[0]} in both; write e.g. seeds: {{from: 1000, to: 1002}}"
        first: dict[str, list[Choice]] = {name: found[:1] for name, found in block.choices.items()}
        base = {**first, **{name: found[:1] for name, found in drawn.items()}}
        for name, found in drawn.items():  # one setting at a time leaves its first value
            yield from own.check(Block(block.place, "", {**base, name: found}, block.listed, block.seeds))


def _drawn(one: Dimension, space: Item) -> Iterator[Choice]:
    """Yields the values of a list as they are written, or both ends of an interval."""
    written = space.trail([one.name, one.name.removeprefix(SETTINGS)])[-1]
    if isinstance(written.value, list):
        yield from (Choice(child.plain(), child) for child in written.value)
    else:
        yield from edges(one)
