"""Two methods against each other in every cell that both have."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.cells import Cell, Condition, matched
from analysis.hypothesis import Finding, mann_whitney


@dataclass(frozen=True)
class Comparison:
    """One method against another under one condition.

    Attributes:
        a: the first cell.
        b: the second.
        difference: of the means, a - b; None where one has no run.
        test: Mann-Whitney.
    """

    a: Cell
    b: Cell
    difference: float | None
    test: Finding

    @property
    def condition(self) -> Condition:
        """Of the first cell."""
        return self.a.condition


def compare(cells: Sequence[Cell], a: str, b: str, *, alpha: float = 0.05) -> list[Comparison]:
    """Compares two methods under every condition that both have.

    Args:
        cells: all.
        a: the one expected to be better.
        b: the other.
        alpha: the threshold.

    Returns:
        One comparison a condition.
    """
    return [_compare(left, right, alpha) for left, right in matched(cells, a, b)]


def _compare(a: Cell, b: Cell, alpha: float) -> Comparison:
    mean_a, mean_b = a.mean.mean, b.mean.mean
    difference = None if mean_a is None or mean_b is None else mean_a - mean_b
    return Comparison(a, b, difference, mann_whitney([*a.values.values()], [*b.values.values()], alpha=alpha))
