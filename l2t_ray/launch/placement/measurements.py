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
from l2t_ray.files import write_atomic
from l2t_ray.run import AnyRun

CORE = ("registry.py", "data", "models", "methods", "training")  # a step costs what this code makes it cost
DIGITS = 12
Basis = Literal["measured", "shipped", "estimate"]


@dataclass(frozen=True)
class Speed:
    """One pack of K runs, alone on its device."""

    pack: int  # K
    epoch_s: float  # of an epoch of the whole pack
    evaluation_s: float  # of classifying the test set
    peak_bytes: int  # what the allocator took; on a CPU the process' peak resident set
    prepare_s: float = 0.0  # before the first epoch (`Method.prepare`, the data's way to the device, compiling)
    compiled: bool = False  # whether torch.compile fused the step's pieces


@dataclass(frozen=True)
class Crowd:
    """k processes side by side on one device."""

    processes: int  # k
    pack: int  # K of each
    slowdown: float  # how much longer an epoch takes than alone


@dataclass(frozen=True)
class Figure:
    """One shape on one device."""

    speeds: tuple[Speed, ...]  # by K, ascending
    crowds: tuple[Crowd, ...] = ()  # by k, ascending; empty where only one process was tried
    context_bytes: int = 0  # of a process beside its allocator
    start_s: float = 0.0  # from the start of a process to its first step
    basis: Basis = "measured"  # measured here, shipped with the project, or an estimate
    most_pack: int | None = None  # the largest K that has not run out of memory, where one has
    most_processes: int | None = None  # the same of k
    note: str = ""  # the hardware of a shipped figure, or how an estimate was made

    def pack_s(self, speed: Speed, run: AnyRun) -> float:
        """Seconds that a pack takes, alone on its device."""
        return speed.prepare_s + run.epochs * speed.epoch_s + run.n_evaluations * speed.evaluation_s

    def slowdown(self, processes: int) -> float | None:
        """How much longer an epoch takes with k processes on the device, at least 1; None if not measured."""
        found = [crowd.slowdown for crowd in self.crowds if crowd.processes == processes]
        return found[0] if found else (1.0 if processes == 1 else None)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The figure that `asdict` turned into plain values."""
        speeds = tuple(Speed(**item) for item in values["speeds"])
        crowds = tuple(Crowd(**item) for item in values["crowds"])
        return cls(**{**values, "speeds": speeds, "crowds": crowds})


class Figures:
    """Measured figures, cached in a file; shipped figures where nothing was measured.

    Args:
        file: JSON; it need not exist. Figures of other versions stay in it and are not used.
        methods: the user's method files, which count as code.
        served: whether NVIDIA MPS shares the cards; figures with and without it are kept apart.
    """

    def __init__(self, file: Path, methods: Sequence[Path] = (), *, served: bool = False) -> None:
        self._file, self.served = file, served
        self._versions = f"torch {metadata.version('torch')}|code {code_version(methods)}{'|mps' if served else ''}"
        self._own = _read(file)

    def get(self, shape: str, device: str) -> Figure | None:
        """The cached figure, else the shipped one, else None."""
        values = self._own.get(self._name(shape, device))
        return Figure.from_json(values) if values else shipped().get((shape, device))

    def put(self, shape: str, device: str, figure: Figure) -> None:
        """Caches a measured figure."""
        name = self._name(shape, device)
        self._own = {**_read(self._file), **self._own, name: asdict(figure)}
        write_atomic(self._file, json.dumps(self._own, indent=1, sort_keys=True).encode())

    def learn(self, shape: str, device: str, *, pack: int | None = None, processes: int | None = None) -> None:
        """Notes the largest K and k from now on, because more runs out of memory."""
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
    """12 hex digits of the code that a training's speed depends on, the user's method files included."""
    digest = hashlib.sha256()
    places = [Path(l2t_ray.__file__).with_name(name) for name in CORE]
    core = [file for place in places for file in ([place] if place.suffix else sorted(place.rglob("*.py")))]
    for path in (*core, *sorted(methods)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:DIGITS]


@functools.cache
def shipped() -> dict[tuple[str, str], Figure]:
    """The figures that come with the project, by shape and device; `note` names their hardware."""
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
