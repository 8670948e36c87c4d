"""A ledger in a database: MLflow's tables, read by SQL in a handful of queries, and the artifacts beside it.

MLflow's own search loads every param, metric and tag of every run as objects (20,000 runs: 36 s), its client has no
call for the histories of many runs, and importing it takes seconds.
"""

import contextlib
import functools
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlparse

from l2t_ray.errors import InputError, mask
from l2t_ray.ledger.address import database_file, unavailable
from l2t_ray.ledger.client import beside
from l2t_ray.ledger.entries import METRICS, TAGS, TRACED, Details, Entry, History, is_number, oldest_first
from l2t_ray.ledger.server import artifacts_of, download

if TYPE_CHECKING:
    from sqlalchemy import Engine

IDS_A_QUERY = 10_000  # below SQLite's 32,766 and PostgreSQL's 65,535 variables
FROM_OURS = (
    " FROM runs JOIN experiments ON experiments.experiment_id = runs.experiment_id"
    " JOIN tags kind ON kind.run_uuid = runs.run_uuid AND kind.key = 'l2t.kind'"
)
ACTIVE = " WHERE runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'"


class Row(NamedTuple):
    """One run that this project wrote."""

    run_id: str
    experiment_id: str
    experiment: str
    status: str
    start_ms: int
    artifact_uri: str
    kind: str
    key: str


class Tables:
    """A database of MLflow's.

    Args:
        uri: of the database; it is opened by the first query.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri

    @property
    def exist(self) -> bool:
        """Whether MLflow has been in this database yet."""
        import sqlalchemy

        return sqlalchemy.inspect(self._engine).has_table("latest_metrics")

    def runs(self) -> Iterator[Row]:
        """Every run that this project wrote.

        Yields:
            Rows in no order.
        """
        columns = "runs.run_uuid, runs.experiment_id, experiments.name, runs.status, runs.start_time, runs.artifact_uri"
        ident = " LEFT JOIN tags ident ON ident.run_uuid = runs.run_uuid AND ident.key = 'l2t.key'"
        query = f"SELECT {columns}, kind.value, ident.value{FROM_OURS}{ident}{ACTIVE}"
        for run_id, experiment_id, name, status, start_ms, artifact_uri, kind, key in self._rows(query):
            yield Row(run_id, str(experiment_id), name, status, start_ms or 0, artifact_uri or "", kind, key or "")

    def tags_named(self, names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
        """These tags of every run that this project wrote.

        Args:
            names: with their prefix.

        Returns:
            Run id, name and text of each.
        """
        return iter(self._named("tags", "item.value", names))

    def metrics_named(self, names: Iterable[str]) -> Iterator[tuple[str, str, float]]:
        """The last values of these metrics of every run that this project wrote.

        Args:
            names: of metrics.

        Returns:
            Run id, name and value of each.
        """
        return _read(self._named("latest_metrics", "item.value, item.is_nan", names))

    def tags(self, run_ids: Collection[str]) -> Iterator[tuple[str, str, str]]:
        """All tags of these runs.

        Args:
            run_ids: of MLflow.

        Returns:
            Run id, name and text of each.
        """
        return self._chunks("SELECT run_uuid, key, value FROM tags", run_ids)

    def params(self, run_ids: Collection[str]) -> Iterator[tuple[str, str, str]]:
        """All params of these runs.

        Args:
            run_ids: of MLflow.

        Returns:
            Run id, name and text of each.
        """
        return self._chunks("SELECT run_uuid, key, value FROM params", run_ids)

    def metrics(self, run_ids: Collection[str]) -> Iterator[tuple[str, str, float]]:
        """The last values of all metrics of these runs.

        Args:
            run_ids: of MLflow.

        Returns:
            Run id, name and value of each.
        """
        return _read(self._chunks("SELECT run_uuid, key, value, is_nan FROM latest_metrics", run_ids))

    def history(self, run_ids: Collection[str], metric: str) -> Iterator[tuple[str, int, float]]:
        """Every value of one metric of these runs.

        Args:
            run_ids: of MLflow.
            metric: its name.

        Returns:
            Run id, step and value of each, in no order.
        """
        query = "SELECT run_uuid, step, value, is_nan FROM metrics"
        return _read(self._chunks(query, run_ids, " AND key = :metric", metric=metric))

    def close(self) -> None:
        """Gives the connections back."""
        self._engine.dispose()

    @functools.cached_property
    def _engine(self) -> "Engine":
        import sqlalchemy

        patient = {"timeout": 60} if self._uri.startswith("sqlite") else {}  # a writer on a busy disk holds it
        return sqlalchemy.create_engine(self._uri, connect_args=patient)

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
        yield run_id, name_or_step, math.nan if is_nan else value  # MLflow stores a nan as 0


class Database:
    """MLflow's tables, read by SQL."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._tables = Tables(uri)

    def entries(self) -> list[Entry]:
        """Every run that this project wrote.

        Returns:
            Runs of all kinds and outcomes, oldest first.

        Raises:
            InputError: if MLflow has never written to the database.
        """
        with self._reaching():
            if not self._tables.exist:
                raise InputError(f"{mask(self.uri)}: not a database of MLflow's; name another with --tracking-uri")
            return oldest_first(read_entries(self._tables, tags_wanted=TRACED))

    def details(self, run_ids: Collection[str]) -> dict[str, Details]:
        """Tags, params and last metric values.

        Args:
            run_ids: of MLflow.

        Returns:
            By run id.
        """
        found = {run_id: Details() for run_id in run_ids}
        with self._reaching():
            for run_id, name, text in self._tables.tags(run_ids):
                if name.startswith("l2t."):
                    found[run_id].tags[name.removeprefix("l2t.")] = text or ""
            for run_id, name, text in self._tables.params(run_ids):
                found[run_id].params[name] = text
            for run_id, name, value in self._tables.metrics(run_ids):
                found[run_id].metrics[name] = value
        return found

    def histories(self, run_ids: Collection[str], metric: str) -> History:
        """Every value of one metric.

        Args:
            run_ids: of MLflow.
            metric: its name.

        Returns:
            (run id, step, value), sorted.
        """
        with self._reaching():
            return sorted(self._tables.history(run_ids, metric))

    def artifact(self, entry: Entry, name: str) -> bytes | None:
        """A file that a run stored.

        Args:
            entry: the run.
            name: of the file.

        Returns:
            Its content, or None where the run has no such file.
        """
        place = urlparse(entry.artifact_uri)
        if place.scheme not in ("", "file"):
            return download(self.uri, entry, name)
        file = database_file(self.uri)
        moved = beside(file, entry.artifact_uri) if file else None
        with artifacts_of(entry, name):
            for folder in (moved, Path(unquote(place.path))):  # a copy's own first: where it is from, others may write
                if folder is not None and (folder / name).is_file():
                    return (folder / name).read_bytes()
        return None

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, ImportError) as error:
            raise unavailable(self.uri, error) from None


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
