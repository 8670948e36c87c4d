"""How busy this machine's devices were during a launch: sampled by NVML and psutil, in bounded memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

INTERVAL_S = 5.0
MOST_SAMPLES = 720  # then every second one is dropped and the interval doubles


@dataclass
class Usage:
    """Samples of every device of this machine; `tick` may be called often and samples only when it is due."""

    now: Callable[[], float] = time.monotonic
    interval_s: float = INTERVAL_S  # between samples
    # [seconds since the start, {device: (utilisation in percent, bytes in use)}]
    samples: list[tuple[float, dict[str, tuple[float, int]]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        import psutil

        self._psutil = psutil
        psutil.cpu_percent()  # the first value has no beginning
        self._cards = _cards()
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


def _cards() -> dict[str, Callable[[], tuple[float, int]]]:
    """A reader of utilisation (percent) and memory (bytes) for each NVIDIA card."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return {}

    def reader(handle: Any) -> Callable[[], tuple[float, int]]:
        def read() -> tuple[float, int]:
            try:
                rates, memory = pynvml.nvmlDeviceGetUtilizationRates(handle), pynvml.nvmlDeviceGetMemoryInfo(handle)
            except pynvml.NVMLError:  # a card that fell off the bus ends no launch
                return 0.0, 0
            return float(rates.gpu), int(memory.used)

        return read

    return {f"gpu {index}": reader(handle) for index, handle in enumerate(handles)}
