"""Which pack Tune trains next, longest first; a pack that fails is split, a run that fails is tried again.

What runs out of memory is tried again in a smaller pack, then alone on a larger share. What loses its process or its
node (killed, preempted, hung) has done nothing wrong: it is trained on from its checkpoint, and given up only after
`DEATHS` in a row without an epoch more.

One Tuner runs for the whole launch and asks this queue for work, because a trial of a reused process costs 0.1 s and a
fresh one some seconds.
"""

import base64
import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from ray.tune.search import Searcher

from l2t_ray.launch.cluster.stops import Stops
from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import Group
from l2t_ray.launch.placement.packing import Share, even_part
from l2t_ray.launch.worker.job import Work, encode
from l2t_ray.ledger.spool import TRACE, Ended
from l2t_ray.run import AnyRun

DEATHS = 10
_ROUNDING = 1e-6  # for sums of thirds


class DriverOnly:
    """Tune may pickle or copy this object; the copies are empty, because nothing is resumed from them."""

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


@dataclass
class Pack:
    """Runs that train together as one trial."""

    runs: tuple[AnyRun, ...]
    shape: str
    group: Group
    share: Share
    started: bool = False  # False while its trial waits for the device


@dataclass(frozen=True)
class _Single:
    """A run that must train alone; on a device shared by `processes`, or as planned if that is None."""

    run: AnyRun
    group: Group | None = None
    processes: int | None = None


class Queue(DriverOnly, Searcher):  # type: ignore[misc]  # ray is untyped
    """The searcher that gives Tune its trials; it searches nothing.

    A pack is made when a device has room for it, longest shapes first. Towards the end packs get smaller, so that every
    device has work until all is done. One pack more than fits is queued for each device, because Tune keeps a process
    for the next trial only if that trial already exists.

    Attributes:
        live: trial id to the pack that it trains or waits with.
        attempts: key to the number of failed attempts.
    """

    def __init__(
        self,
        runs: Iterable[AnyRun],
        lanes: Lanes,
        work: Work,
        *,
        retries: int,
        on_end: Callable[[AnyRun, Ended, Pack, str], None],
        more: Callable[[int], Iterable[AnyRun]] = lambda n: (),
        n_ahead: int = 1,
        stops: Stops | None = None,
        on_drop: Callable[[AnyRun], None] = lambda run: None,
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._stops, self._on_drop = stops or Stops({}, None), on_drop
        self._raised: dict[str, Ended] = {}  # how runs that wait for another attempt have failed
        self._more, self._n_ahead = more, n_ahead
        self._lanes, self._work = lanes, work.to_json()
        self._retries, self._on_end = retries, on_end
        groups: dict[str, list[AnyRun]] = defaultdict(list)
        for run in runs:
            groups[lanes.shape_of[run.key]].append(run)
        self._waiting = {shape: deque(groups[shape]) for shape in lanes.longest_first() if groups.get(shape)}
        self._singles: deque[_Single] = deque()
        self.live: dict[str, Pack] = {}
        self.attempts: dict[str, int] = {}
        self._deaths: dict[str, int] = {}  # since the run's last new epoch
        self._reached: dict[str, int] = {}  # the last epoch

    @property
    def n_waiting(self) -> int:
        """Runs that are in no pack yet."""
        return sum(len(runs) for runs in self._waiting.values()) + len(self._singles)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The config of the next trial; None while all devices are taken or work may come back; FINISHED at the end."""
        for run in self._more(self._n_ahead - self.n_waiting) if self.n_waiting < self._n_ahead else ():
            self._waiting.setdefault(self._lanes.shape_of[run.key], deque()).append(run)
        for group in self._lanes.groups:
            pack = self._next_pack(group)
            if pack is not None:
                self.live[trial_id] = pack
                share = asdict(pack.share)
                return {"work": self._work, "pack": encode(pack.runs), "share": share}
        if self.n_waiting or self.live:
            return None
        finished: str = Searcher.FINISHED
        return finished

    def started(self, trial_id: str) -> Pack | None:
        """The pack of a trial that has got its device; None if it is known no more, or was told before."""
        pack = self.live.get(trial_id)
        if pack is None or pack.started:
            return None
        pack.started = True
        return pack

    def complete(self, trial_id: str, outcomes: str, device: str = "") -> None:
        """Passes on the outcomes of a pack: JSON of a list of `Outcome.to_json()`."""
        pack = self.live.pop(trial_id)
        runs = {run.key: run for run in pack.runs}
        for values in json.loads(outcomes):
            self._on_end(runs.pop(values["key"]), Ended.from_json(values), pack, device)
        for run in runs.values():
            single = replace(pack, runs=(run,))
            self._fail(single, "the training returned no outcome for this run", hopeless=True)

    def fail(
        self,
        trial_id: str,
        reason: str,
        *,
        hopeless: bool = False,
        memory: bool = False,
        machine: bool = False,
        trace: str = "",
    ) -> None:
        """Puts a failed pack's runs back one by one, or gives them up.

        Args:
            trial_id: of `suggest`.
            reason: what was raised.
            hopeless: whether another attempt would end the same way.
            memory: whether memory ran out; the runs then get more of it, and the failure does not count as an attempt.
            machine: whether the machine may be the cause; no cell is stopped then.
            trace: all lines of the error; they become an artifact of the run.
        """
        pack = self.live.pop(trial_id)
        if memory:
            self._fail_for_memory(pack, reason)
        else:
            self._fail(pack, reason, hopeless=hopeless, machine=machine, trace=trace)

    def lose(self, trial_id: str, reason: str, epoch: int) -> None:
        """Puts back the runs of a pack whose process died; `epoch` is the last one that it reported."""
        pack = self.live.pop(trial_id)
        kept = []
        for run in pack.runs:
            if epoch > self._reached.get(run.key, 0):
                self._reached[run.key], self._deaths[run.key] = epoch, 0
            self._deaths[run.key] = self._deaths.get(run.key, 0) + 1
            if self._deaths[run.key] < DEATHS:
                kept.append(run)
            else:
                told = f"{reason}; {DEATHS} times in a row without a further epoch"
                self._on_end(run, Ended(run.key, "failed", told), pack, "")
        if len(kept) == 1 or any(self._deaths[run.key] > 1 for run in kept):  # one of them may be the cause
            self._singles.extend(_Single(run) for run in kept)
        else:
            self._waiting.setdefault(pack.shape, deque()).extendleft(reversed(kept))

    def _next_pack(self, group: Group) -> Pack | None:
        taken = sum(1 / pack.share.processes for pack in self.live.values() if pack.group == group)
        room = group.n_devices - taken
        for _ in range(len(self._singles)):
            single = self._singles.popleft()
            if single.group in {None, group}:
                shape = self._lanes.shape_of[single.run.key]
                share = self._lanes.share(shape, group)
                if single.processes is not None:
                    share = self._lanes.widened(share, group, min(single.processes, share.processes))
                if 1 / share.processes <= room + _ROUNDING:
                    return Pack((single.run,), shape, group, replace(share, pack=1))
            self._singles.append(single)
        n_waiting = sum(len(runs) for runs in self._waiting.values())
        for shape, runs in self._waiting.items():
            share = self._lanes.share(shape, group)
            ahead = 1.0 if n_waiting > 2 * share.slots * share.pack else 0.0
            if runs and 1 / share.processes <= room + ahead + _ROUNDING and self._is_worth(shape, group):
                size = min(share.pack, len(runs), even_part(n_waiting, self._n_slots(shape)))
                return Pack(tuple(runs.popleft() for _ in range(size)), shape, group, share)
        return None

    def _n_slots(self, shape: str) -> int:
        return sum(self._lanes.share(shape, group).slots for group in self._lanes.groups)

    def _is_worth(self, shape: str, group: Group) -> bool:
        """Whether this device would finish a pack before the other devices finish everything that waits."""
        others = [other for other in self._lanes.groups if other != group]
        mine_s = self._pack_s(shape, group)
        if not others or mine_s is None:
            return True
        left_s = 0.0
        for name, runs in self._waiting.items():
            speeds = [
                self._lanes.share(name, other).slots / seconds
                for other in others
                if (seconds := self._lanes.run_s(name, other)[0])
            ]
            if runs and not speeds:
                return True
            left_s += len(runs) / sum(speeds) if runs else 0.0
        return mine_s <= left_s or mine_s <= min(self._pack_s(shape, other) or 0.0 for other in others)

    def _pack_s(self, shape: str, group: Group) -> float | None:
        """Seconds that a full pack takes; None if unknown."""
        seconds, _ = self._lanes.run_s(shape, group)
        return None if seconds is None else seconds * self._lanes.share(shape, group).pack

    def _fail(self, pack: Pack, reason: str, *, hopeless: bool, machine: bool = False, trace: str = "") -> None:
        if len(pack.runs) > 1:  # one of them is the cause; alone, the others finish
            for run in pack.runs:
                if run.key in self._stops:
                    self._on_drop(run)
                else:
                    self._singles.append(_Single(run))
            return
        (run,) = pack.runs
        self.attempts[run.key] = self.attempts.get(run.key, 0) + 1
        artifacts = {TRACE: base64.b64encode(trace.encode()).decode()} if trace else {}
        ended = Ended(run.key, "failed", reason, artifacts=artifacts)
        if not machine:
            self._stops.raised(run.key, reason)
        if hopeless or self.attempts[run.key] > self._retries or run.key in self._stops:
            self._on_end(run, ended, pack, "")
        else:
            self._raised[run.key] = ended
            self._singles.append(_Single(run))
        if run.key in self._stops:
            self._drop_stopped(pack)

    def _drop_stopped(self, pack: Pack) -> None:
        """Takes the waiting runs of stopped cells out of the queue; those that raised already have failed."""
        for single in [*self._singles]:
            if single.run.key in self._stops:
                self._singles.remove(single)
                if ended := self._raised.get(single.run.key):
                    self._on_end(single.run, ended, replace(pack, runs=(single.run,)), "")
                else:
                    self._on_drop(single.run)
        for runs in self._waiting.values():
            kept = [run for run in runs if run.key not in self._stops]
            for run in runs:
                if run.key in self._stops:
                    self._on_drop(run)
            runs.clear()
            runs.extend(kept)

    def _fail_for_memory(self, pack: Pack, reason: str) -> None:
        n_runs, processes = len(pack.runs), pack.share.processes
        if n_runs > 1:
            self._lanes.learn(pack.shape, pack.group, pack=n_runs // 2)
            self._waiting.setdefault(pack.shape, deque()).extendleft(reversed(pack.runs))
        elif processes > 1:
            self._lanes.learn(pack.shape, pack.group, processes=processes // 2)
            self._singles.append(_Single(pack.runs[0], pack.group, processes // 2))
        else:
            (run,) = pack.runs
            told = f"{reason}; it had all of {pack.group.device}"
            self._on_end(run, Ended(run.key, "failed", told), pack, "")

    def on_trial_complete(
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,
        error: bool = False,  # noqa: FBT001, FBT002  Tune's signature
    ) -> None:
        """Does nothing: the callback calls `complete` or `fail`, because it knows the error."""

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Accepts that there is no metric."""
        return True

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Does nothing: a launch resumes from the ledger."""

    def save(self, checkpoint_path: str) -> None:
        """Does nothing, as above."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing, as above."""
