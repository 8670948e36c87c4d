"""What was measured of a shape on a device: seconds and bytes for each size of pack, and how processes share a device.

Figures are cached in one JSON file by shape, device, versions of torch and of the code, and whether MPS shares the
card; some are shipped with us.
Notation: K runs a pack, k processes a device.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Self

import l2t_ray
from l2t_ray.config import Run
from l2t_ray.files import write_atomic

CORE = ("registry.py", "data", "models", "methods", "training")  # a step costs what this code makes it cost
DIGITS = 12
Basis = Literal["measured", "shipped", "estimate"]


@dataclass(frozen=True)
class Speed:
    """One pack of K runs, alone on its device.

    Attributes:
        pack: K.
        epoch_s: of an epoch of the whole pack.
        evaluation_s: of classifying the test set.
        peak_bytes: what the allocator took; on a CPU the process' peak resident set.
        prepare_s: before the first epoch (`Method.prepare`, the data's way to the device).
    """

    pack: int
    epoch_s: float
    evaluation_s: float
    peak_bytes: int
    prepare_s: float = 0.0


@dataclass(frozen=True)
class Crowd:
    """k processes side by side on one device.

    Attributes:
        processes: k.
        pack: K of each.
        slowdown: how much longer an epoch takes than alone.
    """

    processes: int
    pack: int
    slowdown: float


@dataclass(frozen=True)
class Figure:
    """One shape on one device.

    Attributes:
        speeds: by K, ascending.
        crowds: by k, ascending; empty where only one process was tried.
        context_bytes: of a process beside its allocator.
        start_s: from the start of a process to its first step.
        basis: measured here, shipped with the project, or an estimate.
        most_pack: the largest K that has not run out of memory, where one has.
        most_processes: the same of k.
        note: the hardware of a shipped figure, or how an estimate was made.
    """

    speeds: tuple[Speed, ...]
    crowds: tuple[Crowd, ...] = ()
    context_bytes: int = 0
    start_s: float = 0.0
    basis: Basis = "measured"
    most_pack: int | None = None
    most_processes: int | None = None
    note: str = ""

    def pack_s(self, speed: Speed, run: Run) -> float:
        """How long a pack takes, alone on its device.

        Args:
            speed: of its K.
            run: one of its runs.

        Returns:
            Seconds of training.
        """
        n_evaluations = min(run.record.evaluations + 1, run.training.epochs)
        return speed.prepare_s + run.training.epochs * speed.epoch_s + n_evaluations * speed.evaluation_s

    def slowdown(self, processes: int) -> float | None:
        """How much longer an epoch takes with k processes on the device.

        Args:
            processes: k.

        Returns:
            At least 1; None where it was not measured.
        """
        found = [crowd.slowdown for crowd in self.crowds if crowd.processes == processes]
        return found[0] if found else (1.0 if processes == 1 else None)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The figure that `asdict` gave.

        Args:
            values: plain ones.

        Returns:
            An equal figure.
        """
        speeds = tuple(Speed(**item) for item in values["speeds"])
        crowds = tuple(Crowd(**item) for item in values["crowds"])
        return cls(**{**values, "speeds": speeds, "crowds": crowds})


class Figures:
    """The cache in a file, before the shipped figures.

    Args:
        file: JSON; it need not exist. Another version's figures stay in it and are not used.
        methods: the user's files of methods, which are code too.
        served: whether NVIDIA's service shares the cards: figures with and without it are kept apart.

    Attributes:
        served: as given.
    """

    def __init__(self, file: Path, methods: Sequence[Path] = (), *, served: bool = False) -> None:
        self._file, self.served = file, served
        self._versions = f"torch {metadata.version('torch')}|code {code_version(methods)}{'|mps' if served else ''}"
        self._own = _read(file)

    def get(self, shape: str, device: str) -> Figure | None:
        """What is known of a shape on a device.

        Args:
            shape: of `placement.speed_shape`.
            device: its name.

        Returns:
            The cached figure, else the shipped one, else None.
        """
        values = self._own.get(self._name(shape, device))
        return Figure.from_json(values) if values else shipped().get((shape, device))

    def put(self, shape: str, device: str, figure: Figure) -> None:
        """Keeps a figure.

        Args:
            shape: of `placement.speed_shape`.
            device: its name.
            figure: measured.
        """
        name = self._name(shape, device)
        self._own = {**_read(self._file), **self._own, name: asdict(figure)}
        write_atomic(self._file, json.dumps(self._own, indent=1, sort_keys=True).encode())

    def learn(self, shape: str, device: str, *, pack: int | None = None, processes: int | None = None) -> None:
        """Notes that more than this runs out of memory.

        Args:
            shape: of `placement.speed_shape`.
            device: its name.
            pack: the largest K from now on.
            processes: the most processes on a device from now on.
        """
        figure = self.get(shape, device) or Figure(speeds=())
        packs = [n for n in (pack, figure.most_pack) if n is not None]
        crowds = [n for n in (processes, figure.most_processes) if n is not None]
        self.put(
            shape,
            device,
            replace(figure, most_pack=min(packs, default=None), most_processes=min(crowds, default=None)),
        )

    def _name(self, shape: str, device: str) -> str:
        return f"{shape}|{device}|{self._versions}"


def code_version(methods: Iterable[Path] = ()) -> str:
    """What the speed of a training depends on: the numeric core's files and the user's methods.

    Args:
        methods: Python files.

    Returns:
        12 hex digits.
    """
    digest = hashlib.sha256()
    places = [Path(l2t_ray.__file__).with_name(name) for name in CORE]
    core = [file for place in places for file in ([place] if place.suffix else sorted(place.rglob("*.py")))]
    for path in (*core, *sorted(methods)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:DIGITS]


@functools.cache
def shipped() -> dict[tuple[str, str], Figure]:
    """The figures that come with the project, each with its hardware in `note`.

    Returns:
        By shape and device.
    """
    content = _read(Path(__file__).with_name("shipped.json"))
    return {
        (name.split("|")[0], name.split("|")[1]): replace(Figure.from_json(values), basis="shipped")
        for name, values in content.items()
    }


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):  # a cache: what cannot be read is measured again
        return {}
    return content if isinstance(content, dict) else {}
