"""What Ray Tune trains next: packs, longest first; a pack that fails is split, a run that fails is tried again.

One Tuner runs for the whole launch and asks this queue for work, because a trial of a reused process costs 0.1 s and a
fresh one some seconds.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

from ray.tune.search import Searcher

from l2t_ray.config import Run
from l2t_ray.spool import Series
from l2t_ray.work import Work, encode


@dataclass(frozen=True)
class Ended:
    """How a run ended, as the worker or this queue tells it."""

    key: str
    status: str  # finished, diverged, failed
    reason: str = ""
    metrics: Series = field(default_factory=dict)
    wall_s: float = 0.0
    peak_bytes: int = 0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Takes over what the ledger keeps of `Outcome.to_json()`.

        Args:
            values: the plain values.

        Returns:
            The same, typed.
        """
        series = values["metrics"].items()
        metrics = {name: [(int(epoch), float(value)) for epoch, value in points] for name, points in series}
        return cls(**{**{entry.name: values[entry.name] for entry in fields(cls)}, "metrics": metrics})


class DriverOnly:
    """Tune may pickle and copy it as it likes: the copies are empty, for nothing is ever resumed from them."""

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class Queue(DriverOnly, Searcher):  # type: ignore[misc]  # ray is untyped
    """A searcher of Tune's that searches nothing.

    Attributes:
        live: trial to the runs it trains now.
        attempts: key to the attempts that failed.
    """

    def __init__(
        self,
        packs: Iterable[Sequence[Run]],
        work: Work,
        *,
        slots: int,
        retries: int,
        on_end: Callable[[Run, Ended, str], None],
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._waiting = deque(tuple(pack) for pack in packs)
        self._work = work.to_json()
        self._slots, self._retries, self._on_end = slots, retries, on_end
        self.live: dict[str, tuple[Run, ...]] = {}
        self.attempts: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next pack.

        Args:
            trial_id: Tune's name for it.

        Returns:
            A trial's config, None while all slots are taken or a failure may still bring work back, or Tune's FINISHED.
        """
        if self._waiting and len(self.live) < self._slots:
            runs = self._waiting.popleft()
            self.live[trial_id] = runs
            return {"work": self._work, "pack": encode(runs)}
        if self._waiting or self.live:
            return None
        finished: str = Searcher.FINISHED
        return finished

    def complete(self, trial_id: str, outcomes: str, device: str = "") -> None:
        """Hands on the outcomes of a pack.

        Args:
            trial_id: of `suggest`.
            outcomes: JSON text of a list of `Outcome.to_json()`.
            device: what it was trained on.
        """
        runs = {run.key: run for run in self.live.pop(trial_id)}
        for values in json.loads(outcomes):
            self._on_end(runs.pop(values["key"]), Ended.from_json(values), device)
        for run in runs.values():
            self._fail((run,), "the training returned no outcome for this run", hopeless=True)

    def fail(self, trial_id: str, reason: str, *, hopeless: bool = False) -> None:
        """Puts a failed pack's runs back, one by one, or gives them up.

        Args:
            trial_id: of `suggest`.
            reason: what was raised.
            hopeless: whether another attempt must end the same way.
        """
        self._fail(self.live.pop(trial_id), reason, hopeless=hopeless)

    def _fail(self, runs: tuple[Run, ...], reason: str, *, hopeless: bool) -> None:
        if len(runs) > 1:  # one of them is the culprit; alone, the others finish
            self._waiting.extend((run,) for run in runs)
            return
        (run,) = runs
        self.attempts[run.key] = self.attempts.get(run.key, 0) + 1
        if hopeless or self.attempts[run.key] > self._retries:
            self._on_end(run, Ended(run.key, "failed", reason), "")
        else:
            self._waiting.append(runs)

    def on_trial_complete(
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,
        error: bool = False,  # noqa: FBT001, FBT002  Tune's signature
    ) -> None:
        """Nothing: Tune's callback tells `complete` or `fail`, because it knows the error."""

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Accepts that there is no metric.

        Args:
            metric: unused.
            mode: unused.
            config: unused.
            **spec: unused.

        Returns:
            True.
        """
        return True

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: a launch is resumed from the ledger."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing, as above."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as above."""
