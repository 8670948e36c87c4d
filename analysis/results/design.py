"""A sweep's declared group-sequential design, applied to its finished runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.results.cells import Cell
from analysis.results.comparison import Comparison, compare, corrected
from analysis.results.runs import Results
from l2t_ray.errors import InputError
from l2t_ray.statistics.sequential import Decision, Design, decide, in_order

ENDED = ("diverged", "failed", "invalid")


@dataclass(frozen=True)
class Spared:
    """Wanted runs that need not exist, because their cell is decided."""

    cell: Cell
    seeds: tuple[int, ...]


def read_designs(results: Results) -> dict[str, Design]:
    """The designs that the sweeps declared before their start.

    Args:
        results: of the ledger.

    Returns:
        By sweep.

    Raises:
        InputError: if a manifest holds an impossible design.
    """
    found = {}
    for sweep, values in results.designs.items():
        try:
            found[sweep] = Design.from_json(values)
        except (ValueError, TypeError) as error:
            raise InputError(f"{sweep}: the manifest's design is impossible: {error}") from error
    return found


def apply_designs(comparisons: Sequence[Comparison], designs: Mapping[str, Design]) -> list[Comparison]:
    """Decides every comparison that a design is about, and corrects again with the p that are adjusted for its looks.

    Args:
        comparisons: with their families.
        designs: by sweep.

    Returns:
        The comparisons, with their decisions.
    """
    found = []
    for item in comparisons:
        sweep = _declared_by(item, designs)
        if sweep is None:
            found.append(item)
        else:
            decision = _decide(designs[sweep], sweep, item)
            found.append(replace(item, decision=decision, alpha=designs[sweep].alpha, declared_by=sweep))
    return corrected(found)


def find_spared(cells: Sequence[Cell], designs: Mapping[str, Design]) -> list[Spared]:
    """The runs that need not exist, because a design has decided their cells.

    Args:
        cells: all.
        designs: by sweep.

    Returns:
        Cells with such runs; a run that another sweep wants too is missing, whatever this one's design says.
    """
    found = []
    for sweep, design in designs.items():
        for item in apply_designs(compare(cells, *design.compare), {sweep: design}):
            if item.decision is None or not item.decision.is_decided:
                continue
            for cell in (item.a, item.b):
                beyond = cell.seeds[sweep][item.decision.n_next :]
                seeds = tuple(
                    gap.wanted.seed
                    for gap in cell.gaps
                    if gap.outcome == "missing" and gap.wanted.seed in beyond and gap.wanted.sweeps == (sweep,)
                )
                if seeds:
                    found.append(Spared(cell, seeds))
    return found


def without_spared(cells: Sequence[Cell], spared: Sequence[Spared]) -> list[Cell]:
    """The cells, without the runs that need not exist.

    Args:
        cells: all.
        spared: of `find_spared`.

    Returns:
        The same cells, with fewer wanted runs.
    """
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
