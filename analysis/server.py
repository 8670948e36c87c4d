"""The ledger behind an MLflow server: its search paged, its histories asked for on several threads."""

import contextlib
import functools
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from analysis.ledger import TRACED, Details, History
from l2t_ray.entries import Entry, oldest_first, paged, read_entry, search_runs
from l2t_ray.errors import InputError
from l2t_ray.mlflow_client import connect
from l2t_ray.uri import mask, unavailable

THREADS = 8


class Server:
    """An MLflow server, read through its client."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._runs: dict[str, Any] = {}

    def entries(self) -> list[Entry]:
        """Every run that this project wrote.

        Returns:
            Runs of all kinds and outcomes, oldest first.
        """
        with self._reaching():
            names = {found.experiment_id: found.name for found in paged(self._client.search_experiments)}
            self._runs = {run.info.run_id: run for run in search_runs(self._client, names)}
        return oldest_first(read_entry(run, names, tags_wanted=TRACED) for run in self._runs.values())

    def details(self, run_ids: Collection[str]) -> dict[str, Details]:
        """Tags, params and last metric values, as `entries` has already read them.

        Args:
            run_ids: of MLflow.

        Returns:
            By run id.
        """
        found = {}
        for run_id in run_ids:
            data = self._runs[run_id].data
            tags = {name.removeprefix("l2t."): text for name, text in data.tags.items() if name.startswith("l2t.")}
            found[run_id] = Details(tags, dict(data.params), dict(data.metrics))
        return found

    def histories(self, run_ids: Collection[str], metric: str) -> History:
        """Every value of one metric; the client has no call for several runs, so several are asked at once.

        Args:
            run_ids: of MLflow.
            metric: its name.

        Returns:
            (run id, step, value), sorted.
        """

        def read(run_id: str) -> History:
            return [(run_id, point.step, point.value) for point in self._client.get_metric_history(run_id, metric)]

        with self._reaching(), ThreadPoolExecutor(THREADS) as pool:
            return sorted(point for points in pool.map(read, run_ids) for point in points)

    def artifact(self, entry: Entry, name: str) -> bytes | None:
        """A file that a run stored.

        Args:
            entry: the run.
            name: of the file.

        Returns:
            Its content, or None where the run has no such file.
        """
        return download(self.uri, entry, name)

    @functools.cached_property
    def _client(self) -> Any:
        return connect(self.uri)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        client = self._client
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            raise unavailable(client.tracking_uri, error) from None


def download(uri: str, entry: Entry, name: str) -> bytes | None:
    """A file that a run stored, wherever MLflow keeps its artifacts.

    Args:
        uri: of MLflow.
        entry: the run.
        name: of the file.

    Returns:
        Its content, or None where the run has no such file.
    """
    import tempfile

    within = str(PurePosixPath(name).parent)  # what lies deeper is not listed
    with artifacts_of(entry, name), tempfile.TemporaryDirectory() as folder:
        client = connect(uri)
        if name not in [item.path for item in client.list_artifacts(entry.run_id, None if within == "." else within)]:
            return None
        return Path(client.download_artifacts(entry.run_id, name, folder)).read_bytes()


@contextlib.contextmanager
def artifacts_of(entry: Entry, name: str) -> Iterator[None]:
    """Tells of a file that cannot be reached, whatever the store's library raises.

    Args:
        entry: the run.
        name: of the file.

    Yields:
        Nothing.

    Raises:
        InputError: with the run, the file and its address.
    """
    try:
        yield
    except Exception as error:
        first_line = (str(error).splitlines() or [""])[0]
        told = f"{type(error).__name__}: {mask(first_line)}".removesuffix(": ")
        raise InputError(
            f"run {entry.run_id}: {name} must be readable at {mask(entry.artifact_uri) or 'its address'}, got {told}; "
            "make that store reachable from here, with its library and credentials, or copy the folder there"
        ) from error
