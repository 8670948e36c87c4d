"""What the ledger says of many runs at once: the few tags and last values that a launch needs."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

IDENTITY = ("kind", "key")  # tags, without the prefix l2t.
TAGS = (  # without the prefix l2t.
    *("cell", "outcome", "reason", "shape", "device", "pack", "processes", "manifest_sha", "trace"),
)
METRICS = ("wall_s", "peak_bytes", "test_accuracy_percent", "validation_accuracy_percent")
RUNS_A_PAGE = 5000
TRACED = ("trace", "trace_of")  # tags of an entry: what it has traced, and of which training
History = list[tuple[str, int, float]]  # run id, step, value


@dataclass(frozen=True)
class Entry:
    """One of our runs in the ledger."""

    run_id: str
    experiment: str
    status: str  # MLflow's: FINISHED, FAILED, RUNNING, ...
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


def is_number(value: float | None) -> bool:
    """Whether a metric counts, for a launch as for a report.

    Args:
        value: as MLflow gives it; None where it has none.

    Returns:
        False for none, for a nan and for infinity, which MLflow stores as 1.8e308.
    """
    return value is not None and abs(value) < 1e308


def oldest_first(entries: Iterable[Entry]) -> list[Entry]:
    """The order in which all that read them expect them.

    Args:
        entries: of the ledger.

    Returns:
        By start, then by run id.
    """
    return sorted(entries, key=lambda entry: (entry.start_ms, entry.run_id))


def finished(entries: Iterable[Entry], keys: Iterable[str]) -> dict[str, Entry]:
    """The finished runs among these keys.

    Args:
        entries: of the ledger, oldest first.
        keys: of runs.

    Returns:
        Key to its oldest finished entry.
    """
    wanted = set(keys)
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.status == "FINISHED" and entry.kind == "run" and entry.key in wanted:
            found.setdefault(entry.key, entry)
    return found


def unwanted(entries: Iterable[Entry], sweep: str, keys: Collection[str]) -> set[str]:
    """The finished runs that a sweep has trained and wants no longer: of another `--set`, or of an older file.

    Args:
        entries: of the ledger.
        sweep: its name.
        keys: of all the runs that it wants.

    Returns:
        Their keys.
    """
    return {
        entry.key
        for entry in entries
        if entry.experiment == sweep and entry.kind == "run" and entry.status == "FINISHED" and entry.key not in keys
    }


def untraced(entries: Iterable[Entry], done: Mapping[str, Entry], traced: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The finished runs that lack a trace they are asked for, and that no attempt at it has ended without a result.

    Args:
        entries: of the ledger.
        done: finished runs by key.
        traced: key to what is asked for (`Run.traced`), where anything is.

    Returns:
        Their keys.
    """
    there: dict[str, set[str]] = {}
    for entry in entries:
        if entry.kind == "run" and entry.status in {"FINISHED", "FAILED"} and entry.key in traced:
            there.setdefault(entry.key, set()).update(entry.tags.get("trace", "").split())
    return [key for key, asked in traced.items() if key in done and not there[key].issuperset(asked)]


def failures(entries: Iterable[Entry], keys: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The runs among these keys that ended without a result, and got none from another attempt.

    Args:
        entries: of the ledger, oldest first.
        keys: of runs.

    Returns:
        Key to (outcome, reason) of the latest attempt.
    """
    entries, wanted = list(entries), set(keys)
    done = finished(entries, wanted)
    return {
        entry.key: (entry.tags.get("outcome", "failed"), entry.tags.get("reason", ""))
        for entry in entries
        if entry.status == "FAILED" and entry.kind == "run" and entry.key in wanted and entry.key not in done
    }


@dataclass
class Details:
    """The texts and last values of one run."""

    tags: dict[str, str] = field(default_factory=dict)  # without the prefix l2t.
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
