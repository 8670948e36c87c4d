"""The ledger in a database at hand, and the files beside it."""

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

from analysis.ledger import TRACED, Details, History
from analysis.server import artifacts_of, download
from l2t_ray.entries import Entry, oldest_first, read_entries
from l2t_ray.errors import InputError
from l2t_ray.mlflow_tables import Tables
from l2t_ray.moved import beside
from l2t_ray.uri import database_file, mask, unavailable


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
