"""Applies the group-sequential design that a sweep declared to its finished runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.results.cells import Cell, matched
from analysis.results.comparison import Comparison, compare, corrected
from analysis.results.runs import Results
from l2t_ray.errors import InputError
from l2t_ray.statistics.sequential import Decision, Design, decide, in_order

ENDED = ("diverged", "failed", "invalid")  # a look does not wait for runs with these outcomes


@dataclass(frozen=True)
class Spared:
    """Wanted runs that are not needed, because a design has already decided their cell."""

    cell: Cell
    seeds: tuple[int, ...]


def read_designs(results: Results) -> dict[str, Design]:
    """The designs that sweeps declared before they began, by sweep; raises InputError for an impossible one."""
    designs = {}
    for sweep, values in results.designs.items():
        try:
            designs[sweep] = Design.from_json(values)
        except (ValueError, TypeError) as error:
            raise InputError(f"{sweep}: the manifest's design is impossible: {error}") from error
    return designs


def apply_designs(comparisons: Sequence[Comparison], designs: Mapping[str, Design]) -> list[Comparison]:
    """Adds each design's decision to its comparisons and corrects p anew, now with p adjusted for the looks."""
    decided = []
    for item in comparisons:
        sweep = _declared_by(item, designs)
        if sweep is None:
            decided.append(item)
        else:
            decision = _decide(designs[sweep], sweep, item)
            decided.append(replace(item, decision=decision, alpha=designs[sweep].alpha, declared_by=sweep))
    return corrected(decided)


def find_spared(cells: Sequence[Cell], designs: Mapping[str, Design]) -> list[Spared]:
    """Finds missing runs whose cell a design has decided; a run that a second sweep wants too is never spared."""
    spared = []
    for sweep, design in designs.items():
        for item in apply_designs(compare(matched(cells, *design.compare)), {sweep: design}):
            if item.decision is None or not item.decision.is_decided:
                continue
            for cell in (item.a, item.b):
                later = cell.seeds[sweep][item.decision.n_next :]
                seeds = tuple(
                    gap.wanted.seed
                    for gap in cell.gaps
                    if gap.outcome == "missing" and gap.wanted.seed in later and gap.wanted.sweeps == (sweep,)
                )
                if seeds:
                    spared.append(Spared(cell, seeds))
    return spared


def without_spared(cells: Sequence[Cell], spared: Sequence[Spared]) -> list[Cell]:
    """The cells as if the spared runs had never been wanted."""
    seeds = {(item.cell.condition, item.cell.method): item.seeds for item in spared}
    return [cell.without(seeds.get((cell.condition, cell.method), ())) for cell in cells]


def _declared_by(item: Comparison, designs: Mapping[str, Design]) -> str | None:
    methods = {item.a.method, item.b.method}
    if item.a.condition != item.b.condition:
        return None
    both = (sweep for sweep in item.a.seeds if sweep in item.b.seeds and sweep in designs)
    return next((sweep for sweep in both if set(designs[sweep].compare) == methods), None)


def _decide(design: Design, sweep: str, item: Comparison) -> Decision:
    values = [
        in_order(cell.seeds[sweep], cell.values, [gap.wanted.seed for gap in cell.gaps if gap.outcome in ENDED])
        for cell in (item.a, item.b)
    ]
    return decide(design, *values)
