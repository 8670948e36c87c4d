"""What trains where: a run's share of a device, packs of equal shape, and what a sweep will cost, by measured times.

Times come from finished runs of the same shape on the same device in the ledger. Where there is none, the plan says so.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from l2t_ray.config import Execution, Run
from l2t_ray.entries import Entry

GPU_SHARE = 0.25  # until memory and speed are measured
Times = Mapping[tuple[str, str], float]  # (shape, device) -> mean seconds of a run


@dataclass(frozen=True)
class Share:
    """What one trial gets, and how many of them run at once."""

    cpus: float
    gpus: float
    threads: int
    pack: int
    slots: int
    device: str  # as `trainable.device_name` calls it

    def __str__(self) -> str:
        each = f"1/{round(1 / self.gpus)} of {self.device}" if self.gpus else f"{self.threads} CPU thread(s)"
        return f"{self.slots} at once, {each} each"


@dataclass(frozen=True)
class CellPlan:
    """One cell of a plan."""

    cell: str
    n_wanted: int
    n_finished: int
    n_to_train: int
    run_s: float | None  # None: never measured on this device


@dataclass(frozen=True)
class Plan:
    """What a launch would do."""

    cells: tuple[CellPlan, ...]
    share: Share
    n_unmeasured: int
    work_s: float  # of all measured runs, one after another
    wall_s: float | None  # None while something is unmeasured
    price: float | None  # None without a price per hour, or while something is unmeasured


def shape(run: Run) -> str:
    """What decides how long a run takes and which runs may share a pack.

    Args:
        run: the run.

    Returns:
        12 hex digits, equal for runs that differ in their seed or in scalar settings alone.
    """
    from l2t_ray.training import pack_shape

    return hashlib.sha256(pack_shape(run).encode()).hexdigest()[:12]


def shapes(runs: Iterable[Run], cells: Mapping[str, str]) -> dict[str, str]:
    """The shapes of many runs, computed once a cell, whose runs differ in their seed alone.

    Args:
        runs: of one sweep.
        cells: key to cell.

    Returns:
        Key to shape.
    """
    of_cell: dict[str, str] = {}
    found = {}
    for run in runs:
        cell = cells[run.key]
        if cell not in of_cell:
            of_cell[cell] = shape(run)
        found[run.key] = of_cell[cell]
    return found


def cores() -> int:
    """The CPU cores that this process may use, by its affinity and its control group.

    Returns:
        At least 1.
    """
    n_cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        n_cores = min(n_cores, int(quota) // int(period))
    except (OSError, ValueError):  # no control group, or "max"
        pass
    return max(1, n_cores)


def choose_share(execution: Execution, *, n_cores: float, n_gpus: float, device: str) -> Share:
    """Divides devices among trials; with GPUs every trial gets a fraction 1/k of one.

    Args:
        execution: of the sweep file.
        n_cores: in all.
        n_gpus: in all.
        device: the name of what trains.

    Returns:
        The share.
    """
    threads = execution.threads if isinstance(execution.threads, int) else 1
    pack = execution.pack if isinstance(execution.pack, int) else 1
    if not n_gpus:
        slots = max(1, int(n_cores // threads))
        return Share(float(min(threads, n_cores)), 0.0, threads, pack, slots, device)
    asked = execution.gpu_share if isinstance(execution.gpu_share, int | float) else GPU_SHARE
    share = asked if asked >= 1 else 1 / round(1 / asked)  # another fraction would leave a rest that nobody can use
    slots = max(1, round(n_gpus // share))
    return Share(min(1.0, n_cores / slots), share, threads, pack, slots, device)


def times(entries: Iterable[Entry]) -> dict[tuple[str, str], float]:
    """The mean duration of the finished runs of each shape on each device.

    Args:
        entries: of the ledger.

    Returns:
        (shape, device) to seconds.
    """
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for entry in entries:
        if entry.status == "FINISHED" and "shape" in entry.tags and "wall_s" in entry.metrics:
            found[entry.tags["shape"], entry.tags.get("device", "")].append(entry.metrics["wall_s"])
    return {name: sum(values) / len(values) for name, values in found.items()}


def make_packs(
    runs: Iterable[Run], shape_of: Mapping[str, str], size: int, known: Times, device: str
) -> list[tuple[Run, ...]]:
    """Groups runs of equal shape; the longest come first, and before them those of unknown length.

    Args:
        runs: to train.
        shape_of: key to shape.
        size: runs a pack at most.
        known: durations.
        device: what trains.

    Returns:
        The packs.
    """
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[shape_of[run.key]].append(run)
    order = sorted(groups, key=lambda name: -known.get((name, device), float("inf")))  # stable
    return [tuple(groups[name][start : start + size]) for name in order for start in range(0, len(groups[name]), size)]


def make_plan(
    runs: Mapping[str, Run],
    cells: Mapping[str, str],
    done: Iterable[str],
    to_train: Sequence[str],
    share: Share,
    known: Times,
    price_per_hour: float | None,
) -> Plan:
    """What a launch would do, cell by cell.

    Args:
        runs: wanted, by key.
        cells: key to cell.
        done: keys of finished runs.
        to_train: keys.
        share: of a trial.
        known: durations.
        price_per_hour: of the whole machine or cluster, if given.

    Returns:
        The plan.
    """
    wanted: dict[str, list[str]] = defaultdict(list)
    for key in runs:
        wanted[cells[key]].append(key)
    finished, training = set(done), set(to_train)
    shape_of = shapes(runs.values(), cells)
    durations = {key: known.get((shape_of[key], share.device)) for key in to_train}
    rows = []
    for cell, keys in wanted.items():
        ours = [duration for key in keys if (duration := durations.get(key)) is not None]
        rows.append(
            CellPlan(
                cell=cell,
                n_wanted=len(keys),
                n_finished=sum(key in finished for key in keys),
                n_to_train=sum(key in training for key in keys),
                run_s=sum(ours) / len(ours) if ours else None,
            )
        )
    measured = [duration for duration in durations.values() if duration is not None]
    n_unmeasured = len(durations) - len(measured)
    wall_s = None if n_unmeasured else max(sum(measured) / share.slots, max(measured, default=0.0))
    price = None if wall_s is None or price_per_hour is None else wall_s / 3600 * price_per_hour
    return Plan(tuple(rows), share, n_unmeasured, sum(measured), wall_s, price)
