"""The ledger in a database at hand: MLflow's tables, read by SQL in a handful of queries."""

import contextlib
import functools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from analysis.ledger import Details, Entry, History
from analysis.server import download
from l2t_ray.errors import InputError
from l2t_ray.uri import database_file, mask, unavailable

if TYPE_CHECKING:
    from sqlalchemy import Engine

IDS_A_QUERY = 10_000  # below SQLite's 32,766 and PostgreSQL's 65,535 variables


class Database:
    """MLflow's tables, read by SQL."""

    _RUNS = (
        "SELECT runs.run_uuid, runs.experiment_id, experiments.name, runs.status, runs.start_time, runs.artifact_uri,"
        " kind.value, ident.value FROM runs JOIN experiments ON experiments.experiment_id = runs.experiment_id"
        " JOIN tags kind ON kind.run_uuid = runs.run_uuid AND kind.key = 'l2t.kind'"
        " LEFT JOIN tags ident ON ident.run_uuid = runs.run_uuid AND ident.key = 'l2t.key'"
        " WHERE runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'"
    )

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def entries(self) -> list[Entry]:
        """Every run that this project wrote.

        Returns:
            Runs of all kinds and outcomes, oldest first.

        Raises:
            InputError: if MLflow has never written to the database.
        """
        import sqlalchemy

        with self._reaching():
            if not sqlalchemy.inspect(self._engine).has_table("latest_metrics"):
                raise InputError(f"{mask(self.uri)}: not a database of MLflow's; name another with --tracking-uri")
            found = [
                Entry(run_id, str(experiment_id), name, status, start_ms or 0, artifact_uri or "", kind, key or "")
                for run_id, experiment_id, name, status, start_ms, artifact_uri, kind, key in self._rows(self._RUNS)
            ]
        return sorted(found, key=lambda entry: (entry.start_ms, entry.run_id))

    def details(self, run_ids: Collection[str]) -> dict[str, Details]:
        """Tags, params and last metric values.

        Args:
            run_ids: of MLflow.

        Returns:
            By run id.
        """
        found = {run_id: Details() for run_id in run_ids}
        with self._reaching():
            for run_id, name, value in self._chunks("SELECT run_uuid, key, value FROM tags", run_ids):
                if name.startswith("l2t."):
                    found[run_id].tags[name.removeprefix("l2t.")] = value or ""
            for run_id, name, value in self._chunks("SELECT run_uuid, key, value FROM params", run_ids):
                found[run_id].params[name] = value
            query = "SELECT run_uuid, key, value, is_nan FROM latest_metrics"
            for run_id, name, value, is_nan in self._chunks(query, run_ids):
                found[run_id].metrics[name] = float("nan") if is_nan else value  # MLflow stores a nan as 0
        return found

    def histories(self, run_ids: Collection[str], metric: str) -> History:
        """Every value of one metric.

        Args:
            run_ids: of MLflow.
            metric: its name.

        Returns:
            (run id, step, value), sorted.
        """
        query = "SELECT run_uuid, step, value, is_nan FROM metrics"
        with self._reaching():
            rows = self._chunks(query, run_ids, " AND key = :metric", metric=metric)
            return sorted((run_id, step, float("nan") if is_nan else value) for run_id, step, value, is_nan in rows)

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
        stored = Path(unquote(place.path)) / name
        moved = self._moved(stored)
        for path in (stored, moved):
            if path is not None and path.is_file():
                return path.read_bytes()
        return None

    def _moved(self, stored: Path) -> Path | None:
        # a database that was copied elsewhere together with its mlartifacts folder
        file = database_file(self.uri)
        if file is None or "mlartifacts" not in stored.parts:
            return None
        return file.resolve().parent.joinpath(*stored.parts[stored.parts.index("mlartifacts") :])

    @functools.cached_property
    def _engine(self) -> "Engine":
        import sqlalchemy

        return sqlalchemy.create_engine(self.uri)

    def _rows(self, query: str, **values: Any) -> Sequence[Any]:
        from sqlalchemy import bindparam, text

        statement = text(query)
        if "ids" in values:
            statement = statement.bindparams(bindparam("ids", expanding=True))
        with self._engine.connect() as connection:
            return connection.execute(statement, values).all()

    def _chunks(self, query: str, run_ids: Collection[str], further: str = "", **values: Any) -> Iterator[Any]:
        ids = sorted(run_ids)
        for start in range(0, len(ids), IDS_A_QUERY):
            chunk = ids[start : start + IDS_A_QUERY]
            yield from self._rows(f"{query} WHERE run_uuid IN :ids{further}", ids=chunk, **values)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, ImportError) as error:
            raise unavailable(self.uri, error) from None
