"""A sweep against its ledger: what is finished, what is lost, what is to be trained, and how that would be done."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.errors import duration
from l2t_ray.files import HOME
from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import Group
from l2t_ray.launch.placement.measurements import Figures
from l2t_ray.launch.placement.packing import habits, times
from l2t_ray.launch.placement.plan import Plan, make_plan
from l2t_ray.launch.worker.mps import is_expected
from l2t_ray.ledger.entries import Entry, failures, finished, untraced
from l2t_ray.ledger.ledger import Ledger

if TYPE_CHECKING:
    from l2t_ray.sweepfile.design import Held
    from l2t_ray.sweepfile.read import Sweep


@dataclass(frozen=True)
class State:
    """A sweep against its ledger.

    Attributes:
        sweep: what is wanted.
        ledger: what is there.
        entries: of the ledger, of all sweeps.
        done: finished runs among the wanted, by key.
        lost: key to (outcome, reason) of runs that ended without a result.
        to_train: keys, in the file's order.
        held: by a declared design.
        untraced: finished runs among those to train, trained again because they lack a trace that is asked for.
    """

    sweep: "Sweep"
    ledger: Ledger
    entries: list[Entry]
    done: dict[str, Entry]
    lost: dict[str, tuple[str, str]]
    to_train: list[str]
    held: "Held | None" = None
    untraced: tuple[str, ...] = ()

    @classmethod
    def read(cls, sweep: "Sweep", ledger: Ledger, *, retry_failed: bool) -> "State":
        """Compares what is wanted with what is there.

        Args:
            sweep: what is wanted.
            ledger: what is there.
            retry_failed: whether diverged and failed runs are to be trained again.

        Returns:
            The difference.
        """
        entries = ledger.entries()
        done, lost = finished(entries, sweep.runs), failures(entries, sweep.runs)
        traced = {key: run.traced for key, run in sweep.runs.items() if run.traced}
        again = untraced(entries, done, traced)
        skipped = set(done) - set(again) if retry_failed else {*done, *lost} - set(again)
        held = sweep.looks.held(entries, retry_failed=retry_failed) if sweep.looks else None
        if held:
            skipped |= held.waiting | held.spared
        to_train = [key for key in sweep.runs if key not in skipped]
        return cls(sweep, ledger, entries, done, lost, to_train, held, tuple(again))

    @property
    def runs(self) -> list[Run]:
        """The runs to train."""
        return [self.sweep.runs[key] for key in self.to_train]

    def lanes(self, groups: Sequence[Group], *, estimates: bool = False, served: bool | None = None) -> Lanes:
        """Shares of devices for the runs to train, by what was measured and what the ledger knows.

        Args:
            groups: the devices.
            estimates: whether arithmetic may stand in where nothing was measured.
            served: whether NVIDIA's service shares the cards; by default, whether it is to be expected.

        Returns:
            The devices' lanes.
        """
        if served is None:
            served = is_expected(self.sweep.execution.mps)
        return Lanes(
            self.sweep.execution,
            groups,
            Figures(HOME / "probe.json", self.sweep.methods, served=served),
            self.runs,
            self.sweep.cells,
            known=times(self.entries),
            habits=habits(self.entries),
            estimates=estimates,
        )

    def plan(self, lanes: Lanes) -> Plan:
        """What a launch on these devices would do.

        Args:
            lanes: of the devices.

        Returns:
            The plan.
        """
        price = self.sweep.execution.price_per_hour
        return make_plan(self.sweep.runs, self.sweep.cells, self.done, self.to_train, lanes, price)

    def announce(self, plan: Plan) -> str:
        """A launch's first line.

        Args:
            plan: of the launch.

        Returns:
            What it will do.
        """
        counts = f"{len(self.sweep.runs)} runs wanted, {len(self.done)} finished"
        if self.lost:
            counts += f", {len(self.lost)} failed or diverged"
            counts += " (--retry-failed trains them again)" if not set(self.lost) & set(self.to_train) else ""
        if not self.to_train:
            return f"{self.sweep.name}: {counts}, nothing to train"
        if self.untraced:
            counts += f", {len(self.untraced)} of them to train again for the trace that they lack"
        wall = "time unknown" if plan.wall_s is None else f"about {duration(plan.wall_s)}"
        shares = next(iter(plan.shares)) + ("" if len(plan.shares) == 1 else ", ...")
        return f"{self.sweep.name}: {counts}, {len(self.to_train)} to train, {shares}, {wall}"
