"""A ledger in a database: reads MLflow's tables by SQL in a handful of queries, and the artifacts beside them.

MLflow's own search loads every param, metric and tag of every run as objects (20,000 runs: 36 s), its client has no
call for the histories of many runs, and importing it takes seconds.
"""

import functools
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from l2t_ray.errors import InputError, mask
from l2t_ray.ledger.address import database_file, reaching
from l2t_ray.ledger.client import beside, reading
from l2t_ray.ledger.entries import (
    METRICS,
    TAGS,
    TRACED,
    Details,
    Entry,
    History,
    as_logged,
    is_number,
    oldest_first,
    status_of,
)
from l2t_ray.ledger.server import artifacts_of, download

if TYPE_CHECKING:
    from sqlalchemy import Engine

IDS_A_QUERY = 10_000  # below SQLite's 32,766 and PostgreSQL's 65,535 variables
FROM_OURS = (
    " FROM runs JOIN experiments ON experiments.experiment_id = runs.experiment_id"
    " JOIN tags kind ON kind.run_uuid = runs.run_uuid AND kind.key = 'l2t.kind'"
)
ACTIVE = " WHERE runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'"


class Tables:
    """MLflow's tables in a database.

    Args:
        uri: of the database; the first query opens it.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri

    @property
    def exist(self) -> bool:
        """Whether MLflow has created its tables in this database."""
        import sqlalchemy

        return sqlalchemy.inspect(self._engine).has_table("latest_metrics")

    def runs(self) -> Sequence[Any]:
        """Returns a row for every run that this project wrote, in no order."""
        columns = (
            "runs.run_uuid AS run_id, runs.experiment_id, experiments.name AS experiment, runs.status,"
            " COALESCE(runs.start_time, 0) AS start_ms, COALESCE(runs.artifact_uri, '') AS artifact_uri,"
            " kind.value AS kind, COALESCE(ident.value, '') AS run_key"
        )
        ident = " LEFT JOIN tags ident ON ident.run_uuid = runs.run_uuid AND ident.key = 'l2t.key'"
        return self._rows(f"SELECT {columns}{FROM_OURS}{ident}{ACTIVE}")

    def deleted_experiment(self, name: str) -> str:
        """The id of the experiment of this name if it was deleted in MLflow; else an empty text."""
        query = "SELECT experiment_id FROM experiments WHERE name = :name AND lifecycle_stage = 'deleted'"
        return next((str(row.experiment_id) for row in self._rows(query, name=name)), "")

    def tags_named(self, names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
        """Yields (run id, name, text) for these tags, named with their prefix, of every run that this project wrote."""
        return iter(self._named("tags", "item.value", names))

    def metrics_named(self, names: Iterable[str]) -> Iterator[tuple[str, str, float]]:
        """Yields (run id, name, value) for the last values of these metrics, of every run that this project wrote."""
        return _read(self._named("latest_metrics", "item.value, item.is_nan", names))

    def tags(self, run_ids: Collection[str]) -> Iterator[tuple[str, str, str]]:
        """Yields (run id, name, text) for all tags of these runs."""
        return self._chunks("SELECT run_uuid, tags.key, value FROM tags", run_ids)

    def params(self, run_ids: Collection[str]) -> Iterator[tuple[str, str, str]]:
        """Yields (run id, name, text) for all params of these runs."""
        return self._chunks("SELECT run_uuid, params.key, value FROM params", run_ids)

    def metrics(self, run_ids: Collection[str]) -> Iterator[tuple[str, str, float]]:
        """Yields (run id, name, value) for the last values of all metrics of these runs."""
        return _read(self._chunks("SELECT run_uuid, latest_metrics.key, value, is_nan FROM latest_metrics", run_ids))

    def history(
        self, run_ids: Collection[str], metric: str, steps: Collection[int] | None = None
    ) -> Iterator[tuple[str, int, float]]:
        """Yields (run id, step, value) for every value of one metric of these runs, in no order; `None`: all steps."""
        query = "SELECT run_uuid, step, value, is_nan FROM metrics"
        further, values = " AND metrics.key = :metric", {"metric": metric}
        if steps is None:
            return _read(self._chunks(query, run_ids, further, **values))
        return _read(self._chunks(query, run_ids, f"{further} AND step IN :steps", steps=sorted(steps), **values))

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    @functools.cached_property
    def _engine(self) -> "Engine":
        import sqlalchemy

        return sqlalchemy.create_engine(self._uri, **reading(self._uri))

    def _rows(self, query: str, **values: Any) -> Sequence[Any]:
        from sqlalchemy import bindparam, text

        statement = text(query)
        lists: list[Any] = [
            bindparam(name, expanding=True) for name, value in values.items() if isinstance(value, list)
        ]
        with self._engine.connect() as connection:
            return connection.execute(statement.bindparams(*lists), values).all()

    def _named(self, table: str, columns: str, names: Iterable[str]) -> Sequence[Any]:
        if not (wanted := [*names]):
            return []
        item = f" JOIN {table} item ON item.run_uuid = runs.run_uuid"
        query = f"SELECT item.run_uuid, item.key, {columns}{FROM_OURS}{item}{ACTIVE} AND item.key IN :names"
        return self._rows(query, names=wanted)

    def _chunks(self, query: str, run_ids: Collection[str], further: str = "", **values: Any) -> Iterator[Any]:
        ids = sorted(run_ids)
        for start in range(0, len(ids), IDS_A_QUERY):
            chunk = ids[start : start + IDS_A_QUERY]
            yield from self._rows(f"{query} WHERE run_uuid IN :ids{further}", ids=chunk, **values)


def _read(rows: Iterable[Any]) -> Iterator[Any]:
    for run_id, name_or_step, value, is_nan in rows:
        yield run_id, name_or_step, math.nan if is_nan else as_logged(value)  # MLflow stores a nan as 0


class Database:
    """A ledger in a database, for the analysis."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._tables = Tables(uri)

    def entries(self) -> list[Entry]:
        """Returns every run that this project wrote, of all kinds and outcomes, oldest first.

        Raises:
            InputError: if MLflow has never written to the database.
        """
        with reaching(self.uri):
            if not self._tables.exist:
                raise InputError(f"{mask(self.uri)}: not a database of MLflow's; name another with --tracking-uri")
            return oldest_first(read_entries(self._tables, tags_wanted=TRACED))

    def details(self, run_ids: Collection[str]) -> dict[str, Details]:
        """Returns the tags, params and last metric values by run id."""
        details = {run_id: Details() for run_id in run_ids}
        with reaching(self.uri):
            for run_id, name, text in self._tables.tags(run_ids):
                if name.startswith("l2t."):
                    details[run_id].tags[name.removeprefix("l2t.")] = text or ""
            for run_id, name, text in self._tables.params(run_ids):
                details[run_id].params[name] = text
            for run_id, name, value in self._tables.metrics(run_ids):
                details[run_id].metrics[name] = value
        return details

    def histories(self, run_ids: Collection[str], metric: str, steps: Collection[int] | None = None) -> History:
        """Returns the values of one metric at these steps, by default at all, as (run id, step, value), sorted."""
        with reaching(self.uri):
            return sorted(self._tables.history(run_ids, metric, steps))

    def artifact(self, entry: Entry, name: str) -> bytes | None:
        """Returns the content of a file that a run stored; None where the run has no such file."""
        place = urlparse(entry.artifact_uri)
        if place.scheme == "mlflow-artifacts":
            raise InputError(
                f"{mask(self.uri)}: was written through an MLflow server, which alone can read its files; "
                "give that server's address with --tracking-uri or MLFLOW_TRACKING_URI"
            )
        if place.scheme not in ("", "file"):
            return download(self.uri, entry, name)
        file = database_file(self.uri)
        moved = beside(file, entry.artifact_uri) if file else None
        with artifacts_of(entry, name):
            for folder in (
                moved,
                Path(unquote(place.path)),
            ):  # the copy's own first: others may write to the original's
                if folder is not None and (folder / name).is_file():
                    return (folder / name).read_bytes()
        return None


def select_entries(uri: str, metrics_wanted: Iterable[str] = METRICS) -> Iterator[Entry]:
    """Yields every run that this project wrote, in no order; none where MLflow has no tables yet."""
    with closing(Tables(uri)) as tables:
        if tables.exist:
            yield from read_entries(tables, metrics_wanted)


def is_ledger(uri: str) -> bool:
    """Whether MLflow has tables in this database."""
    with closing(Tables(uri)) as tables:
        return tables.exist


def deleted_experiment(uri: str, name: str) -> str:
    """The id of the experiment of this name if it was deleted in MLflow; else an empty text."""
    with closing(Tables(uri)) as tables:
        return tables.deleted_experiment(name) if tables.exist else ""


def read_entries(
    tables: Tables, metrics_wanted: Iterable[str] = (), tags_wanted: Iterable[str] = TAGS
) -> Iterator[Entry]:
    """Yields every run that this project wrote, in no order.

    Args:
        tables: of the database; they exist.
        metrics_wanted: names.
        tags_wanted: without their prefix; kind, key and outcome are always included.
    """
    rows = tables.runs()  # first, so that every run that has ended has all its values in the queries below
    tags = {row.run_id: {"kind": row.kind, "key": row.run_key} if row.run_key else {"kind": row.kind} for row in rows}
    metrics: dict[str, dict[str, float]] = {row.run_id: {} for row in rows}
    for run_id, name, text in tables.tags_named([f"l2t.{name}" for name in {*tags_wanted, "outcome"}]):
        if run_id in tags:
            tags[run_id][name.removeprefix("l2t.")] = text or ""
    for run_id, name, value in tables.metrics_named(metrics_wanted):
        if run_id in metrics and is_number(value):
            metrics[run_id][name] = value
    for row in rows:
        yield Entry(
            row.run_id,
            row.experiment,
            status_of(row.status, tags[row.run_id].get("outcome", "")),
            row.start_ms,
            tags[row.run_id],
            metrics[row.run_id],
            str(row.experiment_id),
            row.artifact_uri,
        )
