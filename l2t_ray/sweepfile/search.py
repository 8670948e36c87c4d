"""Reads the `search:` of a sweep file: which settings Optuna chooses, in one study for each cell of the grid.

The grid lists the final runs, which are measured on the test set. The search's own runs have other seeds, are
measured on validation images, and never see the test set.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from l2t_ray import registry
from l2t_ray.config import Count, Frozen, Run
from l2t_ray.config.sections import LocalPath, written_out
from l2t_ray.errors import suggest
from l2t_ray.published import weights_file
from l2t_ray.sweepfile.blocks import MAX_RUNS, Block, Choice, read_seeds, reads
from l2t_ray.sweepfile.cells import Cell, Extras
from l2t_ray.sweepfile.settings import RUN, Setting, read_map, settings_of, shown
from l2t_ray.sweepfile.space import Dimension, of_method, read_space
from l2t_ray.sweepfile.yaml_lines import Item

VARIANT = "tuned"
SUFFIX = "_best"
OBJECTIVES = ("validation_accuracy_percent", "validation_ece_percent")
OF_A_CLASS = re.compile(r"validation_accuracy_class_(.+)_percent", re.DOTALL)
FEW_CLASSES = 20  # as in `training.run_training`, which imports torch


class SearchBlock(Frozen):
    """How a study is made; `read_search` reads the space and the seeds apart from these settings."""

    trials: Count = Field(
        30, description="of each study; the first has the file's own settings if the space holds them"
    )
    validation_per_class: Count = Field(
        description="training images of each class, held out, on which a trial is judged"
    )
    objective: Annotated[str, Field(min_length=1)] = Field(
        "validation_accuracy_percent", description="last value of a run; a trial's value is the mean over its seeds"
    )
    second_objective: Literal["wall_s"] | None = Field(None, description="the seconds of a run, to be small as well")
    sampler: Literal["tpe", "gp", "random", "qmc", "nsgaii"] = Field("tpe", description="Optuna's, by name")
    pruner: Literal["median", "percentile", "asha", "hyperband", "wilcoxon", "none"] = Field(
        "median", description="Optuna's, by name; it looks at a trial after each of its seeds"
    )
    parallel: Count = Field(4, description="trials of a study at once: more are faster and less informed")
    storage: Annotated[str, Field(min_length=1), AfterValidator(written_out)] | None = Field(
        None, description="a journal file or a database's URL; OPTUNA_STORAGE wins over it"
    )
    best: LocalPath | None = Field(None, description="the sweep file to write; by default NAME_best.yaml beside")
    untuned: bool = Field(False, description="the written file has the grid's own settings too, for comparison")
    run_best: bool = Field(False, description="the written file is run as soon as every study is done")


BLOCK: Mapping[str, Setting] = settings_of(SearchBlock, "search.")


@dataclass(frozen=True)
class Study:
    """The search for one cell's best settings."""

    name: str  # the cell's
    run: Run  # with the grid's own settings; trained in the end
    seeds: Mapping[int, Extras]  # of the final runs, each with what it keeps
    space: tuple[Dimension, ...]  # the settings of the file's space that its method reads
    validation_per_class: int  # images held out of each class
    weights: Mapping[str, str]  # SHA-256 by `source.weights`, where the space lists them

    def trial_run(self, labels: Mapping[str, Any], seed: int) -> Run:
        """Returns a run of a trial, measured on validation images; `labels` are Optuna's values by dotted name."""
        return self._with(labels, {"seed": seed, "data.validation_per_class": self.validation_per_class})

    def final_run(self, labels: Mapping[str, Any]) -> Run:
        """Returns the first run of the final sweep, measured on the test set; `labels` are the best trial's."""
        return self._with(labels, {"seed": next(iter(self.seeds))})

    def trial_cell(self, number: int) -> str:
        """Returns the cell of a trial's runs: the study's, with `trial=NUMBER` added to its variant."""
        return f"{self.name}{',' if self.name.count('/') > 2 else '/'}trial={number}"

    def own_labels(self) -> dict[str, Any] | None:
        """Returns the grid's own settings as a point of the space; None where one of them lies outside it."""
        labels = {dimension.name: dimension.label(_get(self.run, dimension.name)) for dimension in self.space}
        return None if None in labels.values() else labels

    def _with(self, labels: Mapping[str, Any], more: Mapping[str, Any]) -> Run:
        values = self.run.model_dump()
        if "data.validation_per_class" in more:
            values.pop("trace", None)  # only the final runs are traced, and keep files
            values["record"] |= {"weights": None, "predictions": False}
        chosen = {dimension.name: dimension.value(labels[dimension.name]) for dimension in self.space}
        for name, value in {**chosen, **more}.items():
            section, _, inner = name.rpartition(".")
            (values[section] if section else values)[inner] = value
        for network in (values["source"], values["target"]):
            if (file := weights_file(network["arch"], network["weights"])) in self.weights:
                network["sha256"] = self.weights[str(file)]
        return Run.model_validate(values)


@dataclass(frozen=True)
class Search:
    """A sweep file's search."""

    settings: SearchBlock  # how a study is made
    seeds: tuple[int, ...]  # of every trial, in the order of training
    studies: tuple[Any, ...]  # one `Study` for each cell, or `own_search.OwnStudy`
    best_file: Path  # the sweep file to write
    lower_is_better: bool | None = None  # of the first objective; None: by its name
    own: Any = None  # `own.Own`, where the trainer is the user's own

    @property
    def objectives(self) -> tuple[str, ...]:
        """The metrics: the first to be large or small by its name, the second (seconds) to be small."""
        second = self.settings.second_objective
        return (self.settings.objective, second) if second else (self.settings.objective,)

    @property
    def modes(self) -> tuple[str, ...]:
        """Tune's words for the directions of `objectives`."""
        modes = tuple("max" if "accuracy" in name else "min" for name in self.objectives)
        return modes if self.lower_is_better is None else ("min" if self.lower_is_better else "max", *modes[1:])

    @property
    def n_runs(self) -> int:
        """The most runs that the studies' trials can need."""
        return len(self.studies) * self.settings.trials * len(self.seeds)


def _get(run: Run, name: str) -> Any:
    section, _, inner = name.rpartition(".")
    if not section:
        return getattr(run, inner)
    settings = getattr(run, section)
    return settings.get(inner) if isinstance(settings, dict) else getattr(settings, inner)


def read_search(
    item: Item,
    path: Path,
    blocks: Sequence[Block],
    cells: Sequence[Cell],
    chosen: Sequence[Cell],
    check: Callable[[Block], list[str]],
    weights: Mapping[str, str],
    problems: list[str],
) -> Search | None:
    """Returns the search that a sweep file's `search:` describes; None where it adds to the problems.

    Args:
        item: the block.
        path: of the file.
        blocks: of its grid.
        cells: of its grid.
        chosen: the cells to search.
        check: returns the problems between the settings of a block.
        weights: SHA-256 by `source.weights`; `check` adds the weights that the space lists.
        problems: a line is added for each.
    """
    n_before = len(problems)
    if not isinstance(item.value, dict):
        problems.append(f"{item.place}: search must be a map, got {shown(item)}; write `space:` below it")
        return None
    values = read_map(item.value, BLOCK, "search", problems, apart=("space", "seeds"))
    for name in ("space", "seeds", "validation_per_class"):
        if name not in item.value:
            remedy = {"seeds": "seeds: {from: 1000, to: 1002}", "validation_per_class": "validation_per_class: 20"}
            problems.append(f"{item.place}: search.{name} must be given; add `{remedy.get(name, 'space:')}`")
    space = read_space(item.value["space"], problems) if "space" in item.value else {}
    seeds = read_search_seeds(item.value["seeds"], problems) if "seeds" in item.value else ()
    problems += _check_objectives(item, values)
    if "validation_per_class" in item.value:
        problems += _check_grid(item, space, blocks, seeds, check)
    if cells:
        problems += _check_readers(space, cells)
        problems += dict.fromkeys(_check_classes(item, values, space, cells))
    if len(problems) > n_before:
        return None
    settings = SearchBlock(**values)
    if (n_runs := len(chosen) * settings.trials * len(seeds)) > MAX_RUNS:
        rule = f"a search must have at most {MAX_RUNS:,} runs, studies x trials x seeds"
        problems.append(
            f"{item.trail(['trials'])[-1].place}: {rule}, got {n_runs:,}; lower `trials:`, or list fewer seeds"
        )
        return None
    studies = tuple(_studies(item, space, chosen, settings, weights, problems))
    problems += dict.fromkeys(problem for study in studies for problem in _check_draws(study, seeds[0]))
    best = Path(settings.best) if settings.best else path.with_name(f"{path.stem}{SUFFIX}.yaml")
    return None if len(problems) > n_before else Search(settings, seeds, studies, best)


def read_search_seeds(item: Item, problems: list[str]) -> tuple[int, ...]:
    """Returns the seeds of every trial, each once; none where it adds to the problems."""
    children = item.value if isinstance(item.value, list) else [item]
    if not children:
        problems.append(f"{item.place}: search.seeds must have at least one value, got []; add one")
    ranges = [seeds for child in children for seeds in read_seeds(RUN["seed"], child, problems)]
    if (n_seeds := sum(map(len, ranges))) > MAX_RUNS:
        problems.append(f"{item.place}: search.seeds must be at most {MAX_RUNS:,}, got {n_seeds:,}; shorten the range")
        return ()
    return tuple(dict.fromkeys(seed for seeds in ranges for seed in seeds))


def _check_objectives(item: Item, values: Mapping[str, Any]) -> Iterator[str]:
    objective = values.get("objective", SearchBlock.model_fields["objective"].default)
    place = item.trail(["objective"])[-1].place
    if objective.startswith("test_"):
        rule = "search.objective must be measured on validation images"
        why = "settings chosen by the test set would make its accuracy a training result"
        yield f"{place}: {rule}, got {objective!r}; {why}; write {objective.replace('test_', 'validation_', 1)}"
    elif objective not in OBJECTIVES and not OF_A_CLASS.fullmatch(objective):
        rule = "search.objective must be a metric on validation images"
        known = [*OBJECTIVES, "validation_accuracy_class_<c>_percent"]
        yield f"{place}: {rule}, got {objective!r}; {suggest(objective, known)}"
    if values.get("second_objective") and values.get("pruner", "none") != "none":
        rule = "search.pruner must be none with a second objective, which Optuna does not prune"
        yield f"{item.trail(['pruner'])[-1].place}: {rule}, got {values['pruner']!r}; remove one of them"


def _check_grid(
    item: Item,
    space: Mapping[str, Dimension],
    blocks: Sequence[Block],
    seeds: Sequence[int],
    check: Callable[[Block], list[str]],
) -> Iterator[str]:
    place = item.trail(["seeds"])[-1].place
    held = item.trail(["validation_per_class"])[-1]
    for block in blocks:
        for name in [name for name in space if name in block.listed]:
            rule = f"{name} must be one value where a search chooses it"
            yield from (f"{c.item.place}: {rule}, got a list; remove the list" for c in block.values(name)[:1])
        for choice in block.values("data.validation_per_class"):
            rule = "data.validation_per_class must not stand beside `search:`: the final runs see the test set"
            yield f"{choice.item.place}: {rule}, got {choice.value}; write it below `search:`"
        common = [seed for seed in seeds if any(seed in final for final in block.seeds)]
        if common:
            rule = "search.seeds must differ from the grid's, whose runs must not have chosen the settings"
            yield f"{place}: {rule}, got {common[0]} in both; write e.g. seeds: {{from: 1000, to: 1002}}"
        drawn = {name: [*edges(dimension)] for name, dimension in space.items()}
        if isinstance(held.value, int) and held.value > 0:
            drawn["data.validation_per_class"] = [Choice(held.value, held)]
        yield from check(Block(block.place, "", {**block.choices, **drawn}, block.listed, block.seeds))


def edges(dimension: Dimension) -> Iterator[Choice]:
    """Yields every value of a list, or both ends of an interval, at its line."""
    for label in dimension.edges():
        value = dimension.value(label)
        yield Choice(value, Item(value, dimension.place))


def _check_readers(space: Mapping[str, Dimension], cells: Sequence[Cell]) -> Iterator[str]:
    methods = {_of(cell).method for cell in cells}
    for name, dimension in space.items():
        if not any(reads(registry.METHODS[method], name) for method in methods):
            rule = f"search.space: {name} must be read by a method of the grid"
            yield f"{dimension.place}: {rule}; remove it, or add a method that reads it"


def _check_classes(
    item: Item, values: Mapping[str, Any], space: Mapping[str, Dimension], cells: Sequence[Cell]
) -> Iterator[str]:
    """Yields what is wrong with the accuracy of a class, where it is known before the images are read."""
    found = OF_A_CLASS.fullmatch(values.get("objective", ""))
    if not found:
        return
    place, title = item.trail(["objective"])[-1].place, found[1]
    for run in map(_of, cells):
        facts = registry.DATA_SETS[run.data.name]
        classes = run.data.classes or facts.classes
        n_classes, is_recorded = len(classes) or facts.n_classes or 0, run.record.per_class
        if classes and title not in classes:
            rule = f"search.objective must name a class of {run.data.name}"
            yield f"{place}: {rule}, got {title!r}; {suggest(title, classes)}"
        elif n_classes > FEW_CLASSES and not is_recorded and "record.per_class" not in space:
            rule = f"search.objective may be of a class where more than {FEW_CLASSES} are recorded"
            yield f"{place}: {rule}, and {run.data.name} has {n_classes}; add `record: {{per_class: true}}`"


def _studies(
    item: Item,
    space: Mapping[str, Dimension],
    cells: Sequence[Cell],
    settings: SearchBlock,
    weights: Mapping[str, str],
    problems: list[str],
) -> Iterator[Study]:
    place = item.trail(["space"])[-1].place
    for cell in cells:
        method = registry.METHODS[_of(cell).method]
        try:
            dimensions = tuple(of_method(space, method))
        except ValueError as error:
            problems.append(f"{place}: search.space: an option of {method.name} {error}; correct its values")
            return
        if not dimensions:
            rule = f"search.space must have a setting that {method.name} reads"
            problems.append(f"{place}: {rule}, got {', '.join(space)}; add e.g. training.lr, or take {cell.name} out")
            return
        if cell.name.count("/") > 2 and VARIANT in cell.name.split("/")[3].split(","):
            rule = f"a cell of a searched grid must not be called {VARIANT!r}, which its best settings will be"
            problems.append(f"{cell.place}: {rule}, got {cell.name}; give it another `variant:`")
            return
        kept = {seed: extras or Extras() for seed, extras in cell.seeds.items()}
        yield Study(cell.name, _of(cell), kept, dimensions, settings.validation_per_class, weights)


def _of(cell: Cell) -> Run:
    assert isinstance(cell.run, Run)
    return cell.run


def _check_draws(study: Study, seed: int) -> Iterator[str]:
    """Yields what a method refuses at the edges of its space, where one setting at a time leaves its first value."""
    reported: set[str] = set()
    base = {dimension.name: dimension.example(0) for dimension in study.space}
    for dimension in study.space:
        for label in dimension.edges():
            run = study.trial_run({**base, dimension.name: label}, seed)
            for setting, problem in registry.METHODS[run.method].laws(run):
                if problem not in reported:
                    reported.add(problem)
                    yield f"{dimension.place}: search.space draws what {run.method} refuses: {setting} {problem}"
