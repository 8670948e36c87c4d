"""Stops a cell two of whose runs raised the same error: the others would raise it, too."""

from collections import defaultdict
from collections.abc import Callable, Mapping

LIMIT = 2  # runs of a cell with the same error


class Stops:
    """The cells that are stopped in one launch.

    Args:
        cells: key to cell.
        on_stop: called once with the cell and the error, when a cell is stopped; None stops none.
    """

    def __init__(self, cells: Mapping[str, str], on_stop: Callable[[str, str], None] | None) -> None:
        self._cells, self._on_stop = cells, on_stop
        self._raised: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._stopped: set[str] = set()

    def raised(self, key: str, reason: str) -> None:
        """Counts an error of a run that trained alone; not one of memory, time or the machine."""
        cell = self._cells.get(key)
        if self._on_stop is None or cell is None:
            return
        runs = self._raised[cell, kind(reason)]
        runs.add(key)
        if len(runs) == LIMIT and cell not in self._stopped:
            self._stopped.add(cell)
            self._on_stop(cell, reason)

    def __contains__(self, key: object) -> bool:
        """Whether a run's cell is stopped."""
        return self._cells.get(str(key)) in self._stopped


def kind(reason: str) -> str:
    """What errors have in common whose texts tell other numbers: "ValueError: 3 (mine.py:14 in f)" without the 3."""
    return f"{reason.partition(':')[0]} {reason.rpartition(' (')[2] if reason.endswith(')') else reason}"
