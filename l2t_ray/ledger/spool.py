"""Results on their way to the ledger: one durable file for each run, removed when MLflow has the result."""

import base64
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from l2t_ray.config import flat
from l2t_ray.errors import mask
from l2t_ray.files import write_atomic
from l2t_ray.ledger import provenance
from l2t_ray.run import AnyRun

TRACE = "traceback.txt"  # the artifact with all lines of the error with which a run failed
Series = dict[str, list[tuple[int, float]]]  # name -> [(epoch, value)]

CHECKSUM = "sha256"  # in a spooled file, of the rest of it; files of earlier versions have none

logger = logging.getLogger(__name__)


def _plain_files(artifacts: Mapping[str, str]) -> Mapping[str, str]:
    for name, content in artifacts.items():
        if Path(name).name != name or "\\" in name:
            raise ValueError(f"must be the name of a file, got {name!r}")
        base64.b64decode(content, validate=True)
    return artifacts


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

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    key: Annotated[str, Field(pattern=r"^\w+$")]
    sweep: str
    name: str
    outcome: Literal["finished", "diverged", "failed"]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Series
    wall_s: float
    peak_bytes: int
    artifacts: Annotated[Mapping[str, str], AfterValidator(_plain_files)] = field(default_factory=dict)  # base64
    kind: Literal["run", "source"] = "run"
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
            outcome=result.status,  # type: ignore[arg-type]  # Ray hands it on as a text
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

    def to_json(self) -> str:
        """Returns the record as JSON with a checksum."""
        values = dataclasses.asdict(self)
        return json.dumps({**values, CHECKSUM: _checksum(values)})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Returns the record of a JSON.

        Raises:
            ValueError: if it is damaged or edited.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("it is no map")
        if values.pop(CHECKSUM, found := _checksum(values)) != found:
            raise ValueError("its checksum does not match")
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _checksum(values: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in values.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(rest).encode()).hexdigest()


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
        write_atomic(path, record.to_json().encode())
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
                record = Record.from_json(path.read_bytes())
                if path == self._path(record.key) or self._take_over(path, record):
                    yield record
            except FileNotFoundError:
                continue
            except (ValueError, RecursionError) as error:
                logger.error("%s: must be the JSON that was spooled (%s); restore or remove the file", path, error)

    def _take_over(self, path: Path, record: Record) -> bool:
        """Gives a file that was copied under another name its own; returns False where that has a newer record."""
        own = self._path(record.key)
        with contextlib.suppress(FileNotFoundError, ValueError):
            if Record.from_json(own.read_bytes()).end_ms >= record.end_ms:
                path.unlink()
                return False
        path.replace(own)
        return True

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
