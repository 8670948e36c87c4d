"""MLflow's tables, read by SQL in a handful of queries.

Its own search loads every param, metric and tag of every run as objects (20,000 runs: 36 s), its client has no call for
the histories of many runs, and importing it takes seconds.
"""

import functools
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

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

        return sqlalchemy.create_engine(self._uri)

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
