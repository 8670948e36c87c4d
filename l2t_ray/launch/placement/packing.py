"""The packing rule: which runs may share a pack, and which share of a device a pack gets, by speed and memory.

Notation: K runs a pack, k processes a device, D devices.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from l2t_ray.config import Execution
from l2t_ray.launch.placement.devices import Group
from l2t_ray.launch.placement.measurements import Figure, Speed
from l2t_ray.ledger.entries import Entry
from l2t_ray.run import AnyRun

PROCESSES = 4  # k on a card until speed and memory are measured
CARD_MEMORY, MACHINE_MEMORY = 0.92, 0.8  # fractions that trainings may fill; the rest is for others
CORES_A_PROCESS = 0.5  # with fewer, a card waits for its processes
WORTH = 1.03  # a larger pack or one process more must be this much faster
Times = Mapping[tuple[str, str], float]  # (shape, device) -> mean seconds of a run
Habits = Mapping[tuple[str, str], tuple[int, int]]  # (shape, device) -> (K, k) of its last finished run


@dataclass(frozen=True)
class Share:
    """What one trial gets, and how many trials run at once."""

    cpus: float  # cores, for Ray
    gpus: float  # 1 / k of a card, or 0
    threads: int  # of torch
    pack: int  # at most K
    slots: int  # k D
    device: str  # as `training.device.device_name` returns it
    processes: int = 1  # k
    fraction: float = 1.0  # of a card's memory, for its allocator
    marks: tuple[tuple[str, float], ...] = ()  # Ray resources that place a trial on this kind of device only
    compiled: bool = False  # whether torch.compile fuses the step's pieces
    basis: str = "default"  # of the choice: measured, shipped, estimate, ledger, or default

    def __str__(self) -> str:
        if self.gpus:
            each = f"1/{self.processes} of {self.device}" if self.processes > 1 else f"a whole {self.device}"
        else:
            each = f"{self.threads} CPU thread{'s' if self.threads > 1 else ''}"
        packs = f", packs of {self.pack}" if self.pack > 1 else ""
        return f"{self.slots} at once, {each} each{packs}"


def shape(run: AnyRun) -> str:
    """12 hex digits, equal for runs that differ only in seed and scalar settings; such runs may share a pack."""
    from l2t_ray.config import pack_shape

    return hashlib.sha256(pack_shape(run).encode()).hexdigest()[:12]


def shapes(runs: Iterable[AnyRun], cells: Mapping[str, str]) -> dict[str, str]:
    """The shape of every run by key; computed once a cell, whose runs differ only in their seed."""
    of_cell: dict[str, str] = {}
    found = {}
    for run in runs:
        cell = cells[run.key]
        if cell not in of_cell:
            of_cell[cell] = shape(run)
        found[run.key] = of_cell[cell]
    return found


def speed_shape(run: AnyRun) -> str:
    """As `shape`, for the time of an epoch: whatever the number of epochs and the source's weights."""
    return shape(run.at_speed())


def choose_share(
    execution: Execution,
    group: Group,
    figure: Figure | None = None,
    *,
    run: AnyRun | None = None,
    habit: tuple[int, int] | None = None,
    n_runs: int | None = None,
    n_alike: int | None = None,
) -> Share:
    """The pack and share with which most runs finish an hour, within memory, cores and the sweep file's numbers.

    Args:
        execution: of the sweep file; its numbers win.
        group: the devices.
        figure: what is known of the shape on them.
        run: one of the shape; needed with a figure.
        habit: (K, k) of the shape's last finished run, used if there is no figure.
        n_runs: of the whole sweep; no pack is so large that a device stays idle.
        n_alike: runs of the shape; no pack holds more.

    Returns:
        The share.
    """
    threads = execution.threads if isinstance(execution.threads, int) else 1
    ks = _processes(execution, group, figure, habit, threads)
    best = (habit[0] if habit else 1, ks[0], 0.0)
    if figure is not None and figure.speeds and run is not None:
        asked = execution.pack if isinstance(execution.pack, int) else None
        speeds = figure.speeds if asked is None else (_scaled(figure, asked),)
        rates = [
            (rate(figure, speed, run, k, group), speed.pack, k)
            for k in ks
            for speed in speeds
            if _fits(figure, speed, k, group)
            if asked is not None or speed.pack <= _most_pack(figure, group, k, n_runs, n_alike)
        ]
        # the smallest K k that is about as fast as the fastest: it needs less memory and ends earlier
        fastest = max((found[0] for found in rates), default=0.0)
        good = [(pack, k, found) for found, pack, k in rates if found * WORTH >= fastest]
        smallest = speeds[0].pack
        best = min(good, key=lambda item: (item[0] * item[1], item[0]), default=(smallest, min(ks), 0.0))
    pack, k = best[0], best[1]
    if isinstance(execution.pack, int):
        pack = execution.pack
    elif not group.is_gpu:
        pack = 1  # packs are no faster on a CPU, and alone a run keeps its bits however often it is interrupted
    elif figure is not None and figure.most_pack:
        pack = min(pack, figure.most_pack)
    basis = figure.basis if figure is not None and figure.speeds else ("ledger" if habit else "default")
    slots = max(1, k * group.n_devices)
    if not group.is_gpu:
        n_cores = group.cores * group.n_devices
        cpus = float(min(threads, n_cores))
        return Share(cpus, 0.0, threads, pack, slots, group.device, k, marks=group.marks, basis=basis)
    context = figure.context_bytes / group.memory_bytes if figure is not None and group.memory_bytes else 0.0
    fraction = max(0.05, min(1.0, 1 / k - context))
    cpus = min(1.0, group.cores / k)
    compiled = any(speed.compiled for speed in figure.speeds) if figure is not None else False
    return Share(cpus, 1 / k, threads, pack, slots, group.device, k, fraction, group.marks, compiled, basis)


def rate(figure: Figure, speed: Speed, run: AnyRun, processes: int, group: Group) -> float:
    """Finished runs a second on one device: k K / (the time of a pack among k processes)."""
    return processes * speed.pack / max(1e-9, figure.pack_s(speed, run) * slowdown(figure, processes, group))


def slowdown(figure: Figure, processes: int, group: Group) -> float:
    """How much longer a pack takes among k processes than alone.

    Args:
        figure: of the shape on the device.
        processes: k.
        group: the devices.

    Returns:
        The measured factor. If k was not measured: that of the next smaller k, and no gain beyond it; on CPU cores 1.
    """
    if (found := figure.slowdown(processes)) is not None:
        return found
    if not group.is_gpu:
        return 1.0
    below = max((crowd.processes for crowd in figure.crowds if crowd.processes < processes), default=1)
    return (figure.slowdown(below) or 1.0) * processes / below


def run_s(figure: Figure, run: AnyRun, share: Share, group: Group) -> float | None:
    """Seconds of a run by a figure: its pack's time divided by K; None if the figure holds no speed."""
    if not figure.speeds:
        return None
    speed = max((s for s in figure.speeds if s.pack <= share.pack), key=lambda s: s.pack, default=figure.speeds[0])
    return figure.pack_s(speed, run) / speed.pack * slowdown(figure, share.processes, group)


def times(entries: Iterable[Entry]) -> dict[tuple[str, str], float]:
    """The mean duration in seconds of the finished runs of each (shape, device)."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for entry in entries:
        if entry.status == "FINISHED" and "shape" in entry.tags and "wall_s" in entry.metrics:
            found[entry.tags["shape"], entry.tags.get("device", "")].append(entry.metrics["wall_s"])
    return {name: sum(values) / len(values) for name, values in found.items()}


def habits(entries: Iterable[Entry]) -> dict[tuple[str, str], tuple[int, int]]:
    """(K, k) of the last finished run of each (shape, device); entries come oldest first."""
    found = {}
    for entry in entries:
        numbers = [entry.tags.get(name, "") for name in ("pack", "processes")]
        if entry.status == "FINISHED" and "shape" in entry.tags and all(number.isdigit() for number in numbers):
            found[entry.tags["shape"], entry.tags.get("device", "")] = (int(numbers[0]), int(numbers[1]))
    return found


def _processes(
    execution: Execution, group: Group, figure: Figure | None, habit: tuple[int, int] | None, threads: int
) -> list[int]:
    """The values of k that may be chosen."""
    if not group.is_gpu:
        by_cores = max(1, int(group.cores // threads))
        if figure is not None and figure.most_processes:
            by_cores = min(by_cores, figure.most_processes)
        if figure is None or not figure.speeds or not group.memory_bytes:
            return [by_cores]
        by_memory = int(MACHINE_MEMORY * group.memory_bytes // max(1, figure.speeds[0].peak_bytes))
        return [max(1, min(by_cores, by_memory))]
    if isinstance(execution.gpu_share, int | float):
        return [round(1 / execution.gpu_share)]
    if figure is None or not figure.speeds:
        asked = habit[1] if habit else PROCESSES
        most = figure.most_processes if figure is not None and figure.most_processes else asked
        return [min(asked, most)]
    by_cores = max(1, math.floor(group.cores / CORES_A_PROCESS))
    most = min(by_cores, figure.most_processes or by_cores)
    return sorted({1, *(crowd.processes for crowd in figure.crowds if crowd.processes <= most)})


def _scaled(figure: Figure, pack: int) -> Speed:
    """The speed of a K that was not measured: the next smaller K's, in proportion."""
    below = max((s for s in figure.speeds if s.pack <= pack), key=lambda s: s.pack, default=figure.speeds[0])
    factor = pack / below.pack
    return Speed(
        pack,
        below.epoch_s * factor,
        below.evaluation_s * factor,
        int(below.peak_bytes * factor),
        below.prepare_s * factor,
    )


def _fits(figure: Figure, speed: Speed, processes: int, group: Group) -> bool:
    if not group.memory_bytes:
        return True
    limit = (CARD_MEMORY if group.is_gpu else MACHINE_MEMORY) * group.memory_bytes
    return processes * (speed.peak_bytes + figure.context_bytes) <= limit


def even_part(n_runs: int, n_slots: int) -> int:
    """The most runs that a pack may hold so that every slot gets one."""
    return max(1, -(-n_runs // max(1, n_slots)))


def _most_pack(figure: Figure, group: Group, processes: int, n_runs: int | None, n_alike: int | None) -> int:
    even = None if n_runs is None else even_part(n_runs, processes * group.n_devices)
    return min((n for n in (even, n_alike, figure.most_pack) if n), default=10**9)
