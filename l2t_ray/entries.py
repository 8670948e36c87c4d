"""What the ledger says of many runs at once: the few tags and last values that a launch needs."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TAGS = (  # without the prefix l2t.
    *("kind", "key", "cell", "outcome", "reason", "shape", "device", "pack", "processes", "manifest_sha", "trace"),
)
METRICS = ("wall_s", "peak_bytes", "test_accuracy_percent", "validation_accuracy_percent")
RUNS_A_PAGE = 5000

_OURS = (
    "FROM runs JOIN experiments ON experiments.experiment_id = runs.experiment_id"
    " JOIN tags kind ON kind.run_uuid = runs.run_uuid AND kind.key = 'l2t.kind'"
    " WHERE runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'"
)
_RUNS = f"SELECT runs.run_uuid, experiments.name, runs.status, runs.start_time {_OURS}"
_VALUES = "SELECT item.run_uuid, item.key, item.value " + _OURS.replace(
    " WHERE", " JOIN {table} item ON item.run_uuid = runs.run_uuid WHERE item.key IN :names AND"
)


@dataclass(frozen=True)
class Entry:
    """One of our runs in the ledger."""

    run_id: str
    experiment: str
    status: str  # MLflow's: FINISHED, FAILED, RUNNING, ...
    start_ms: int
    tags: Mapping[str, str]
    metrics: Mapping[str, float]  # last values

    @property
    def key(self) -> str:
        """The run's key; empty for a manifest."""
        return self.tags.get("key", "")

    @property
    def kind(self) -> str:
        """The tag `l2t.kind`: run or manifest."""
        return self.tags.get("kind", "")


def select_entries(uri: str, metrics_wanted: Iterable[str] = METRICS) -> Iterator[Entry]:
    """Reads MLflow's tables; its own search would load every param, metric and tag (20,000 runs: 36 s).

    Args:
        uri: of the database.
        metrics_wanted: names.

    Yields:
        Every run that this project wrote, in no order.
    """
    import sqlalchemy
    from sqlalchemy import bindparam, text

    engine = sqlalchemy.create_engine(uri)
    tags: dict[str, dict[str, str]] = {}
    metrics: dict[str, dict[str, float]] = {}
    try:
        with engine.connect() as connection:
            if not sqlalchemy.inspect(connection).has_table("latest_metrics"):
                return  # a database in which MLflow has not been yet
            query = text(_VALUES.format(table="tags")).bindparams(bindparam("names", expanding=True))
            for run_id, name, value in connection.execute(query, {"names": [f"l2t.{name}" for name in TAGS]}):
                tags.setdefault(run_id, {})[name.removeprefix("l2t.")] = value
            query = text(_VALUES.format(table="latest_metrics")).bindparams(bindparam("names", expanding=True))
            for run_id, name, number in connection.execute(query, {"names": [*metrics_wanted]}):
                metrics.setdefault(run_id, {})[name] = number
            rows = connection.execute(text(_RUNS)).all()
    finally:
        engine.dispose()
    for run_id, experiment, status, start_ms in rows:
        yield Entry(run_id, experiment, status, start_ms or 0, tags.get(run_id, {}), metrics.get(run_id, {}))


def search_entries(
    client: Any, experiments: Mapping[str, str], metrics_wanted: Collection[str] = METRICS
) -> Iterator[Entry]:
    """Asks MLflow's own search, for a ledger behind a server.

    Args:
        client: an MlflowClient.
        experiments: id to name.
        metrics_wanted: names.

    Yields:
        Every run that this project wrote, in no order.
    """
    token = None
    while True:
        page = client.search_runs([*experiments], "tags.`l2t.kind` LIKE '%'", max_results=RUNS_A_PAGE, page_token=token)
        for run in page:
            tags = {name: run.data.tags[f"l2t.{name}"] for name in TAGS if f"l2t.{name}" in run.data.tags}
            metrics = {name: run.data.metrics[name] for name in metrics_wanted if name in run.data.metrics}
            experiment = experiments[run.info.experiment_id]
            yield Entry(run.info.run_id, experiment, run.info.status, run.info.start_time or 0, tags, metrics)
        if not (token := page.token):
            return


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
