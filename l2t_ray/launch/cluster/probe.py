"""Measures shapes before a launch trains them, if their runs take long enough to be worth it; keeps the figures.

Of a shape, one run is tried in a fresh process, on a card also with its step's pieces compiled; then packs of 2, 4, ...
runs the faster way while they get faster, then 2, 4, ... processes on one card.
Runs whose times the ledger knows, and work that is shorter than the measurement, are not probed.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import Group
from l2t_ray.launch.placement.estimate import estimate
from l2t_ray.launch.placement.measurements import Crowd, Figure, Figures, Speed
from l2t_ray.launch.placement.packing import CARD_MEMORY, CORES_A_PROCESS, MACHINE_MEMORY, WORTH, even_part, speed_shape
from l2t_ray.launch.worker.job import Work, encode

LEAST_WORK_S = 120.0  # of a shape's runs on all devices; shorter work is not measured
SHARE = 0.03  # at most, of that work, is spent on measuring
BUDGET_S = (10.0, 60.0)  # at least and at most, for a shape
COMPILE_S = 55.0  # compiling takes about so long where the node has not done it before: it must be worth it
PACE_S = 3.0
MOST_PACK, MOST_PROCESSES = 64, 8
START_S = 180.0  # for a process to load everything

Say = Callable[[str], None]


def probe(lanes: Lanes, counts: Mapping[str, int], figures: Figures, work: Work, say: Say) -> int:
    """Measures the shapes that are worth it on the running Ray; returns how many. `counts` are runs by shape."""
    n_measured = 0
    done = set()
    for group in lanes.groups:
        for shape in lanes.longest_first():
            name = speed_shape(lanes.example[shape])
            budget_s = _budget_s(lanes, shape, group, counts.get(shape, 0))
            if budget_s is None or (name, group) in done:
                continue
            done.add((name, group))
            run = lanes.example[shape]
            say(f"measuring {run.title} on {group.device}, for about {budget_s:.0f} s")
            figure = measure(lanes, shape, group, work, budget_s, most=_most_pack(lanes, group, shape, counts))
            if figure is not None:
                figures.put(name, group.device, figure)
                lanes.forget(shape)
                n_measured += 1
    return n_measured


def measure(lanes: Lanes, shape: str, group: Group, work: Work, budget_s: float, *, most: int) -> Figure | None:
    """Measures one shape on one device.

    Args:
        lanes: the devices and shapes.
        shape: of `packing.shape`.
        group: the kind of device.
        work: how packs are trained.
        budget_s: no larger pack is begun after so many seconds.
        most: the largest pack to try.

    Returns:
        The figure; None if even one run alone cannot be trained, in which case the launch reports the reason.
    """
    import ray

    share = lanes.share(shape, group)
    work = replace(work, threads=share.threads, device="cuda:0" if group.is_gpu else "cpu")
    run = lanes.example[shape]
    runs = encode([run.model_copy(update={"seed": seed}) for seed in range(most)])
    before = lanes.figure(shape, group)
    with _actors(work, runs, group, 1) as (prober,):
        try:
            ready = ray.get(prober.ready.remote(), timeout=START_S)
            speeds = _speeds(prober, group, most, budget_s, may_compile=group.is_gpu and not work.trainer)
        except ray.exceptions.RayError:
            return None
    if not speeds:
        return None
    figure = Figure(
        speeds=tuple(speeds),
        context_bytes=ready["context_bytes"],
        start_s=ready["start_s"],
        most_pack=before.most_pack if before is not None else None,
        most_processes=before.most_processes if before is not None else None,
    )
    if not group.is_gpu:
        return figure
    best = max(speeds, key=lambda speed: speed.pack / speed.epoch_s)
    work = replace(work, compiled=best.compiled)
    return replace(figure, crowds=tuple(_crowds(work, runs, group, best, figure.context_bytes)))


def _speeds(prober: Any, group: Group, most: int, budget_s: float, *, may_compile: bool) -> list[Speed]:
    import ray

    end = time.monotonic() + budget_s
    limit = (CARD_MEMORY if group.is_gpu else MACHINE_MEMORY) * group.memory_bytes
    speeds: list[Speed] = []
    how: dict[str, bool] = {}
    pack = 1
    while pack <= most:
        found = ray.get(prober.speed.remote(pack, budget_s, **how))
        if found is None:
            break
        speeds.append(Speed(**found))
        if pack == 1 and may_compile and budget_s >= COMPILE_S and time.monotonic() < end:
            begun = time.monotonic()
            compiled = ray.get(prober.speed.remote(pack, budget_s, compiled=True))
            end += time.monotonic() - begun  # a node compiles once; it must not cost the packs their measurement
            if compiled is not None and WORTH * compiled["epoch_s"] < speeds[0].epoch_s:
                speeds, how = [Speed(**compiled)], {"compiled": True}
        faster = len(speeds) < 2 or _per_run(speeds[-2]) >= WORTH * _per_run(speeds[-1])
        full = bool(limit) and 2 * speeds[-1].peak_bytes > limit
        if not faster or full or time.monotonic() > end:
            break
        pack *= 2
    return speeds


def _per_run(speed: Speed) -> float:
    return speed.epoch_s / speed.pack


def _crowds(work: Work, runs: str, group: Group, best: Speed, context_bytes: int) -> list[Crowd]:
    """Measures 2, 4, ... processes on one card, as long as they train more together."""
    import ray

    by_memory = CARD_MEMORY * group.memory_bytes // max(1, best.peak_bytes + context_bytes) if group.memory_bytes else 1
    most = int(min(MOST_PROCESSES, by_memory, max(1.0, group.cores // CORES_A_PROCESS)))
    if most < 2:
        return []
    crowds: list[Crowd] = []
    with _actors(work, runs, group, most) as probers:
        try:
            ray.get([prober.ready.remote() for prober in probers], timeout=START_S)
            alone_s, n = ray.get(probers[0].pace.remote(best.pack, PACE_S)), 2
            while n <= most:
                paces = ray.get([prober.pace.remote(best.pack, PACE_S) for prober in probers[:n]])
                slower = max(1.0, sum(paces) / n / alone_s)
                crowds.append(Crowd(n, best.pack, slower))
                gain = n / slower / (crowds[-2].processes / crowds[-2].slowdown if len(crowds) > 1 else 1.0)
                if gain < WORTH:
                    break
                n *= 2
        except ray.exceptions.RayError:  # most likely memory ran out; earlier measurements count
            pass
    return crowds


class _actors:  # noqa: N801  used as a function
    """Fresh processes that share one device; they end with the block."""

    def __init__(self, work: Work, runs: str, group: Group, number: int) -> None:
        self._work, self._runs, self._group, self._number = work, runs, group, number

    def __enter__(self) -> list[Any]:
        import ray

        kind: Any
        if self._work.trainer:
            from l2t_ray.launch.worker import own_probe

            kind = own_probe.OwnProber
        else:
            from l2t_ray.launch.worker import probe as transfer_probe

            kind = transfer_probe.Prober
        group = self._group
        options: dict[str, Any] = {
            "num_cpus": min(1.0, group.cores / self._number) if group.is_gpu else min(self._work.threads, group.cores),
            "resources": dict(group.marks),
            "max_restarts": 0,
        }
        if group.is_gpu:
            options["num_gpus"] = 1 / self._number
        actor = ray.remote(kind).options(**options)
        text = self._work.to_json()
        self._made = [actor.remote(text, self._runs, time.time()) for _ in range(self._number)]
        return self._made

    def __exit__(self, *_: object) -> None:
        import ray

        for actor in self._made:
            ray.kill(actor)


def _budget_s(lanes: Lanes, shape: str, group: Group, n_runs: int) -> float | None:
    """Seconds that a shape may be measured; None if its speed is known or its work too short."""
    figure = lanes.figure(shape, group)
    if not n_runs or (figure is not None and figure.speeds and figure.basis == "measured"):
        return None
    seconds, basis = lanes.run_s(shape, group)
    if basis == "ledger":
        return None
    if seconds is None and (guess := estimate(lanes.example[shape], group)) is not None:
        seconds = guess.pack_s(guess.speeds[0], lanes.example[shape])
    if seconds is None:
        return BUDGET_S[0]
    work_s = n_runs * seconds / lanes.share(shape, group).slots
    if work_s < LEAST_WORK_S:
        return None
    return min(max(BUDGET_S[0], SHARE * work_s), BUDGET_S[1])


def _most_pack(lanes: Lanes, group: Group, shape: str, counts: Mapping[str, int]) -> int:
    """The largest pack that the sweep could use on a device."""
    asked = lanes.asked_pack
    if asked is not None:
        return asked
    if not group.is_gpu or not lanes.example[shape].may_pack:
        return 1
    return max(1, min(MOST_PACK, even_part(Counter(counts).total(), group.n_devices), counts.get(shape, 0)))
