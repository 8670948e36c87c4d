"""How busy this machine's devices were during a launch: sampled by NVML and psutil, in bounded memory."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from l2t_ray.launch.live.view import DeviceView
from l2t_ray.launch.placement.devices import VISIBLE, visible_cards

INTERVAL_S = 5.0
MOST_SAMPLES = 720  # then every second one is dropped and the interval doubles


@dataclass
class Usage:
    """Samples of every device of this machine; `tick` may be called often and samples only when it is due."""

    now: Callable[[], float] = time.monotonic
    interval_s: float = INTERVAL_S  # between samples
    visible: str | None = field(default_factory=lambda: os.environ.get(VISIBLE))  # which cards; None for all
    # [seconds since the start, {device: (utilisation in percent, bytes in use)}]
    samples: list[tuple[float, dict[str, tuple[float, int]]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        import psutil

        self._psutil = psutil
        psutil.cpu_percent()  # the first value has no beginning
        self._cards, self._total_bytes = _cards(self.visible)
        self._total_bytes["cpu"] = int(psutil.virtual_memory().total)
        self._begun = self._due = self.now()

    def tick(self) -> None:
        """Takes a sample if one is due."""
        now = self.now()
        if now < self._due:
            return
        self._due = now + self.interval_s
        memory = self._psutil.virtual_memory()
        found = {"cpu": (float(self._psutil.cpu_percent()), int(memory.total - memory.available))}
        found |= {name: read() for name, read in self._cards.items()}
        self.samples.append((now - self._begun, found))
        if len(self.samples) > MOST_SAMPLES:
            self.samples, self.interval_s = self.samples[::2], 2 * self.interval_s

    @property
    def latest(self) -> tuple[DeviceView, ...]:
        """The last sample."""
        found = self.samples[-1][1] if self.samples else {}
        return tuple(
            DeviceView(name, percent, used, self._total_bytes.get(name, 0)) for name, (percent, used) in found.items()
        )

    def to_json(self) -> dict[str, Any]:
        """The samples for the report.

        Returns:
            {"interval_s", "devices": {name: {"mean_percent", "time_s": [...], "percent": [...], "bytes": [...]}}}
        """
        names = dict.fromkeys(name for _, sample in self.samples for name in sample)
        devices = {}
        for name in names:
            rows = [(second, *sample[name]) for second, sample in self.samples if name in sample]
            devices[name] = {
                "mean_percent": sum(row[1] for row in rows) / len(rows),
                "time_s": [round(row[0], 1) for row in rows],
                "percent": [row[1] for row in rows],
                "bytes": [row[2] for row in rows],
            }
        return {"interval_s": self.interval_s, "devices": devices}


def _cards(visible: str | None) -> tuple[dict[str, Callable[[], tuple[float, int]]], dict[str, int]]:
    """For each visible NVIDIA card, or part of one, a reader of utilisation (percent) and bytes; and all its bytes."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        names = [_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
        # CUDA counts the fastest card first, NVML by the bus
        by_bus = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
        alike = by_bus or len({_text(pynvml.nvmlDeviceGetName(handle)) for handle in handles}) <= 1
    except pynvml.NVMLError:
        return {}, {}
    known = {name: (f"gpu {index}", handle) for index, (name, handle) in enumerate(zip(names, handles, strict=True))}
    found, total_bytes = {}, {}
    for name in visible_cards(visible, names, alike=alike):
        if name not in known:
            try:
                known[name] = (name, pynvml.nvmlDeviceGetHandleByUUID(name.encode()))
            except pynvml.NVMLError:  # a part that this NVML does not find
                continue
        device, handle = known[name]
        found[device] = _reader(pynvml, handle)
        with suppress(pynvml.NVMLError):
            total_bytes[device] = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    return found, total_bytes


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _reader(pynvml: Any, handle: Any) -> Callable[[], tuple[float, int]]:
    def read() -> tuple[float, int]:
        percent, used = 0.0, 0
        with suppress(pynvml.NVMLError):  # a card that fell off the bus ends no launch
            used = int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
        with suppress(pynvml.NVMLError):  # of a part of a card it is not known
            percent = float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        return percent, used

    return read
