"""A launch's devices with each shape's share of them, a lane for each kind; what runs out of memory is learned."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from l2t_ray.config import Execution
from l2t_ray.launch.placement.devices import Group
from l2t_ray.launch.placement.estimate import estimate
from l2t_ray.launch.placement.eta import Lane
from l2t_ray.launch.placement.measurements import Figure, Figures
from l2t_ray.launch.placement.packing import Habits, Share, Times, choose_share, run_s, shape, shapes, speed_shape
from l2t_ray.run import AnyRun

ALIKE = "other settings"  # origin of a duration: runs of the same trainer with other settings


class Lanes:
    """Each shape's share of each kind of device, and how long a run takes there.

    Args:
        execution: of the sweep file.
        groups: the kinds of device, the preferred one first.
        figures: measured speeds and memory.
        runs: to train.
        cells: key to cell.
        known: mean durations from the ledger.
        habits: how shapes were trained before.
        estimates: whether arithmetic replaces missing measurements.
    """

    def __init__(
        self,
        execution: Execution,
        groups: Iterable[Group],
        figures: Figures,
        runs: Iterable[AnyRun],
        cells: Mapping[str, str],
        *,
        known: Times,
        habits: Habits | None = None,
        estimates: bool = False,
    ) -> None:
        runs = list(runs)
        self.groups, self.n_runs = tuple(groups), len(runs)
        self.shape_of = shapes(runs, cells)
        self._n_alike = Counter(self.shape_of.values())
        self.example = {self.shape_of[run.key]: run for run in reversed(runs)}  # a run of each shape
        self._speed_shape = {name: speed_shape(run) for name, run in self.example.items()}
        self.figures, self._execution = figures, execution
        self._known, self._habits = known, habits or {}
        self._estimates = estimates
        self._shares: dict[tuple[str, Group], Share] = {}
        self._lanes: dict[str, list[Lane]] = {}  # until a share changes

    def add(self, run: AnyRun) -> str:
        """Takes a run that was not known at the start; returns its shape."""
        name = self.shape_of[run.key] = shape(run)
        if name not in self.example:
            self.example[name], self._speed_shape[name] = run, speed_shape(run)
        return name

    def share(self, shape: str, group: Group) -> Share:
        """The share that a pack of this shape gets; only `learn` and `forget` change it."""
        if (shape, group) not in self._shares:
            self._shares[shape, group] = choose_share(
                self._execution,
                group,
                self.figure(shape, group),
                run=self.example[shape],
                habit=self._habits.get((shape, group.device)),
                n_runs=self.n_runs,
                n_alike=self._n_alike[shape],
            )
        return self._shares[shape, group]

    def figure(self, shape: str, group: Group) -> Figure | None:
        """The measured or shipped figure of a shape on a device; an estimate if allowed; else None."""
        found = self.figures.get(self._speed_shape[shape], group.device)
        if self._estimates and (found is None or not found.speeds):
            return estimate(self.example[shape], group) or found
        return found

    def run_s(self, shape: str, group: Group) -> tuple[float | None, str]:
        """How long a run takes: its pack's time divided by K.

        Args:
            shape: of `packing.shape`.
            group: one of `groups`.

        Returns:
            Seconds or None, and the origin: ledger, measured, shipped, estimate, `ALIKE`, or an empty text.
        """
        if (known := self._known.get((shape, group.device))) is not None:
            return known, "ledger"
        figure = self.figure(shape, group)
        found = None if figure is None else run_s(figure, self.example[shape], self.share(shape, group), group)
        if found is None and not self.example[shape].may_pack:
            return self._alike_s(group)
        return found, "" if found is None or figure is None else figure.basis

    def _alike_s(self, group: Group) -> tuple[float | None, str]:
        """How long the longest known run with other settings takes, where a trainer of the user's own trains all."""
        times = [self._known.get((name, group.device)) for name in self.example]
        figures = [(self.figures.get(self._speed_shape[name], group.device), run) for name, run in self.example.items()]
        times += [found.pack_s(found.speeds[0], run) for found, run in figures if found is not None and found.speeds]
        longest_s = max((seconds for seconds in times if seconds is not None), default=None)
        return longest_s, "" if longest_s is None else ALIKE

    def lanes(self, shape: str) -> list[Lane]:
        """What the forecast of the time left knows of a shape on each kind of device."""
        if shape not in self._lanes:
            found = self._lanes[shape] = []
            for group in self.groups:
                share, (seconds, _) = self.share(shape, group), self.run_s(shape, group)
                guess = estimate(self.example[shape], group) if seconds is None else None
                if guess is not None:
                    seconds = guess.pack_s(guess.speeds[0], self.example[shape])
                found.append(Lane(group.device, share.slots, share.pack, seconds, is_rough=guess is not None))
        return self._lanes[shape]

    def epoch_s(self, shape: str, group: Group) -> float | None:
        """Seconds of a pack's epoch with its evaluation; None if unknown."""
        seconds, basis = self.run_s(shape, group)
        share, figure = self.share(shape, group), self.figure(shape, group)
        if seconds is None or basis == ALIKE:  # other settings may take a thousand times as long
            guess = estimate(self.example[shape], group)
            return None if guess is None else guess.speeds[0].epoch_s + guess.speeds[0].evaluation_s
        mean = seconds * share.pack / self.example[shape].epochs
        speeds = figure.speeds if figure is not None else ()
        return mean + max((speed.evaluation_s for speed in speeds if speed.pack <= share.pack), default=0.0)

    def longest_first(self) -> list[str]:
        """The shapes by the time of a run, longest first; shapes of unknown duration come before all others."""

        def seconds(shape: str) -> float:
            found = [time for group in self.groups if (time := self.run_s(shape, group)[0]) is not None]
            return min(found, default=float("inf"))

        return sorted(dict.fromkeys(self.shape_of.values()), key=lambda shape: -seconds(shape))  # stable

    def learn(self, shape: str, group: Group, *, pack: int | None = None, processes: int | None = None) -> None:
        """Notes, for this and later launches, that anything larger runs out of memory.

        Args:
            shape: of `packing.shape`.
            group: one of `groups`.
            pack: the largest K from now on.
            processes: the largest k from now on.
        """
        self.figures.learn(self._speed_shape[shape], group.device, pack=pack, processes=processes)
        self._lanes.clear()
        for name, speed_name in self._speed_shape.items():
            if speed_name == self._speed_shape[shape]:
                before = self._shares.pop((name, group), None)
                now = self.share(name, group)
                if before is not None and now.pack > min(before.pack, pack or before.pack):  # the file asks for more
                    self._shares[name, group] = replace(now, pack=min(before.pack, pack or before.pack))

    def forget(self, shape: str) -> None:
        """Chooses a shape's shares again, because its figure has changed."""
        self._lanes.clear()
        same = {name for name, speed_name in self._speed_shape.items() if speed_name == self._speed_shape[shape]}
        self._shares = {(name, group): share for (name, group), share in self._shares.items() if name not in same}

    @property
    def asked_pack(self) -> int | None:
        """K if the sweep file gives it."""
        return self._execution.pack if isinstance(self._execution.pack, int) else None

    def widened(self, share: Share, group: Group, processes: int) -> Share:
        """The share of 1/k of a device, for a single run that ran out of memory in `share`."""
        cpus = group.cores / processes if not group.is_gpu else share.cpus
        gpus = 1 / processes if group.is_gpu else 0.0
        grown = min(1.0, share.fraction + 1 / processes - 1 / share.processes)
        return replace(share, cpus=cpus, gpus=gpus, pack=1, processes=processes, fraction=grown)
