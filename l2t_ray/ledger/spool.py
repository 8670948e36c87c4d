"""Results on their way to the ledger: one durable file a run, removed when MLflow has it."""

import contextlib
import dataclasses
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, Self

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.errors import mask
from l2t_ray.files import write_atomic
from l2t_ray.ledger import provenance

Series = dict[str, list[tuple[int, float]]]  # name -> [(epoch, value)]

REASON_CHARACTERS = 1000


logger = logging.getLogger(__name__)


class Result(Protocol):
    """How a run ended: `training.Outcome`, or what the queue makes of a run that raised."""

    @property
    def key(self) -> str:
        """The run's key."""

    @property
    def status(self) -> str:
        """finished, diverged or failed."""

    @property
    def reason(self) -> str:
        """Empty when finished."""

    @property
    def metrics(self) -> Series:
        """Name to (epoch, value), epochs from 1."""

    @property
    def wall_s(self) -> float:
        """Of all sessions."""

    @property
    def peak_bytes(self) -> int:
        """Of memory."""

    @property
    def artifacts(self) -> Mapping[str, str]:
        """Files as base64, by name."""


@dataclass(frozen=True)
class Ended:
    """How a run ended, as a worker or the queue tells it."""

    key: str
    status: str  # finished, diverged, failed
    reason: str = ""
    metrics: Series = field(default_factory=dict)
    wall_s: float = 0.0
    peak_bytes: int = 0
    artifacts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Takes over what the ledger keeps of `Outcome.to_json()`.

        Args:
            values: the plain values.

        Returns:
            The same, typed.
        """
        series = values["metrics"].items()
        metrics = {name: [(int(epoch), float(value)) for epoch, value in points] for name, points in series}
        given = {entry.name: values[entry.name] for entry in fields(cls) if entry.name in values}
        return cls(**{**given, "metrics": metrics})


@dataclass(frozen=True)
class Record:
    """Everything that one finished, diverged or failed run leaves in MLflow."""

    key: str
    sweep: str
    name: str
    outcome: str  # finished, diverged, failed
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Series
    wall_s: float
    peak_bytes: int
    artifacts: Mapping[str, str] = field(default_factory=dict)  # files as base64, by name
    kind: str = "run"  # or source
    end_ms: int = field(default_factory=lambda: int(time.time() * 1000))

    @classmethod
    def of(cls, run: Run, result: Result, sweep: str, cell: str, *, data_sha: str, tags: Mapping[str, str]) -> Self:
        """How a run ended, with everything by which it is found again.

        Args:
            run: the run.
            result: how it ended.
            sweep: MLflow's experiment.
            cell: the cell's name in this sweep.
            data_sha: what the images were, if not a settings' entry.
            tags: further ones, without the prefix `l2t.`.

        Returns:
            The record.
        """
        is_failed = result.status == "failed"  # what it was asked for: so that it is not tried for ever
        return cls(
            key=run.key,
            sweep=sweep,
            name=f"{cell} seed {run.seed}",
            outcome=result.status,
            params=dotted(run.resolved()),
            tags={
                **tags,
                "cell": cell,
                "reason": mask(result.reason)[:REASON_CHARACTERS],
                "git": provenance.commit(),
                "versions": provenance.versions(registry.CODE.get(run.method)),
                "data_sha": data_sha or run.data.sha256 or "",
                **({"trace": " ".join(run.traced)} if run.traced and (result.artifacts or is_failed) else {}),
            },
            metrics={name: [*series] for name, series in result.metrics.items()},
            wall_s=result.wall_s,
            peak_bytes=result.peak_bytes,
            artifacts=dict(result.artifacts),
        )

    @property
    def start_ms(self) -> int:
        """When a single session of that length would have begun; with the key it tells one attempt from another."""
        return self.end_ms - round(self.wall_s * 1000)

    def to_json(self) -> dict[str, Any]:
        """The record as plain values.

        Returns:
            A dictionary that `json.dumps` takes.
        """
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The record that `to_json` gave.

        Args:
            values: the plain values.

        Returns:
            An equal record.
        """
        metrics = {
            name: [(int(epoch), float(value)) for epoch, value in series] for name, series in values["metrics"].items()
        }
        return cls(**{**values, "metrics": metrics})


class Spool:
    """A folder of records; a name is a run's key, so a newer record of a run replaces the older.

    Attributes:
        folder: that may be missing.
        own: keys that this object has put there; others may have been in a ledger before.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own: set[str] = set()
        self._last_ns = 0

    def put(self, record: Record) -> None:
        """Writes a record durably.

        Args:
            record: what is to reach the ledger.
        """
        path = self._path(record.key)
        if not path.exists():  # what is replaced may have been carried on in part
            self.own.add(record.key)
        write_atomic(path, json.dumps(record.to_json()).encode())
        self._last_ns = max(time.time_ns(), self._last_ns + 1)
        with contextlib.suppress(FileNotFoundError):  # the kernel's own times are too coarse for an order
            os.utime(path, ns=(self._last_ns, self._last_ns))

    def remove(self, record: Record) -> None:
        """Forgets a record that the ledger holds, unless a newer one has taken its place.

        Args:
            record: the record that was written to the ledger.
        """
        path = self._path(record.key)
        try:
            if json.loads(path.read_bytes())["end_ms"] == record.end_ms:
                path.unlink()
        except FileNotFoundError:
            pass

    def records(self) -> Iterator[Record]:
        """All records, oldest first; a file that somebody changed is left where it is, and told.

        Yields:
            One record a file.
        """
        for path in self.paths():
            try:
                yield Record.from_json(json.loads(path.read_bytes()))
            except FileNotFoundError:
                continue
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                logger.error("%s: must be the JSON that was spooled (%r); restore or remove the file", path, error)

    def paths(self) -> list[Path]:
        """The files, oldest first.

        Returns:
            Paths whose stems are the runs' keys.
        """
        found = []
        for path in self.folder.glob("*.json") if self.folder.is_dir() else ():
            if not path.name.startswith("."):  # a temporary file that a killed writer left
                try:
                    found.append((path.stat().st_mtime_ns, path))
                except FileNotFoundError:
                    continue
        return [path for _, path in sorted(found)]

    def __len__(self) -> int:
        return len(self.paths())

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def dotted(settings: Mapping[str, Any]) -> dict[str, str]:
    """Resolved settings as MLflow's params: `section.name`; anything deeper, and whatever is no text, as JSON.

    Args:
        settings: of `Run.resolved`.

    Returns:
        Flat and sorted.
    """
    flat: dict[str, Any] = {}
    for section, values in settings.items():
        if isinstance(values, dict):
            flat.update({f"{section}.{name}": value for name, value in values.items()})
        else:
            flat[section] = values
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for name, value in flat.items()
    }
    return dict(sorted(texts.items()))
