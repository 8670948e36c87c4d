"""The sweep file: read, checked as a whole, and expanded into runs by key. All its problems are told at once."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from l2t_ray import registry
from l2t_ray.config import Execution, Run, reads_source
from l2t_ray.data.digests import Digests
from l2t_ray.errors import InputError, suggest
from l2t_ray.sweepfile.arguments import override, select
from l2t_ray.sweepfile.blocks import MAX_RUNS, Block, Leaves, flatten, read_block
from l2t_ray.sweepfile.cells import read_cells
from l2t_ray.sweepfile.checks import Laws
from l2t_ray.sweepfile.settings import BROKEN, EXECUTION, METHODS, NAME, RUN, SECTIONS, shown
from l2t_ray.sweepfile.yaml_lines import Item, load_yaml
from l2t_ray.training.storage import storage

if TYPE_CHECKING:
    from l2t_ray.sweepfile.design import Looks
    from l2t_ray.sweepfile.search import Search

PARTS = ("sweep", "methods", "run", "grid", "design", "search", "execution")


@dataclass(frozen=True)
class Sweep:
    """A named set of runs that must exist.

    Attributes:
        name: MLflow's experiment.
        path: of the file.
        runs: by key, in the file's order.
        cells: key to cell: runs that differ in their seed alone.
        execution: how they are trained.
        methods: files with methods of the user's own, which are loaded already in this process.
        sources: weights that are not there, and the file that trains each; their runs have provisional keys.
        looks: a declared group-sequential design; of the whole file, whatever part of it was chosen.
        search: for the best settings of each cell; the runs are then those of the end, with their own settings.
        notes: what is legal and does nothing, a line each.
    """

    name: str
    path: Path
    runs: Mapping[str, Run]
    cells: Mapping[str, str]
    execution: Execution
    methods: tuple[Path, ...]
    looks: "Looks | None" = None
    sources: Mapping[str, Path] = field(default_factory=dict)
    search: "Search | None" = None
    notes: tuple[str, ...] = ()


def read_sweep(path: Path, *, overrides: Sequence[str] = (), where: Sequence[str] = ()) -> Sweep:
    """Reads a sweep file.

    Args:
        path: of the YAML file; paths inside count from the working folder.
        overrides: `dotted.key=VALUE`, in place of that setting in `run:` and in every block, or of `execution.key`.
        where: `KEY=VALUE` or `cell=PATTERN`, keeps the runs that match; of several with one key, one is enough.

    Returns:
        The sweep, its settings resolved: defaults, digests of weights and images, options of methods.

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
    for name, item in top.value.items():
        if name not in PARTS:
            below = name in RUN or name in SECTIONS
            remedy = "write it below `run:`" if below else suggest(name, PARTS)
            problems.append(f"{item.place}: {name!r} must be one of {', '.join(PARTS)}; {remedy}")
    override(parts, overrides, problems)
    execution = _read_execution(parts.get("execution"), problems)
    name, methods = _read_head(path, parts, problems)
    laws = Laws(Digests(Path(execution.data_dir) / ".cache"))
    blocks = _read_blocks(path, parts, laws, problems)
    laws.digests.save()
    notes = laws.notes()
    n_runs = sum(block.n_runs for block in blocks)
    if n_runs > MAX_RUNS:
        problems.append(f"{path}: must have at most {MAX_RUNS:,} runs, got {n_runs:,}; shorten the longest lists")
        raise InputError(_in_order(problems))
    cells = read_cells(blocks, laws, problems)
    looks = None
    if "design" in parts:
        from l2t_ray.sweepfile.design import read_looks

        looks = read_looks(parts["design"], cells, problems)
    if problems and "search" not in parts:
        raise InputError(_in_order(problems))
    chosen = [] if problems else select(cells, where)
    search = None
    if "search" in parts:
        from l2t_ray.sweepfile.search import read_search

        search = read_search(parts["search"], path, blocks, cells, chosen, laws.check, laws.weights, problems)
        laws.digests.save()
        if "design" in parts:
            place = parts["search"].place
            problems.append(f"{place}: search must stand without `design:`, which compares finished runs; remove one")
    if problems:
        raise InputError(_in_order(problems))
    runs: dict[str, Run] = {}
    named: dict[str, str] = {}
    for cell in chosen:
        for run in cell.runs():
            runs[run.key] = run
            named[run.key] = cell.name
    read = {run.source.weights for run in runs.values() if reads_source(run)}
    sources = {
        start: file for weights in laws.missing if weights in read for start, file in laws.missing[weights].items()
    }
    return Sweep(name, path, runs, named, execution, methods, looks, sources, search, notes)


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
    values = {}
    if item is not None and not isinstance(item.value, dict):
        problems.append(f"{item.place}: execution must be a map, got {shown(item)}; write `setting: value` below it")
    elif item is not None and isinstance(item.value, dict):
        for name, child in item.value.items():
            setting = EXECUTION.get(f"execution.{name}")
            if setting is None:
                known = [known.partition(".")[2] for known in EXECUTION]
                problems.append(f"{child.place}: {name!r} must be a setting of execution; {suggest(name, known)}")
            elif (value := setting.read(child, problems)) is not BROKEN:
                values[name] = value
                if name == "storage":
                    try:
                        storage(value)
                    except InputError as error:
                        problems.extend(f"{child.place}: {problem}" for problem in error.problems)
    return Execution(**values)


def _read_blocks(path: Path, parts: Mapping[str, Item], laws: Laws, problems: list[str]) -> list[Block]:
    """The blocks, with the values that are whole."""
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
            problems += laws.check(blocks[-1])
    problems += laws.unread()
    return blocks


def _in_order(problems: Iterable[str]) -> list[str]:
    """Each problem once, by line; those of the command line first."""

    def line(problem: str) -> int:
        found = re.match(r".*?:(\d+): ", problem)
        return int(found[1]) if found else 0

    return sorted(dict.fromkeys(problems), key=line)
