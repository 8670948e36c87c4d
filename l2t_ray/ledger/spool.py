"""Results on their way to the ledger: one durable file for each run, removed when MLflow has the result."""

import contextlib
import dataclasses
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from l2t_ray.config import flat
from l2t_ray.errors import mask
from l2t_ray.files import write_atomic
from l2t_ray.ledger import provenance
from l2t_ray.run import AnyRun

TRACE = "traceback.txt"  # the artifact with all lines of the error with which a run failed
Series = dict[str, list[tuple[int, float]]]  # name -> [(epoch, value)]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ended:
    """How a run ended, as a worker or the queue reports it."""

    key: str
    status: str  # finished, diverged, failed
    reason: str = ""
    metrics: Series = field(default_factory=dict)
    wall_s: float = 0.0
    peak_bytes: int = 0
    artifacts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Returns the part of `Outcome.to_json()` that the ledger keeps."""
        series = values["metrics"].items()
        metrics = {name: [(int(epoch), float(value)) for epoch, value in points] for name, points in series}
        given = {entry.name: values[entry.name] for entry in fields(cls) if entry.name in values}
        return cls(**{**given, "metrics": metrics})


@dataclass(frozen=True)
class Record:
    """Everything that a finished, diverged or failed run leaves in MLflow."""

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
    def of(cls, run: AnyRun, result: Ended, sweep: str, cell: str, *, data_sha: str, tags: Mapping[str, str]) -> Self:
        """Returns the record of how a run ended, with everything by which it is found again.

        Args:
            run: the run.
            result: how it ended.
            sweep: MLflow's experiment.
            cell: the cell's name in this sweep.
            data_sha: digest of its images, where the settings do not hold it.
            tags: further ones, without the prefix `l2t.`.
        """
        is_failed = result.status == "failed"  # its traces are named too, or it would be trained again for ever
        return cls(
            key=run.key,
            sweep=sweep,
            name=f"{cell} seed {run.seed}",
            outcome=result.status,
            params=dotted(run.resolved()),
            tags={
                **tags,
                "cell": cell,
                "reason": mask(result.reason),
                "git": provenance.commit(),
                "versions": provenance.versions(run.code),
                "data_sha": data_sha or run.data_sha,
                **({"trace": " ".join(run.extras)} if run.extras and (result.artifacts or is_failed) else {}),
                **({"error": TRACE} if TRACE in result.artifacts else {}),
            },
            metrics={name: [*series] for name, series in result.metrics.items()},
            wall_s=result.wall_s,
            peak_bytes=result.peak_bytes,
            artifacts=dict(result.artifacts),
        )

    @property
    def start_ms(self) -> int:
        """When one session of that length would have begun; with the key it identifies an attempt."""
        return self.end_ms - round(self.wall_s * 1000)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Returns the record whose fields are these plain values."""
        metrics = {
            name: [(int(epoch), float(value)) for epoch, value in series] for name, series in values["metrics"].items()
        }
        return cls(**{**values, "metrics": metrics})


class Spool:
    """A folder of records; a file's name is its run's key, so that a newer record of a run replaces the older.

    Attributes:
        folder: may be missing.
        own: keys that this object has added; a record of another process may be in the ledger already.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own: set[str] = set()
        self._last_ns = 0

    def put(self, record: Record) -> None:
        """Writes a record durably."""
        path = self._path(record.key)
        if not path.exists():  # the ledger may hold a part of what is replaced
            self.own.add(record.key)
        write_atomic(path, json.dumps(dataclasses.asdict(record)).encode())
        self._last_ns = max(time.time_ns(), self._last_ns + 1)
        with contextlib.suppress(FileNotFoundError):  # the kernel's own times are too coarse for an order
            os.utime(path, ns=(self._last_ns, self._last_ns))

    def remove(self, record: Record) -> None:
        """Removes a record that the ledger holds, unless a newer one of its run has replaced it."""
        path = self._path(record.key)
        try:
            if json.loads(path.read_bytes())["end_ms"] == record.end_ms:
                path.unlink()
        except FileNotFoundError:
            pass

    def records(self) -> Iterator[Record]:
        """Yields all records, oldest first; logs a file that is not a record, and leaves it."""
        for path in self.paths():
            try:
                yield Record.from_json(json.loads(path.read_bytes()))
            except FileNotFoundError:
                continue
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                logger.error("%s: must be the JSON that was spooled (%r); restore or remove the file", path, error)

    def paths(self) -> list[Path]:
        """Returns the files, oldest first; their stems are the runs' keys."""
        dated = []
        for path in self.folder.glob("*.json") if self.folder.is_dir() else ():
            if not path.name.startswith("."):  # a temporary file that a killed writer left
                try:
                    dated.append((path.stat().st_mtime_ns, path))
                except FileNotFoundError:
                    continue
        return [path for _, path in sorted(dated)]

    def __len__(self) -> int:
        return len(self.paths())

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def dotted(settings: Mapping[str, Any]) -> dict[str, str]:
    """Returns resolved settings as MLflow's params, sorted by dotted name; a value that is no text becomes JSON."""
    values = sorted(flat(settings).items())
    return {name: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for name, value in values}
