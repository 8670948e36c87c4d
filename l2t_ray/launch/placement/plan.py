"""What a launch would do: runs, shares, time, device-hours and price, on devices at hand or on a named fleet."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from l2t_ray.config import Run
from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import Group
from l2t_ray.launch.placement.packing import even_part


@dataclass(frozen=True)
class LanePlan:
    """A cell's runs on one kind of device.

    Attributes:
        device: of the kind.
        run_s: of a run, as the ledger counts it; None where nothing tells.
        basis: of `run_s`: ledger, measured, shipped, estimate; empty where nothing tells.
        peak_bytes: of a process, its context included; None where it was not measured.
        pack: K.
        processes: k.
    """

    device: str
    run_s: float | None
    basis: str
    peak_bytes: int | None
    pack: int
    processes: int


@dataclass(frozen=True)
class CellPlan:
    """One cell of a plan.

    Attributes:
        cell: its name.
        n_wanted: runs in the sweep.
        n_finished: in the ledger.
        n_to_train: by this launch.
        lanes: on each kind of device; empty where nothing is to be trained.
    """

    cell: str
    n_wanted: int
    n_finished: int
    n_to_train: int
    lanes: tuple[LanePlan, ...]


@dataclass(frozen=True)
class Plan:
    """What a launch would do.

    Attributes:
        fleet: the devices.
        cells: of the sweep.
        shares: what trials get, by kind of device and in words, each with the number of runs.
        n_unmeasured: runs whose time nothing tells.
        work_s: of all other runs, one after another.
        wall_s: None while something is unmeasured.
        device_hours: the devices' number by the time; None likewise.
        price: None without a price per hour, or likewise.
        bases: where the times come from, with the number of runs.
    """

    fleet: str
    cells: tuple[CellPlan, ...]
    shares: Mapping[str, int]
    n_unmeasured: int
    work_s: float
    wall_s: float | None
    device_hours: float | None
    price: float | None
    bases: Mapping[str, int]


def make_plan(
    runs: Mapping[str, Run],
    cells: Mapping[str, str],
    done: Iterable[str],
    to_train: Sequence[str],
    lanes: Lanes,
    price_per_hour: float | None,
) -> Plan:
    """What a launch would do, cell by cell.

    Args:
        runs: wanted, by key.
        cells: key to cell.
        done: keys of finished runs.
        to_train: keys.
        lanes: of the devices, made for at least the runs to train.
        price_per_hour: of all devices together, if given.

    Returns:
        The plan.
    """
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
