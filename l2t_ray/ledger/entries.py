"""What the ledger holds of many runs at once: the few tags and last metric values that a launch needs."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlparse

from l2t_ray.errors import mask

# tags, without the prefix l2t.
IDENTITY = ("kind", "key", "outcome")
TAGS = ("cell", "outcome", "reason", "shape", "device", "pack", "processes", "manifest_sha", "trace", "error")
UNFINISHED = {"diverged": "FAILED", "failed": "FAILED", "lost": "KILLED"}  # outcome to status
METRICS = ("wall_s", "peak_bytes", "test_accuracy_percent", "validation_accuracy_percent")
RUNS_A_PAGE = 5000
TRACED = ("trace", "trace_of")  # what a run has traced, and in which training

History = list[tuple[str, int, float]]  # run id, step, value


@dataclass(frozen=True)
class Entry:
    """One of this project's runs in the ledger."""

    run_id: str
    experiment: str
    status: str  # MLflow's: FINISHED, FAILED, RUNNING, ...; `status_of` of it
    start_ms: int
    tags: Mapping[str, str]
    metrics: Mapping[str, float]  # last values, where they are numbers
    experiment_id: str = ""
    artifact_uri: str = ""

    @property
    def key(self) -> str:
        """The run's key; empty for a manifest."""
        return self.tags.get("key", "")

    @property
    def kind(self) -> str:
        """The tag `l2t.kind`: run or manifest."""
        return self.tags.get("kind", "")


def status_of(status: str, outcome: str) -> str:
    """Returns MLflow's status of a run, but of one that did not finish the status that it had.

    `mlflow.start_run(run_id=...)`, with which people add notes, ends every run as FINISHED.
    """
    return UNFINISHED.get(outcome, status) if status == "FINISHED" else status


def as_logged(value: float) -> float:
    """The value that was logged; MLflow stores infinity as 1.8e308."""
    return math.copysign(math.inf, value) if abs(value) >= 1e308 else value


def is_number(value: float | None) -> bool:
    """Whether a metric has a finite value."""
    return value is not None and math.isfinite(as_logged(value))


def oldest_first(entries: Iterable[Entry]) -> list[Entry]:
    """Returns the entries by start, then by run id: the order that every reader of them expects."""
    return sorted(entries, key=lambda entry: (entry.start_ms, entry.run_id))


def finished(entries: Iterable[Entry], keys: Iterable[str]) -> dict[str, Entry]:
    """Returns the oldest finished entry of each of these keys that has one; entries come oldest first."""
    wanted = set(keys)
    oldest: dict[str, Entry] = {}
    for entry in entries:
        if entry.status == "FINISHED" and entry.kind == "run" and entry.key in wanted:
            oldest.setdefault(entry.key, entry)
    return oldest


def unwanted(entries: Iterable[Entry], sweep: str, keys: Collection[str]) -> set[str]:
    """Returns the keys of a sweep's finished runs outside `keys`: runs of another `--set`, or of an older file."""
    return {
        entry.key
        for entry in entries
        if entry.experiment == sweep and entry.kind == "run" and entry.status == "FINISHED" and entry.key not in keys
    }


def untraced(entries: Iterable[Entry], done: Mapping[str, Entry], traced: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Returns the keys of finished runs that lack a requested trace or file, unless an attempt at it has failed.

    Args:
        entries: of the ledger.
        done: finished runs by key.
        traced: key to the requested traces and files (`Run.extras`), where there are any.
    """
    attempted: dict[str, set[str]] = {}
    for entry in entries:
        if entry.kind == "run" and entry.status in {"FINISHED", "FAILED"} and entry.key in traced:
            attempted.setdefault(entry.key, set()).update(entry.tags.get("trace", "").split())
    return [key for key, asked in traced.items() if key in done and not attempted[key].issuperset(asked)]


def artifact_place(entry: Entry, name: str) -> str:
    """Returns where a run's file is: its path on this machine, or its address without a password."""
    place = urlparse(entry.artifact_uri)
    if place.scheme in {"", "file"}:
        return f"{unquote(place.path)}/{name}"
    return f"{mask(entry.artifact_uri)}/{name}"


def ending(tags: Mapping[str, str]) -> tuple[str, str]:
    """Returns the outcome and reason of a run that MLflow calls FAILED; its page lets anyone set that."""
    outcome, reason = tags.get("outcome", "failed"), tags.get("reason", "")
    return (
        ("failed", "was trained to its end, then set to FAILED in MLflow")
        if outcome == "finished"
        else (outcome, reason)
    )


def failures(entries: Iterable[Entry], keys: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Returns key to (outcome, reason) of the latest failed attempt, for the keys without a finished run."""
    entries, wanted = list(entries), set(keys)
    done = finished(entries, wanted)
    return {
        entry.key: ending(entry.tags)
        for entry in entries
        if entry.status == "FAILED" and entry.kind == "run" and entry.key in wanted and entry.key not in done
    }


@dataclass
class Details:
    """The texts and last values of one run."""

    tags: dict[str, str] = field(default_factory=dict)  # without the prefix l2t.
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
