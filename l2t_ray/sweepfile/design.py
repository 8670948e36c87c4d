"""Obeys a declared group-sequential design: which runs wait for the next look, and which are no longer needed.

The sweep file declares the design before the sweep starts:

    design: {looks: [10, 20, 30], alpha: 0.05, futility: 0.1, compare: [l2t_www, l2t_ww]}

A cell's two methods are trained up to the next look. `l2t_ray.statistics.sequential` decides each look, for the sweep
and for the report, so that they cannot disagree.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.errors import suggest
from l2t_ray.ledger.entries import Entry, failures, finished
from l2t_ray.sweepfile.cells import Cell
from l2t_ray.sweepfile.settings import shown
from l2t_ray.sweepfile.yaml_lines import Item

if TYPE_CHECKING:
    from l2t_ray.statistics.sequential import Decision, Design


@dataclass(frozen=True)
class Pair:
    """The two cells that a design compares under one condition."""

    name: str  # the condition: data/samples, or data/samples/variant
    keys: tuple[tuple[str, ...], tuple[str, ...]]  # the first method's runs, then the second's; by rising seed


@dataclass(frozen=True)
class Held:
    """The runs that are not to be trained now."""

    waiting: frozenset[str]  # keys of runs beyond the next look
    spared: frozenset[str]  # keys of runs whose comparison is decided
    decisions: "dict[str, Decision]"  # by the pair's name

    def __str__(self) -> str:
        decided = sum(decision.is_decided for decision in self.decisions.values())
        return (
            f"design: {decided} of {len(self.decisions)} comparisons decided, {len(self.spared)} runs not needed, "
            f"{len(self.waiting)} wait for the next look"
        )


@dataclass(frozen=True)
class Looks:
    """A design and the runs that it compares."""

    design: "Design"
    pairs: tuple[Pair, ...]
    metric: str  # by which they are compared

    def held(self, entries: Sequence[Entry], *, retry_failed: bool = False) -> Held:
        """Takes every look that the finished runs allow.

        Args:
            entries: all of the ledger, oldest first.
            retry_failed: whether runs that diverged or failed will be trained again; a look then waits for them.

        Returns:
            The runs that are not to be trained now.
        """
        from l2t_ray.statistics.sequential import decide

        keys = [key for pair in self.pairs for side in pair.keys for key in side]
        done, lost = finished(entries, keys), {} if retry_failed else failures(entries, keys)
        waiting: set[str] = set()
        spared: set[str] = set()
        decisions = {}
        for pair in self.pairs:
            x, y = (
                {
                    place: done[key].metrics.get(self.metric) if key in done else None
                    for place, key in enumerate(side)
                    if key in done or key in lost
                }
                for side in pair.keys
            )
            decision = decisions[pair.name] = decide(self.design, x, y)
            beyond = {key for side in pair.keys for key in side[decision.n_next :] if key not in done}
            (spared if decision.is_decided else waiting).update(beyond)
        return Held(frozenset(waiting), frozenset(spared), decisions)


def read_looks(item: Item, cells: Iterable[Cell], problems: list[str], metric: str) -> Looks | None:
    """Reads the `design:` block of a sweep file, for all of its cells; None where it adds to the problems.

    Args:
        item: the block.
        cells: of the sweep.
        problems: a line is added for each.
        metric: by which methods are compared.

    Returns:
        The design with its pairs of cells.
    """
    from l2t_ray.statistics.sequential import Design

    if not isinstance(item.value, dict):
        problems.append(f"{item.place}: design must be a map, got {shown(item)}; write `looks: [10, 20, 30]` below it")
        return None
    try:
        design = Design.from_json(item.plain())
    except ValueError as error:
        entry = str(error).split(maxsplit=1)[0]
        problems.append(f"{item.trail([entry])[-1].place}: design: {error}; see docs/statistics.md")
        return None
    groups: dict[str, dict[str, Cell]] = defaultdict(dict)
    methods = set()
    for cell in cells:
        parts = cell.name.split("/")
        groups["/".join([*parts[:2], *parts[3:]])][parts[2]] = cell
        methods.add(parts[2])
    place = item.trail(["compare"])[-1].place
    unknown = [name for name in design.compare if name not in methods]
    if unknown and "compare" not in item.value:
        named = ", ".join(sorted(methods))
        problems.append(f"{place}: design.compare must name two methods of the grid, got none; they are {named}")
        return None
    if unknown:
        problems.extend(
            f"{place}: design.compare must name methods of the grid, got {name!r}; {suggest(name, sorted(methods))}"
            for name in unknown
        )
        return None
    first, second = design.compare
    common = {name: (group[first], group[second]) for name, group in groups.items() if {first, second} <= group.keys()}
    if not common:
        problems.append(
            f"{place}: design.compare must have a cell in common, got none; give both methods one data block"
        )
        return None
    compared = [cell for pair in common.values() for cell in pair]
    held_out = next((c for c in compared if isinstance(c.run, Run) and c.run.data.validation_per_class), None)
    if held_out:
        problems.append(
            f"{place}: design.compare must be of runs that are measured on the test set, got {held_out.name} with "
            "data.validation_per_class; take that out of its block, or the design out of the file"
        )
        return None
    most = design.looks[-1]
    short = [cell for cell in compared if len(cell.seeds) != most]
    if short:
        problems.append(
            f"{item.trail(['looks'])[-1].place}: design.looks must end at the number of seeds of every compared cell, "
            f"got {most} for {short[0].name} with {len(short[0].seeds)}; change `looks:` or `seed:`"
        )
        return None
    return Looks(design, tuple(Pair(name, (_keys(a), _keys(b))) for name, (a, b) in common.items()), metric)


def _keys(cell: Cell) -> tuple[str, ...]:
    return tuple(run.key for run in cell.run.with_seeds(sorted(cell.seeds)))
