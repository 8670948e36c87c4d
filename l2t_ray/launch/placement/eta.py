"""The time left of a launch (ETA): its queue is played through with the times that packs took so far.

A pack takes its slot for the training of its K runs, and for what is around it: the process' start, loading, the
checkpoint, its results' way. The two are observed apart, because the second does not grow with the training. A shape of
which no pack has ended takes what was expected of it, times the ratio of observed to expected time of the packs that
have. A pack that is overdue takes as much longer as it is overdue, so the time left grows as long as nothing moves.

Notation: K runs a pack; a kind of device has slots for so many packs of a shape at once.
"""

import heapq
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from l2t_ray.launch.placement.packing import even_part

WINDOW = 6.0  # observations that count; the weight of older ones decays
TENTH, ENOUGH_EPOCHS, ENOUGH_S = 0.1, 3, 10.0  # of a pack: a tenth, or so many epochs for so long, show its pace
REPORT_S = 4.0  # between two signs of life of a pack that is not overdue, beside its epoch's time
LEAST_LEFT = 0.02  # of a pack's time: no pack that runs is about to end at once
# relative standard deviations: of the load to come, of an unseen shape's ratio, of all before anything is seen
DRIFT, UNSEEN, UNKNOWN = 0.15, 0.25, 0.70
NINE_TENTHS = 1.645  # standard deviations on either side
_ROUNDING = 1e-6  # for sums of thirds


@dataclass(frozen=True)
class Lane:
    """Packs of one shape on one kind of device."""

    device: str  # its name
    n_slots: int  # packs of this shape at once
    pack: int  # at most K
    run_s: float | None  # expected seconds of a run's training: its pack's by K; None if nothing is known
    is_rough: bool = False  # expected by arithmetic alone: only ratios of such times count


@dataclass(frozen=True)
class Eta:
    """Seconds until a launch ends; between `low_s` and `high_s` about nine times in ten, unless the load jumps."""

    left_s: float
    low_s: float
    high_s: float


@dataclass
class Recent:
    """The exponentially weighted mean of a quantity, and the variance around it."""

    n: int = 0
    mean: float = 0.0
    variance: float = 0.0

    def add(self, value: float) -> None:
        """Takes one observation."""
        self.n += 1
        weight = 1 / min(self.n, WINDOW)
        self.variance = (1 - weight) * (self.variance + weight * (value - self.mean) ** 2)
        self.mean += weight * (value - self.mean)


@dataclass
class Running:
    """A pack that is being trained."""

    shape: str
    device: str
    n_runs: int  # K
    n_slots: int
    since: float  # when its slot was free
    seen: list[tuple[float, float]] = field(default_factory=list)  # (time, share of its epochs that is done), rising
    step: float = 1.0  # the share of one epoch

    def pace_s(self) -> float | None:
        """Seconds of the whole training by what was seen of it; None before that is enough."""
        if not self.seen:
            return None
        (begun, before), (now, done) = self.seen[0], self.seen[-1]
        share, seconds = done - before, now - begun
        is_enough = share >= TENTH or (share >= ENOUGH_EPOCHS * self.step and seconds >= ENOUGH_S)
        return seconds / share if is_enough else None

    def left_s(self, train_s: float, around_s: float, now: float) -> float:
        """Seconds to its end if the training takes `train_s` in all, and what is around it `around_s`."""
        if self.seen:
            (last, done), due_s = self.seen[-1], train_s * self.step + REPORT_S
            left_s = train_s * (1 - done)
        else:
            last, due_s = self.since, train_s + around_s
            left_s = due_s
        waited_s = now - last
        overdue_s = max(0.0, waited_s - due_s)
        return max(left_s - (waited_s - overdue_s), LEAST_LEFT * train_s) + overdue_s


class Forecast:
    """Observes the packs of one launch and tells the time left.

    Args:
        lanes: the lanes of a shape, the preferred kind of device first.
        now: the clock.
    """

    def __init__(self, lanes: Callable[[str], Sequence[Lane]], *, now: Callable[[], float] = time.monotonic) -> None:
        self._lanes, self._now = lanes, now
        self.running: dict[str, Running] = {}
        self._took: dict[tuple[str, str], Recent] = defaultdict(Recent)  # (shape, device): seconds of a run's training
        self._ratios: dict[tuple[str, bool], Recent] = defaultdict(Recent)  # (device, is rough): observed by expected
        self._around: dict[str, Recent] = defaultdict(Recent)  # device: seconds of a pack beside its training
        self._free: dict[str, list[float]] = defaultdict(list)  # device: since when slots are free

    def began(self, name: str, shape: str, device: str, n_runs: int, n_slots: int) -> None:
        """A pack has got its slot."""
        free = self._free[device]
        self.running[name] = Running(shape, device, n_runs, n_slots, free.pop() if free else self._now())

    def reached(self, name: str, epoch: int, epochs: int) -> None:
        """A pack reports the epochs that it has done."""
        pack, share = self.running[name], epoch / epochs
        if not pack.seen or share > pack.seen[-1][1]:
            pack.seen = [*pack.seen[:1], (self._now(), share)]
            pack.step = 1 / epochs

    def ended(self, name: str, train_s: float | None = None) -> None:
        """A pack has left its slot after `train_s` seconds of training; None if not all of its runs were trained."""
        pack, now = self.running.pop(name), self._now()
        self._free[pack.device].append(now)
        if train_s is None:
            return
        if train_s <= now - pack.since:  # else it had begun in an earlier launch
            self._around[pack.device].add(now - pack.since - train_s)
        self.took(pack.shape, train_s / pack.n_runs, pack.device)

    def took(self, shape: str, run_s: float, device: str | None = None) -> None:
        """A run was trained for so long; on the preferred kind of device, if that is not told."""
        lane = next(lane for lane in self._lanes(shape) if device in {None, lane.device})
        self._took[shape, lane.device].add(run_s)
        if lane.run_s:
            self._ratios[lane.device, lane.is_rough].add(run_s / lane.run_s)

    def pack_left_s(self, name: str) -> float | None:
        """Seconds until a pack that is being trained ends; None if unknown."""
        pack = self.running[name]
        train_s = pack.pace_s() or self._train_s(pack.shape, pack.device, pack.n_runs)
        return None if train_s is None else pack.left_s(train_s, self._around[pack.device].mean, self._now())

    def eta(self, waiting: Mapping[str, int]) -> Eta | None:
        """The time left.

        Args:
            waiting: shape to the number of its runs that no pack trains yet, in the queue's order.

        Returns:
            None while nothing is known of a shape.
        """
        left_s = {name: self.pack_left_s(name) for name in self.running}
        lanes = {shape: self._lanes(shape) for shape in waiting}
        run_s = {(s, lane.device): self._train_s(s, lane.device, 1) for s, found in lanes.items() for lane in found}
        running = [(s, self.running[name].device, 1 / self.running[name].n_slots) for name, s in left_s.items() if s]
        times = {name: (self._around[name[1]].mean, seconds) for name, seconds in run_s.items() if seconds is not None}
        if None in left_s.values() or len(times) < len(run_s):
            return None
        work_s = {shape: n_runs * times[shape, lanes[shape][0].device][1] for shape, n_runs in waiting.items()}
        seen = {shape for shape, _ in self._took}
        unseen_s = sum(seconds for shape, seconds in work_s.items() if shape not in seen)
        all_s = sum(work_s.values()) + sum(seconds for seconds, *_ in running)
        total_s = makespan(running, waiting, lanes, times)
        spread = math.exp(NINE_TENTHS * self._spread(unseen_s / all_s if all_s else 0.0))
        return Eta(total_s, total_s / spread, total_s * spread)

    def _train_s(self, shape: str, device: str, n_runs: int) -> float | None:
        """Seconds of the training of a pack; None if nothing tells."""
        if found := self._took.get((shape, device)):
            return n_runs * found.mean
        paces = [
            pace_s / pack.n_runs
            for pack in self.running.values()
            if (pack.shape, pack.device) == (shape, device) and (pace_s := pack.pace_s())
        ]
        if paces:
            return n_runs * statistics.fmean(paces)
        lane = next((lane for lane in self._lanes(shape) if lane.device == device), None)
        ratio = self._ratio(device, is_rough=lane is not None and lane.is_rough)
        if lane is not None and lane.run_s is not None and (ratio or not lane.is_rough):
            return n_runs * lane.run_s * (ratio or 1.0)
        others = [found.mean for (_, other), found in self._took.items() if other == device]
        others = others or [found.mean for found in self._took.values()]
        return n_runs * statistics.fmean(others) if others else None

    def _ratio(self, device: str, *, is_rough: bool) -> float | None:
        """Observed by expected time on a kind of device; by paces before a pack has ended there."""
        if found := self._ratios.get((device, is_rough)):
            return found.mean
        ratios = [
            pace_s / (pack.n_runs * lane.run_s)
            for pack in self.running.values()
            if pack.device == device and (pace_s := pack.pace_s())
            for lane in self._lanes(pack.shape)
            if lane.device == device and lane.run_s and lane.is_rough == is_rough
        ]
        return statistics.fmean(ratios) if ratios else None

    def _spread(self, unseen: float) -> float:
        """The relative standard deviation of the time left, of which a share is of shapes not seen yet."""
        if not self._took and not any(pack.pace_s() for pack in self.running.values()):
            return UNKNOWN
        noise = [  # of a pack's whole time: where the training is nothing, its scatter is nothing, too
            found.variance / (found.mean + self._around[device].mean) ** 2
            for (_, device), found in self._took.items()
            if found.n > 1 and found.mean
        ]
        logs = [
            math.log(found.mean / lane.run_s)
            for (shape, device), found in self._took.items()
            for lane in self._lanes(shape)
            if lane.device == device and lane.run_s and found.mean
        ]
        between = statistics.stdev(logs) if len(logs) > 2 else UNSEEN
        within = statistics.fmean(noise) if noise else UNSEEN**2
        # not divided by the number of packs: what slows one slows all, for a while
        return math.sqrt(DRIFT**2 + within + (unseen * between) ** 2)


def makespan(
    running: Sequence[tuple[float, str, float]],
    waiting: Mapping[str, int],
    lanes: Mapping[str, Sequence[Lane]],
    pack_s: Mapping[tuple[str, str], tuple[float, float]],
) -> float:
    """Seconds until all slots are idle, if packs are made as `cluster.queue` makes them.

    Args:
        running: (seconds left, device, share of the device) of every pack that runs.
        waiting: shape to its number of runs, in the queue's order.
        lanes: the lanes of every waiting shape.
        pack_s: (shape, device) to the seconds around a pack, and those of each of its runs.

    Returns:
        The seconds.
    """
    ends = [*running]
    heapq.heapify(ends)
    room: dict[str, float] = defaultdict(lambda: 1.0)
    for _, device, share in ends:
        room[device] -= share
    now = 0.0
    n_waiting = sum(waiting.values())
    for shape, n_runs in waiting.items():
        n_slots = sum(lane.n_slots for lane in lanes[shape])
        n_left = n_runs
        while n_left:
            lane = next((lane for lane in lanes[shape] if 1 / lane.n_slots <= room[lane.device] + _ROUNDING), None)
            if lane is None:
                now, device, share = heapq.heappop(ends)
                room[device] += share
                continue
            size = min(lane.pack, n_left, even_part(n_waiting, n_slots))
            around_s, run_s = pack_s[shape, lane.device]
            heapq.heappush(ends, (now + around_s + size * run_s, lane.device, 1 / lane.n_slots))
            room[lane.device] -= 1 / lane.n_slots
            n_left, n_waiting = n_left - size, n_waiting - size
    return max((end for end, *_ in ends), default=0.0)
