"""The plan of a launch: runs, shares, time, device-hours and price, on these devices or on a named fleet."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import Group
from l2t_ray.launch.placement.packing import even_part
from l2t_ray.run import AnyRun


@dataclass(frozen=True)
class LanePlan:
    """A cell's runs on one kind of device."""

    device: str  # its name
    run_s: float | None  # seconds of a run, as the ledger counts them; None if unknown
    basis: str  # of `run_s`: ledger, measured, shipped, estimate; empty if unknown
    peak_bytes: int | None  # of a process with its CUDA context; None if not measured
    pack: int  # K
    processes: int  # k


@dataclass(frozen=True)
class CellPlan:
    """One cell of a plan."""

    cell: str  # its name
    n_wanted: int  # runs in the sweep
    n_finished: int  # in the ledger
    n_to_train: int  # by this launch
    lanes: tuple[LanePlan, ...]  # on each kind of device; empty if nothing is to be trained


@dataclass(frozen=True)
class Plan:
    """What a launch would do."""

    fleet: str  # the devices
    cells: tuple[CellPlan, ...]  # of the sweep
    shares: Mapping[str, int]  # each share in words, with its number of runs
    n_unmeasured: int  # runs of unknown duration
    work_s: float  # seconds of all other runs, one after another
    wall_s: float | None  # None if any duration is unknown
    device_hours: float | None  # the devices' number by the time; None likewise
    price: float | None  # None without a price per hour, or likewise
    bases: Mapping[str, int]  # where the times come from, with the number of runs


def make_plan(
    runs: Mapping[str, AnyRun],
    cells: Mapping[str, str],
    done: Iterable[str],
    to_train: Sequence[str],
    lanes: Lanes,
    price_per_hour: float | None,
) -> Plan:
    """The plan of a sweep, cell by cell; `price_per_hour` is that of all devices together."""
    finished, training = set(done), set(to_train)
    counts: dict[str, list[int]] = {}
    shape_of_cell: dict[str, str] = {}
    for key in runs:
        row = counts.setdefault(cells[key], [0, 0, 0])
        row[0] += 1
        row[1] += key in finished
        if key in training:
            row[2] += 1
            shape_of_cell.setdefault(cells[key], lanes.shape_of[key])
    rows = []
    n_of_shape: dict[str, int] = defaultdict(int)
    for cell, (n_wanted, n_finished, n_to_train) in counts.items():
        found: tuple[LanePlan, ...] = ()
        if cell in shape_of_cell:
            shape = shape_of_cell[cell]
            n_of_shape[shape] += n_to_train
            found = tuple(_lane(lanes, shape, group) for group in lanes.groups)
        rows.append(CellPlan(cell, n_wanted, n_finished, n_to_train, found))
    return _sum(tuple(rows), n_of_shape, lanes, price_per_hour)


def _lane(lanes: Lanes, shape: str, group: Group) -> LanePlan:
    share, figure = lanes.share(shape, group), lanes.figure(shape, group)
    run_s, basis = lanes.run_s(shape, group)
    peaks = [speed.peak_bytes for speed in figure.speeds if speed.pack <= share.pack] if figure else []
    peak = max(peaks) + figure.context_bytes if figure and peaks else None
    return LanePlan(group.device, run_s, basis, peak, share.pack, share.processes)


def _sum(rows: tuple[CellPlan, ...], n_of_shape: Mapping[str, int], lanes: Lanes, price_per_hour: float | None) -> Plan:
    shares: dict[str, int] = defaultdict(int)
    bases: dict[str, int] = defaultdict(int)
    n_unmeasured, work_s, busy_s, longest_s = 0, 0.0, 0.0, 0.0
    for shape, n_runs in n_of_shape.items():
        for group in lanes.groups:
            shares[str(lanes.share(shape, group))] += n_runs
        found = [(group, *lanes.run_s(shape, group)) for group in lanes.groups]
        known = [(lanes.share(shape, group), seconds) for group, seconds, _ in found if seconds is not None]
        if not known:
            n_unmeasured += n_runs
            continue
        bases[next(basis for _, seconds, basis in found if seconds is not None)] += n_runs
        work_s += n_runs * known[0][1]
        busy_s += n_runs / sum(share.slots / max(seconds, 1e-9) for share, seconds in known)
        # a pack is as long as its runs together
        longest_s = max(longest_s, min(s * min(share.pack, even_part(n_runs, share.slots)) for share, s in known))
    wall_s = None if n_unmeasured else max(busy_s, longest_s)
    n_devices = sum(group.n_devices for group in lanes.groups)
    return Plan(
        fleet=", ".join(str(group) for group in lanes.groups),
        cells=rows,
        shares=dict(shares),
        n_unmeasured=n_unmeasured,
        work_s=work_s,
        wall_s=wall_s,
        device_hours=None if wall_s is None else wall_s / 3600 * n_devices,
        price=None if wall_s is None or price_per_hour is None else wall_s / 3600 * price_per_hour,
        bases=dict(bases),
    )
