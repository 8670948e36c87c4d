"""What the ledger says of many runs at once: the few tags and last values that a launch needs."""

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from l2t_ray.mlflow_tables import Tables

IDENTITY = ("kind", "key")  # tags, without the prefix l2t.
TAGS = (  # without the prefix l2t.
    *("cell", "outcome", "reason", "shape", "device", "pack", "processes", "manifest_sha", "trace"),
)
METRICS = ("wall_s", "peak_bytes", "test_accuracy_percent", "validation_accuracy_percent")
RUNS_A_PAGE = 5000


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


def select_entries(uri: str, metrics_wanted: Iterable[str] = METRICS) -> Iterator[Entry]:
    """Reads MLflow's tables.

    Args:
        uri: of the database.
        metrics_wanted: names.

    Yields:
        Every run that this project wrote, in no order; none where MLflow has not been yet.
    """
    with closing(Tables(uri)) as tables:
        if tables.exist:
            yield from read_entries(tables, metrics_wanted)


def read_entries(
    tables: Tables, metrics_wanted: Iterable[str] = (), tags_wanted: Iterable[str] = TAGS
) -> Iterator[Entry]:
    """Reads MLflow's tables, which must be there.

    Args:
        tables: of the database.
        metrics_wanted: names.
        tags_wanted: without their prefix; kind and key are always there.

    Yields:
        Every run that this project wrote, in no order.
    """
    rows = [*tables.runs()]  # first: what has ended by now has all its values
    tags = {row.run_id: {"kind": row.kind, "key": row.key} if row.key else {"kind": row.kind} for row in rows}
    metrics: dict[str, dict[str, float]] = {row.run_id: {} for row in rows}
    for run_id, name, text in tables.tags_named([f"l2t.{name}" for name in tags_wanted]):
        if run_id in tags:
            tags[run_id][name.removeprefix("l2t.")] = text or ""
    for run_id, name, value in tables.metrics_named(metrics_wanted):
        if run_id in metrics and is_number(value):
            metrics[run_id][name] = value
    for row in rows:
        told, last = tags[row.run_id], metrics[row.run_id]
        yield Entry(
            row.run_id, row.experiment, row.status, row.start_ms, told, last, row.experiment_id, row.artifact_uri
        )


def paged(search: Callable[..., Any]) -> Iterator[Any]:
    """All that one of MLflow's searches finds.

    Args:
        search: takes `max_results` and `page_token`.

    Yields:
        What its pages hold.
    """
    token = None
    while True:
        page = search(max_results=RUNS_A_PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return


def search_runs(client: Any, experiment_ids: Collection[str]) -> Iterator[Any]:
    """Asks MLflow's own search, for a ledger behind a server.

    Args:
        client: an MlflowClient.
        experiment_ids: where to look.

    Yields:
        MLflow's run of every run that this project wrote, in no order.
    """
    yield from paged(functools.partial(client.search_runs, [*experiment_ids], "tags.`l2t.kind` LIKE '%'"))


def search_entries(
    client: Any, experiments: Mapping[str, str], metrics_wanted: Iterable[str] = METRICS
) -> Iterator[Entry]:
    """What `select_entries` reads, of a ledger behind a server.

    Args:
        client: an MlflowClient.
        experiments: id to name.
        metrics_wanted: names.

    Yields:
        Every run that this project wrote, in no order.
    """
    for run in search_runs(client, experiments):
        yield read_entry(run, experiments, metrics_wanted)


def read_entry(
    run: Any,
    experiments: Mapping[str, str],
    metrics_wanted: Iterable[str] = (),
    tags_wanted: Iterable[str] = TAGS,
) -> Entry:
    """An entry from MLflow's run.

    Args:
        run: MLflow's.
        experiments: id to name.
        metrics_wanted: names.
        tags_wanted: without their prefix; kind and key are always there.

    Returns:
        The entry.
    """
    tags, metrics, info = run.data.tags, run.data.metrics, run.info
    return Entry(
        info.run_id,
        experiments[info.experiment_id],
        info.status,
        info.start_time or 0,
        {name: tags[f"l2t.{name}"] for name in (*IDENTITY, *tags_wanted) if f"l2t.{name}" in tags},
        {name: metrics[name] for name in metrics_wanted if is_number(metrics.get(name))},
        info.experiment_id,
        info.artifact_uri or "",
    )


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
