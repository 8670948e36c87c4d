"""What a launch trains while it lasts, and what it did in the end, whatever its backend."""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from l2t_ray.launch.live.progress import Progress, Series
from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import Group
from l2t_ray.run import AnyRun

if TYPE_CHECKING:
    from l2t_ray.ledger.spool import Ended


@dataclass(frozen=True)
class Launched:
    """What a launch did."""

    n_left: int  # runs that have not ended, because the launch was interrupted
    n_spooled: int  # results that the ledger does not have yet
    wall_s: float
    predicted_s: float | None = None  # seconds planned for the runs that finished; None if the plan did not know
    spent_s: float = 0.0  # seconds that these took, all workers added up
    usage: dict[str, Any] | None = None  # of every device over time
    n_stopped: int = 0  # runs that were not trained, because others of their cell raised the same error


class Feed(Protocol):
    """Gives a launch its runs while it lasts: `search.trials.Trials`."""

    @property
    def cells(self) -> Mapping[str, str]:
        """Key to cell of all runs handed out so far."""

    @property
    def studies(self) -> Mapping[str, str]:
        """Key to study, likewise."""

    @property
    def n_further(self) -> int:
        """Runs that may still be handed out."""

    def next_runs(self, n: int) -> list[AnyRun]:
        """At most n runs to train now; none while others wait for results, and at the end."""

    def ended(self, run: AnyRun, ended: "Ended") -> None:
        """Takes a result that has been written to the spool."""


class Tally:
    """Counts a launch's runs as they end or are dropped, and shows them on its progress.

    Args:
        runs: to train, in this order; with a feed none.
        lanes: each shape's share of each kind of device.
        progress: shows the launch; it knows no run yet.
        feed: gives the runs while the launch lasts.

    Attributes:
        left: keys of the runs that have not ended.
    """

    def __init__(self, runs: Iterable[AnyRun], lanes: Lanes, progress: Progress, feed: Feed | None = None) -> None:
        self._lanes, self._progress, self._feed = lanes, progress, feed
        places = [(shape, group) for shape in lanes.example for group in lanes.groups]
        self._planned_s = {place: lanes.run_s(*place)[0] for place in places}
        self._predicted_s, self._spent_s, self._n_dropped = [0.0], 0.0, 0
        self._begun = time.monotonic()
        self.left: set[str] = set()
        for run in runs:
            self.left.add(run.key)
            progress.expect(run.key, lanes.shape_of[run.key])

    def more(self, n: int) -> list[AnyRun]:
        """Returns at most n further runs of the feed."""
        if self._feed is None:
            return []
        found = self._feed.next_runs(n)
        for run in found:
            self.left.add(run.key)
            self._progress.expect(run.key, self._lanes.add(run), self._feed.studies[run.key])
        self._progress.n_further = self._feed.n_further
        return found

    def ended(
        self,
        key: str,
        status: str,
        reason: str,
        wall_s: float,
        metrics: Series,
        place: tuple[str, Group] | None = None,
    ) -> None:
        """Counts a run that has ended.

        Args:
            key: of the run.
            status: finished, failed or diverged.
            reason: why it failed or diverged.
            wall_s: seconds of training.
            metrics: its results.
            place: its shape and kind of device; None where nobody knows.
        """
        self.left.discard(key)
        self._progress.ended(key, status, reason, wall_s, metrics)
        if status == "finished":
            planned_s = None if place is None else self._planned_s.get(place)
            self._predicted_s.append(math.nan if planned_s is None else planned_s)
            self._spent_s += wall_s

    def drop(self, key: str) -> None:
        """Leaves out a run, because its cell is stopped."""
        self.left.discard(key)
        self._n_dropped += 1
        self._progress.drop(key)

    def launched(self, n_spooled: int, usage: dict[str, Any] | None = None) -> Launched:
        """Returns what the launch did.

        Args:
            n_spooled: results that the ledger does not have yet.
            usage: of every device over time.

        Returns:
            Counts and times until now.
        """
        total_s = sum(self._predicted_s)
        return Launched(
            n_left=len(self.left) + (self._feed.n_further if self._feed else 0),
            n_spooled=n_spooled,
            wall_s=time.monotonic() - self._begun,
            predicted_s=None if math.isnan(total_s) else total_s,
            spent_s=self._spent_s,
            usage=usage,
            n_stopped=self._n_dropped,
        )
