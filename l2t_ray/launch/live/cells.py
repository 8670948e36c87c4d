"""The runs of a launch by cell: how many are finished, running, failed, and the mean accuracy so far."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from l2t_ray.launch.live.view import CellView

METRIC = "test_accuracy_percent"  # whose mean is shown; a search's runs, whose settings differ, do not log it


class Cells:
    """The cells of a sweep, or the studies of a search.

    Args:
        cells: key to cell, of all wanted runs.
        finished: keys of finished runs.
        failed: keys of runs that failed or diverged.
        accuracies: key to the metric of finished runs; test accuracy in percent by default.
        metric: its name in the ledger.
    """

    def __init__(
        self,
        cells: Mapping[str, str],
        finished: Iterable[str] = (),
        failed: Iterable[str] = (),
        accuracies: Mapping[str, float] | None = None,
        metric: str = METRIC,
    ) -> None:
        self.metric = metric
        self.cell_of = dict(cells)
        self._n_wanted = Counter(cells.values())
        self._finished: dict[str, set[str]] = {cell: set() for cell in self._n_wanted}
        self._failed: dict[str, set[str]] = {cell: set() for cell in self._n_wanted}
        self._accuracies: dict[str, dict[str, float]] = {cell: {} for cell in self._n_wanted}
        self._means: dict[str, Any] = {}
        for key in finished:
            self.ended(key, is_finished=True, accuracy=(accuracies or {}).get(key))
        for key in failed:
            self.ended(key, is_finished=False)

    def ended(self, key: str, *, is_finished: bool, accuracy: float | None = None) -> None:
        """Takes the outcome of a run."""
        cell = self.cell_of[key]
        (self._finished if is_finished else self._failed)[cell].add(key)
        if is_finished:
            self._failed[cell].discard(key)
            if accuracy is not None:
                self._accuracies[cell][key] = accuracy
                self._means.pop(cell, None)

    def rows(self, running: Iterable[str]) -> tuple[CellView, ...]:
        """The state of every cell, in the file's order; `running` are keys."""
        n_running = Counter(self.cell_of[key] for key in running)
        rows = []
        for cell, n_wanted in self._n_wanted.items():
            mean, half_width = self._mean(cell)
            n_finished, n_failed = len(self._finished[cell]), len(self._failed[cell])
            rows.append(CellView(cell, n_wanted, n_finished, n_running[cell], n_failed, mean, half_width))
        return tuple(rows)

    def _mean(self, cell: str) -> tuple[float | None, float | None]:
        if cell not in self._means:
            if not self._accuracies[cell]:
                return None, None
            from l2t_ray.statistics.means import mean_interval  # the report's

            found = mean_interval([*self._accuracies[cell].values()])
            self._means[cell] = found.mean, found.half_width
        mean, half_width = self._means[cell]
        return mean, half_width
