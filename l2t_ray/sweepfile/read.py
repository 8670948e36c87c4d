"""Reads a sweep file, checks it as a whole, and expands it into runs by key. Reports all its problems together."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l2t_ray import registry
from l2t_ray.config import Execution, Run, reads_source
from l2t_ray.data.digests import Digests
from l2t_ray.errors import InputError, disk_problem, suggest
from l2t_ray.run import ACCURACY, AnyRun, Metric
from l2t_ray.sweepfile.arguments import override, select
from l2t_ray.sweepfile.blocks import Block, Leaves, check_size, flatten, read_block
from l2t_ray.sweepfile.cells import read_cells
from l2t_ray.sweepfile.checks import Checks
from l2t_ray.sweepfile.settings import BROKEN, EXECUTION, METHODS, NAME, RUN, SECTIONS, read_map, shown
from l2t_ray.sweepfile.yaml_lines import Item, load_yaml
from l2t_ray.training.storage import storage

if TYPE_CHECKING:
    from l2t_ray.sweepfile.design import Looks
    from l2t_ray.sweepfile.own import Own
    from l2t_ray.sweepfile.own_names import Factors
    from l2t_ray.sweepfile.search import Search
    from l2t_ray.trainer.spec import Spec

OF_OWN = ("metric", "method", "axis", "data")  # stand with `trainer:` alone
PARTS = ("sweep", "trainer", *OF_OWN, "methods", "run", "grid", "design", "search", "execution")


@dataclass(frozen=True)
class Sweep:
    """A named set of runs that must exist."""

    name: str  # MLflow's experiment
    path: Path  # of the file
    runs: Mapping[str, AnyRun]  # by key, in the file's order
    cells: Mapping[str, str]  # each run's cell, by key
    execution: Execution  # how the runs are trained
    methods: tuple[Path, ...]  # files with methods of the user's own, already loaded in this process
    # a declared group-sequential design; of the whole file, whatever part of it was chosen
    looks: "Looks | None" = None
    # missing weights, and the file that trains each; their runs have provisional keys
    sources: Mapping[str, Path] = field(default_factory=dict)
    # for the best settings of each cell; the runs are then the final ones, with the grid's own settings
    search: "Search | None" = None
    notes: tuple[str, ...] = ()  # a line for each list that is legal and has no effect
    metric: Metric = ACCURACY  # by which runs are compared
    trainer: "Spec | None" = None  # of the user's own
    factors: "Factors | None" = None  # what varies, where the trainer is the user's own


def read_sweep(path: Path, *, overrides: Sequence[str] = (), where: Sequence[str] = ()) -> Sweep:
    """Reads a sweep file.

    Args:
        path: of the YAML file; paths inside count from the working folder.
        overrides: `dotted.key=VALUE`, in place of that setting in `run:` and in every block, or of `execution.key`.
        where: `KEY=VALUE` or `cell=PATTERN`, keeps the runs that match; of several with one key, one is enough.

    Returns:
        The sweep, its settings resolved, that is with defaults, digests of weights and images, options of methods.

    Raises:
        InputError: with a line for every problem of the file.
    """
    top, problems = load_yaml(path)
    if not isinstance(top.value, dict):
        raise InputError([
            *problems,
            f"{top.place}: must be a map of {', '.join(PARTS)}, got {shown(top)}; see the schema",
        ])
    parts = dict(top.value)
    if "out" in parts and not {"sweep", "grid"} & {*parts}:
        raise InputError(f"{path}: this is the file of a source network; train it: python -m l2t_ray.pretrain {path}")
    for name, item in top.value.items():
        if name not in PARTS:
            below = name in RUN or name in SECTIONS
            remedy = "write it below `run:`" if below else suggest(name, PARTS)
            problems.append(f"{item.place}: {name!r} must be one of {', '.join(PARTS)}; {remedy}")
    is_own = "trainer" in parts
    override(parts, overrides, problems, is_own=is_own)
    execution = _read_execution(parts.get("execution"), problems)
    name, methods = _read_head(path, parts, problems)
    checks = Checks(Digests(Path(execution.data_dir) / ".cache"))
    own: Own | None = None
    if is_own:
        from l2t_ray.sweepfile.own import read_own

        problems += _unfit(parts, execution)
        own = read_own(path, parts, problems)
        blocks = own.blocks if own else []
    else:
        rule = "must stand with `trainer:`, a trainer of your own"
        problems += [f"{parts[part].place}: {part} {rule}; remove it" for part in OF_OWN if part in parts]
        blocks = _read_blocks(path, parts, checks, problems)
        checks.digests.save()
    notes = checks.notes()
    if too_many := check_size(path, blocks):
        raise InputError(_in_order([*problems, *too_many]))
    cells = read_cells(blocks, checks, problems) if not is_own else own.cells if own else []
    looks = None
    if "design" in parts and (cells or not is_own):
        from l2t_ray.sweepfile.design import read_looks

        looks = read_looks(parts["design"], cells, problems, own.metric.name if own else ACCURACY.name)
    if problems and "search" not in parts:
        raise InputError(_in_order(problems))
    chosen = [] if problems else select(cells, where)
    search = None
    if own and "search" in parts:
        from l2t_ray.sweepfile.own_search import read_own_search

        search, more = read_own_search(parts["search"], path, own, chosen, problems)
        notes = (*notes, *more)
    elif "search" in parts and not is_own:
        from l2t_ray.sweepfile.search import read_search

        search = read_search(parts["search"], path, blocks, cells, chosen, checks.check, checks.weights, problems)
        checks.digests.save()
    if "search" in parts and "design" in parts:
        place = parts["search"].place
        problems.append(f"{place}: search must stand without `design:`, which compares finished runs; remove one")
    if problems:
        raise InputError(_in_order(problems))
    runs: dict[str, AnyRun] = {}
    named: dict[str, str] = {}
    for cell in chosen:
        for run in cell.runs():
            runs[run.key] = run
            named[run.key] = cell.name
    read = {run.source.weights for run in runs.values() if isinstance(run, Run) and reads_source(run)}
    sources = {
        start: file for weights in checks.missing if weights in read for start, file in checks.missing[weights].items()
    }
    sweep = Sweep(name, path, runs, named, execution, methods, looks, sources, search, notes)
    return replace(sweep, metric=own.metric, trainer=own.spec, factors=own.factors) if own else sweep


def _unfit(parts: Mapping[str, Item], execution: Execution) -> Iterable[str]:
    """Yields a line for what the built-in trainer alone takes."""
    if "methods" in parts:
        yield f"{parts['methods'].place}: methods are of the built-in trainer, got `trainer:` too; remove one of them"
    if execution.pack not in {"auto", 1}:
        place = parts["execution"].trail(["pack"])[-1].place
        rule = "execution.pack must be auto or 1 with a trainer of your own, whose runs have a process each"
        yield f"{place}: {rule}, got {execution.pack}; remove it"


def _read_head(path: Path, parts: Mapping[str, Item], problems: list[str]) -> tuple[str, tuple[Path, ...]]:
    if "sweep" not in parts:
        problems.append(f"{path}:1: sweep must be given; add `sweep: NAME`")
    name = NAME.read(parts["sweep"], problems) if "sweep" in parts else ""
    files = METHODS.read(parts["methods"], problems) if "methods" in parts else ()
    methods = () if files is BROKEN else tuple(Path(file) for file in files)
    registry.load()
    for index, file in enumerate(methods):
        place = parts["methods"].trail([index])[-1].place
        if file.suffix != ".py":
            problems.append(f"{place}: methods must be Python files, got {str(file)!r}; name one that ends in .py")
            continue
        try:
            registry.load([file])
        except InputError as error:
            problems.extend(f"{place}: {problem}" for problem in error.problems)
    return name, methods


def _read_execution(item: Item | None, problems: list[str]) -> Execution:
    values: dict[str, Any] = {}
    if item is not None and not isinstance(item.value, dict):
        problems.append(f"{item.place}: execution must be a map, got {shown(item)}; write `setting: value` below it")
    elif item is not None and isinstance(item.value, dict):
        values = read_map(item.value, EXECUTION, "execution", problems)
        if "storage" in values:
            try:
                storage(values["storage"])
            except InputError as error:
                problems.extend(f"{item.value['storage'].place}: {problem}" for problem in error.problems)
        if "data_dir" in values:
            try:
                Path(values["data_dir"]).exists()
            except OSError as error:
                problems.append(f"{item.value['data_dir'].place}: execution.data_dir: {disk_problem(error)}")
                del values["data_dir"]
    return Execution(**values)


def _read_blocks(path: Path, parts: Mapping[str, Item], checks: Checks, problems: list[str]) -> list[Block]:
    """Returns the blocks of the grid, each without its broken values."""
    defaults: Leaves = flatten(parts["run"], problems, is_block=False) if "run" in parts else {}
    grid = parts.get("grid")
    if grid is None or not isinstance(grid.value, list) or not grid.value:
        place = f"{path}:1" if grid is None else grid.place
        problems.append(
            f"{place}: grid must be a list of blocks, at least one; add `grid:` and `- method: ...` below it"
        )
        return []
    blocks = []
    for item in grid.value:
        own = flatten(item, problems, is_block=True)
        if isinstance(item.value, dict):
            blocks.append(read_block(item.place, {**defaults, **own}, problems))
            problems += checks.check(blocks[-1])
    problems += checks.unread()
    return blocks


def _in_order(problems: Iterable[str]) -> list[str]:
    """Returns each problem once, by line; those of the command line first."""

    def line(problem: str) -> int:
        place = re.match(r".*?:(\d+): ", problem)
        return int(place[1]) if place else 0

    return sorted(dict.fromkeys(problems), key=line)
