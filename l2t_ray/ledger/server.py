"""A ledger behind an MLflow server: reads its search page by page, and its histories on several threads."""

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from l2t_ray.errors import InputError, mask
from l2t_ray.ledger.address import reaching
from l2t_ray.ledger.client import connect
from l2t_ray.ledger.entries import (
    IDENTITY,
    METRICS,
    RUNS_A_PAGE,
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

THREADS = 8


class Server:
    """An MLflow server, read through its client."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._runs: dict[str, Any] = {}

    def entries(self) -> list[Entry]:
        """Returns every run that this project wrote, of all kinds and outcomes, oldest first."""
        with reaching(self.uri):
            names = {one.experiment_id: one.name for one in paged(self._client.search_experiments)}
            self._runs = {run.info.run_id: run for run in search_runs(self._client, names)}
        return oldest_first(read_entry(run, names, tags_wanted=TRACED) for run in self._runs.values())

    def details(self, run_ids: Collection[str]) -> dict[str, Details]:
        """Returns the tags, params and last metric values by run id, which `entries` has already read."""
        details = {}
        for run_id in run_ids:
            data = self._runs[run_id].data
            tags = {name.removeprefix("l2t."): text for name, text in data.tags.items() if name.startswith("l2t.")}
            metrics = {name: as_logged(value) for name, value in data.metrics.items()}
            details[run_id] = Details(tags, dict(data.params), metrics)
        return details

    def histories(self, run_ids: Collection[str], metric: str, steps: Collection[int] | None = None) -> History:
        """Returns the values of one metric at these steps, by default at all, as (run id, step, value), sorted."""

        def read(run_id: str) -> History:
            points = self._client.get_metric_history(run_id, metric)
            return [
                (run_id, point.step, as_logged(point.value)) for point in points if steps is None or point.step in steps
            ]

        with reaching(self.uri), ThreadPoolExecutor(THREADS) as pool:
            return sorted(point for points in pool.map(read, run_ids) for point in points)

    def artifact(self, entry: Entry, name: str) -> bytes | None:
        """Returns the content of a file that a run stored; None where the run has no such file."""
        return download(self.uri, entry, name)

    @functools.cached_property
    def _client(self) -> Any:
        return connect(self.uri)


def download(uri: str, entry: Entry, name: str) -> bytes | None:
    """Returns the content of a run's file, wherever MLflow keeps it; None where the run has no such file."""
    import tempfile

    within = str(PurePosixPath(name).parent)  # MLflow lists one folder at a time
    with artifacts_of(entry, name), tempfile.TemporaryDirectory() as folder:
        client = connect(uri)
        if name not in [item.path for item in client.list_artifacts(entry.run_id, None if within == "." else within)]:
            return None
        return Path(client.download_artifacts(entry.run_id, name, folder)).read_bytes()


@contextlib.contextmanager
def artifacts_of(entry: Entry, name: str) -> Iterator[None]:
    """Reports a file that cannot be reached, whatever the store's library raises.

    Args:
        entry: the run.
        name: of the file.

    Raises:
        InputError: with the run, the file and its address.
    """
    try:
        yield
    except Exception as error:
        first_line = (str(error).splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {mask(first_line)}".removesuffix(": ")
        raise InputError(
            f"run {entry.run_id}: {name} must be readable at {mask(entry.artifact_uri) or 'its address'}, "
            f"got {reason}; make that store reachable from here, with its library and credentials, "
            "or copy the folder there"
        ) from error


def paged(search: Callable[..., Any]) -> Iterator[Any]:
    """Yields everything that one of MLflow's searches finds; `search` takes `max_results` and `page_token`."""
    token = None
    while True:
        page = search(max_results=RUNS_A_PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return


def search_runs(client: Any, experiment_ids: Collection[str]) -> Iterator[Any]:
    """Yields MLflow's run of every run that this project wrote, in no order."""
    yield from paged(functools.partial(client.search_runs, [*experiment_ids], "tags.`l2t.kind` LIKE '%'"))


def search_entries(
    client: Any, experiments: Mapping[str, str], metrics_wanted: Iterable[str] = METRICS
) -> Iterator[Entry]:
    """Yields every run that this project wrote, in no order; `experiments` maps id to name."""
    for run in search_runs(client, experiments):
        yield read_entry(run, experiments, metrics_wanted)


def read_entry(
    run: Any,
    experiments: Mapping[str, str],
    metrics_wanted: Iterable[str] = (),
    tags_wanted: Iterable[str] = TAGS,
) -> Entry:
    """Returns the entry of one of MLflow's runs.

    Args:
        run: MLflow's.
        experiments: id to name.
        metrics_wanted: names.
        tags_wanted: without their prefix; kind, key and outcome are always included.
    """
    tags, metrics, info = run.data.tags, run.data.metrics, run.info
    return Entry(
        info.run_id,
        experiments[info.experiment_id],
        status_of(info.status, tags.get("l2t.outcome", "")),
        info.start_time or 0,
        {name: tags[f"l2t.{name}"] for name in (*IDENTITY, *tags_wanted) if f"l2t.{name}" in tags},
        {name: metrics[name] for name in metrics_wanted if is_number(metrics.get(name))},
        info.experiment_id,
        info.artifact_uri or "",
    )
