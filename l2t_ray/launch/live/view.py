"""The state of a running launch, as the table, the page and `--status` show it; kept in a file of JSON."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from l2t_ray.errors import duration
from l2t_ray.files import write_atomic
from l2t_ray.launch.placement.eta import Eta
from l2t_ray.run import ACCURACY


@dataclass(frozen=True)
class CellView:
    """One cell of the sweep; of a search, one study."""

    cell: str  # its name
    n_wanted: int  # runs in the sweep; of a search at most
    n_finished: int  # in the ledger, or by this launch
    n_running: int
    n_failed: int  # failed or diverged
    mean: float | None = None  # of the finished runs: test accuracy in percent, or the sweep's own metric
    half_width: float | None = None  # of its 95 % interval; None below two runs


@dataclass(frozen=True)
class DeviceView:
    """One device of the machine that launches."""

    name: str
    percent: float  # utilisation
    used_bytes: int
    total_bytes: int  # 0 if unknown


@dataclass(frozen=True)
class PackView:
    """One pack that is being trained."""

    cell: str  # of its first run
    n_runs: int
    device: str
    elapsed_s: float
    epoch: int
    epochs: int  # 0 before the first sign of life
    left_s: float | None


@dataclass(frozen=True)
class View:
    """All of it."""

    sweep: str
    begun_s: float  # seconds since 1970
    updated_s: float
    ended_s: float | None  # None while the launch lasts
    counts: Mapping[str, int]  # runs of this launch that have ended, by outcome
    n_total: int  # runs of this launch
    n_further: int  # runs that a search may still hand out
    n_running: int
    eta: Eta | None  # None if unknown
    cells: tuple[CellView, ...]
    devices: tuple[DeviceView, ...]
    packs: tuple[PackView, ...]
    links: Mapping[str, str]  # what to its address, file or command
    notes: tuple[str, ...] = ()
    metric: str = ACCURACY.name  # of the cells' means

    @property
    def line(self) -> str:
        """In short: "12 of 40 runs ended (12 finished), 4 running, 3 min left (2 to 4 min), after 1 min"."""
        return f"{self.done}, {self.rest}"

    @property
    def done(self) -> str:
        """The runs of this launch that have ended, in words."""
        parts = ", ".join(f"{n} {name}" for name, n in self.counts.items() if n)
        total = f"at most {self.n_total + self.n_further}" if self.n_further else self.n_total
        return f"{sum(self.counts.values())} of {total} runs ended{f' ({parts})' if parts else ''}"

    @property
    def rest(self) -> str:
        """The other part of `line`."""
        is_over = sum(self.counts.values()) == self.n_total + self.n_further or self.ended_s is not None
        left = "" if is_over else f"{self.time_left}, "
        return f"{self.n_running} running, {left}after {duration(self.updated_s - self.begun_s)}"

    @property
    def time_left(self) -> str:
        """The time left and its range, in words."""
        if self.eta is None:
            return "time left unknown"
        low, high = duration(self.eta.low_s), duration(self.eta.high_s)
        if low.split()[1] == high.split()[1]:
            low = low.split()[0]
        return f"{duration(self.eta.left_s)} left ({low} to {high})"

    def write(self, file: Path) -> None:
        """Writes it for another process, `--status`.

        Raises:
            OSError: if the file cannot be written.
        """
        write_atomic(file, json.dumps({**asdict(self), "line": self.line}).encode())

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """What `write` has written; None if there is nothing, or another version's."""
        try:
            content = json.loads(file.read_bytes())
            content.pop("line")
            content["eta"] = content["eta"] and Eta(**content["eta"])
            content["cells"] = _all(CellView, content["cells"])
            content["devices"] = _all(DeviceView, content["devices"])
            content["packs"] = _all(PackView, content["packs"])
            return cls(**{**content, "notes": tuple(content["notes"])})
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None


def _all(kind: Any, rows: Iterable[Mapping[str, Any]]) -> tuple[Any, ...]:
    return tuple(kind(**row) for row in rows)
