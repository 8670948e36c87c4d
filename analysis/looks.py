"""A sweep's declared group-sequential design, applied to its finished runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.cells import Cell
from analysis.comparison import Comparison
from analysis.results import Gap, Results
from analysis.sequential import Decision, Design, decide, in_order
from l2t_ray.errors import InputError

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


def apply_designs(
    comparisons: Sequence[Comparison], designs: dict[str, Design]
) -> tuple[list[Comparison], list[Spared]]:
    """Decides every comparison that a design is about.

    Args:
        comparisons: of one pair of methods.
        designs: by sweep.

    Returns:
        The comparisons with their decisions, and the runs that are spared by them.
    """
    found, spared = [], []
    for item in comparisons:
        design = designs.get(item.a.sweep)
        if design is None or {item.a.method, item.b.method} != set(design.compare):
            found.append(item)
            continue
        decision = _decide(design, item.a, item.b)
        found.append(replace(item, decision=decision))
        if decision.is_decided:
            for cell in (item.a, item.b):
                beyond = set(cell.seeds[decision.n_next :])
                seeds = tuple(g.wanted.seed for g in cell.gaps if g.outcome == "missing" and g.wanted.seed in beyond)
                if seeds:
                    spared.append(Spared(cell, seeds))
    return found, spared


def without_spared(gaps: Sequence[Gap], spared: Sequence[Spared]) -> tuple[Gap, ...]:
    """The gaps that are really missing.

    Args:
        gaps: all.
        spared: runs that need not exist.

    Returns:
        The rest.
    """
    keys = {
        gap.wanted.key
        for item in spared
        for gap in item.cell.gaps
        if gap.outcome == "missing" and gap.wanted.seed in item.seeds
    }
    return tuple(gap for gap in gaps if gap.wanted.key not in keys)


def _decide(design: Design, a: Cell, b: Cell) -> Decision:
    values = [
        in_order(cell.seeds, cell.values, [g.wanted.seed for g in cell.gaps if g.outcome in ENDED]) for cell in (a, b)
    ]
    return decide(design, *values)
