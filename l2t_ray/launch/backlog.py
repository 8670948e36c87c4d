"""What a sweep still lacks: the wanted runs compared with the ledger, and how the missing ones would be trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from l2t_ray.errors import count, duration
from l2t_ray.files import HOME
from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import Group
from l2t_ray.launch.placement.limits import cores
from l2t_ray.launch.placement.measurements import Figures
from l2t_ray.launch.placement.packing import habits, times
from l2t_ray.launch.placement.plan import Plan, make_plan
from l2t_ray.launch.worker.mps import is_expected
from l2t_ray.ledger.entries import Entry, failures, finished, untraced
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.limits import safe_name
from l2t_ray.run import AnyRun

if TYPE_CHECKING:
    from l2t_ray.sweepfile.design import Held
    from l2t_ray.sweepfile.read import Sweep


@dataclass(frozen=True)
class State:
    """A sweep compared with its ledger."""

    sweep: "Sweep"  # what is wanted
    ledger: Ledger  # what is recorded
    entries: list[Entry]  # of the ledger, of all sweeps
    done: dict[str, Entry]  # finished runs among the wanted, by key
    lost: dict[str, tuple[str, str]]  # key to (outcome, reason) of runs that ended without a result
    to_train: list[str]  # keys, in the file's order
    held: "Held | None" = None  # runs that a declared design holds back
    # finished runs that are trained again, because they lack a trace or a file that the sweep asks for
    untraced: tuple[str, ...] = ()

    @classmethod
    def read(cls, sweep: "Sweep", ledger: Ledger, *, retry_failed: bool) -> "State":
        """Compares the wanted runs with the ledger; `retry_failed` includes failed and diverged runs."""
        entries = ledger.entries([safe_name(sweep.metric.name)])
        done, lost = finished(entries, sweep.runs), failures(entries, sweep.runs)
        traced = {key: run.extras for key, run in sweep.runs.items() if run.extras}
        again = untraced(entries, done, traced)
        skipped = set(done) - set(again) if retry_failed else {*done, *lost} - set(again)
        held = sweep.looks.held(entries, retry_failed=retry_failed) if sweep.looks else None
        if held:
            skipped |= held.waiting | held.spared
        to_train = [key for key in sweep.runs if key not in skipped]
        return cls(sweep, ledger, entries, done, lost, to_train, held, tuple(again))

    @property
    def runs(self) -> list[AnyRun]:
        """The runs to train, in the file's order."""
        return [self.sweep.runs[key] for key in self.to_train]

    def lanes(
        self, groups: Sequence[Group], *, estimates: bool = False, served: bool | None = None, alone: bool = False
    ) -> Lanes:
        """Gives the runs to train their shares of devices.

        Args:
            groups: the devices.
            estimates: whether arithmetic may replace missing measurements.
            served: whether NVIDIA MPS shares the cards; None asks whether it would start here.
            alone: whether one process trains one pack at a time, on one device.

        Returns:
            Each shape's share of each kind of device.
        """
        execution = self.sweep.execution
        if alone:
            (group, *_) = groups
            every = cores() if group.is_gpu else int(group.cores)
            threads = execution.threads if isinstance(execution.threads, int) else every
            used = group.cores if group.is_gpu else min(group.cores, float(threads))  # the others wait
            groups = (replace(group, n_devices=1, cores=used),)
            execution = execution.model_copy(update={"threads": threads, "gpu_share": 1.0, "mps": "off"})
        if served is None:
            served = is_expected(execution.mps)
        return Lanes(
            execution,
            groups,
            Figures(HOME / "probe.json", self.sweep.methods, served=served),
            self.runs,
            self.sweep.cells,
            known=times(self.entries),
            habits=habits(self.entries),
            estimates=estimates,
        )

    def plan(self, lanes: Lanes) -> Plan:
        """What a launch on these devices would do."""
        price = self.sweep.execution.price_per_hour
        return make_plan(self.sweep.runs, self.sweep.cells, self.done, self.to_train, lanes, price)

    def announce(self, plan: Plan | None) -> str:
        """The first line of a launch or plan: what is wanted, finished, and to train; without a plan no time."""
        counts = f"{count(len(self.sweep.runs), 'run')} wanted, {len(self.done)} finished"
        if self.lost:
            counts += f", {len(self.lost)} failed or diverged"
            counts += " (--retry-failed trains them again)" if not set(self.lost) & set(self.to_train) else ""
        if not self.to_train:
            return f"{self.sweep.name}: {counts}, nothing to train"
        if self.untraced:
            counts += f", {len(self.untraced)} of them to train again for the trace or file that they lack"
        if plan is None:
            return f"{self.sweep.name}: {counts}, {len(self.to_train)} to train"
        wall = "time unknown" if plan.wall_s is None else f"about {duration(plan.wall_s)}"
        shares = next(iter(plan.shares)) + ("" if len(plan.shares) == 1 else ", ...")
        return f"{self.sweep.name}: {counts}, {len(self.to_train)} to train, {shares}, {wall}"
