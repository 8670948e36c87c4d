"""The ledger in MLflow: which runs are finished, with which result.

One process writes runs, through `MlflowClient` with explicit ids. A server is read by MLflow's own search; a database
is read by SQL, because that search loads every param, metric and tag of every run.
Reading, writing, the lease and the manifest share a client and an experiment, so they are one class.
"""

import base64
import contextlib
import functools
import json
import logging
import math
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l2t_ray.errors import InputError, LedgerUnavailableError, mask
from l2t_ray.files import HOME
from l2t_ray.ledger import view
from l2t_ray.ledger.address import SERVER_SCHEMES, database_file, is_database, reaching, runs_page, tracking_uri
from l2t_ray.ledger.client import FOLDER, connect
from l2t_ray.ledger.entries import METRICS, Entry, oldest_first, status_of
from l2t_ray.ledger.lease import Lease
from l2t_ray.ledger.limits import NAME_CHARACTERS, PARAM_CHARACTERS, WHOLE, cut, cut_tag, safe_name, whole_texts
from l2t_ray.ledger.manifest import content_of
from l2t_ray.ledger.reader import open_ledger
from l2t_ray.ledger.server import paged, search_entries
from l2t_ray.ledger.spool import Ended, Record, Spool
from l2t_ray.ledger.sql import deleted_experiment, select_entries
from l2t_ray.ledger.view import experiment_tags, run_tags
from l2t_ray.run import AnyRun
from l2t_ray.training.trace_file import ARTIFACT as TRACES
from l2t_ray.training.trace_file import merge

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

METRICS_A_CALL, PARAMS_A_CALL = 1000, 100  # MLflow's limits
# MLflow's refusals of a value; any other error may pass when the write is tried again
REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS"})

logger = logging.getLogger(__name__)


class Ledger:
    """The record in MLflow of what has been trained, with a spool in front of it.

    Attributes:
        sweep: the experiment of new runs.
        uri: MLflow's address; it may hold a password, so that only `shown_uri` is ever printed.
        spool: results that MLflow does not have yet.
    """

    def __init__(self, sweep: str, uri: str | None = None, *, folder: Path = Path()) -> None:
        self.sweep = sweep
        self.folder = folder.resolve()
        self.uri = tracking_uri(uri, folder)
        self.spool = Spool(self.folder / HOME / sweep / "spool")
        self._attempted: set[str] = set()  # keys of which MLflow may already hold a part
        self._lease: Lease | None = None

    @property
    def shown_uri(self) -> str:
        """The URI without its password."""
        return mask(self.uri)

    @property
    def page(self) -> str:
        """The address of the sweep's table of runs; of a database, the command that opens it."""
        if not self.uri.startswith(SERVER_SCHEMES):
            return f"l2t ui {self.sweep}"
        return runs_page(self.shown_uri, self._experiment.experiment_id)

    def entries(self, also: Iterable[str] = ()) -> list[Entry]:
        """Returns every run of every experiment that this project wrote, oldest first.

        Args:
            also: names of further metrics.

        Returns:
            Runs of all kinds and outcomes; none where the database does not exist yet.

        Raises:
            LedgerUnavailableError: if the ledger does not answer.
        """
        names = [*dict.fromkeys((*METRICS, *also))]
        with reaching(self.uri):
            file = database_file(self.uri)
            if file is not None and not file.exists():
                return []
            if is_database(self.uri):
                return oldest_first(select_entries(self.uri, names))
            experiments = {one.experiment_id: one.name for one in paged(self._client.search_experiments)}
            return oldest_first(search_entries(self._client, experiments, names))

    def check(self) -> None:
        """Looks at the sweep's experiment and creates nothing.

        Raises:
            InputError: if it was deleted in MLflow: its finished runs would be trained again.
            LedgerUnavailableError: if the ledger does not answer.
        """
        with reaching(self.uri):
            file = database_file(self.uri)
            if file is not None and not file.exists():
                return
            if is_database(self.uri):
                deleted = deleted_experiment(self.uri, self.sweep)
            else:
                experiment = self._client.get_experiment_by_name(self.sweep)
                deleted = experiment.experiment_id if experiment and experiment.lifecycle_stage == "deleted" else ""
        if deleted:
            raise InputError(
                f"{self.shown_uri}: experiment {self.sweep!r} was deleted in MLflow; restore it with "
                f"`mlflow experiments restore --experiment-id {deleted}`, or rename the sweep"
            )

    def open(self) -> None:
        """Creates the database, its tables and the experiment if they are missing; raises as `check` does."""
        self.check()
        _ = self._experiment

    @contextlib.contextmanager
    def writing(self, on_lost: Callable[[str], None] = lambda reason: None) -> Iterator[Lease]:
        """Makes this process the experiment's only writer, also among hosts; creates what `open` creates.

        Args:
            on_lost: called with the reason, in another thread, when another process has taken over.

        Yields:
            The lease.

        Raises:
            InputError: if another process is the writer, or the experiment was deleted.
            LedgerUnavailableError: if the ledger does not answer.
        """
        self.open()
        with contextlib.ExitStack() as stack:
            with reaching(self.uri):
                lease = Lease(self._client, self._experiment.experiment_id, self.sweep, on_lost=on_lost)
                self._lease = stack.enter_context(lease)
            try:
                self._check_file()
                yield lease
            finally:
                self._lease = None

    def settle(self) -> int:
        """Ends the runs that a killed writer left RUNNING and whose results are not in the spool here.

        Only the experiment's one writer may call it. A result that turns up later in another host's spool is written.

        Returns:
            How many there were; they are trained again.

        Raises:
            LedgerUnavailableError: if the ledger does not answer.
        """
        waiting = {path.stem for path in self.spool.paths()}
        abandoned = [
            entry
            for entry in self.entries()
            if entry.kind == "run" and entry.status == "RUNNING" and entry.experiment == self.sweep
            if entry.key not in waiting
        ]
        with reaching(self.uri):
            for entry in abandoned:
                self._client.set_tag(entry.run_id, "l2t.outcome", "lost")
                self._client.set_tag(entry.run_id, "l2t.reason", "its launch was killed while it wrote this run")
                self._client.set_terminated(entry.run_id, "KILLED")
        return len(abandoned)

    def record(
        self, run: AnyRun, result: Ended, cell: str, *, data_sha: str = "", tags: Mapping[str, str] | None = None
    ) -> Record:
        """Spools how a run ended; `flush` writes it to MLflow, from this or another thread.

        Args:
            run: the run.
            result: how it ended.
            cell: the cell's name in this sweep.
            data_sha: digest of its images, where the settings do not hold it.
            tags: further ones, without the prefix `l2t.` (device, shape).

        Returns:
            What was spooled.
        """
        record = Record.of(run, result, self.sweep, cell, data_sha=data_sha, tags=tags or {})
        self.spool.put(record)
        return record

    def flush(
        self, on_written: Callable[[str], None] = lambda key: None, records: Iterable[Record] | None = None
    ) -> int:
        """Writes every spooled result into MLflow, each once, however often this is called or was interrupted.

        Args:
            on_written: called with the key of every result that MLflow now holds.
            records: of the spool; by default all that are there.

        Returns:
            How many remain because MLflow refuses them; the reason is logged.

        Raises:
            LedgerUnavailableError: if the ledger does not answer, or another process has become its writer; the results
                stay in the spool.
        """
        if self._lease is not None:
            with reaching(self.uri):
                self._lease.check()
        for record in self.spool.records() if records is None else records:
            with reaching(self.uri):
                try:
                    self._write(record)
                    self._check_file()
                except Exception as error:
                    if getattr(error, "error_code", "") not in REFUSALS:
                        raise
                    logger.error("%s: MLflow refuses the result: %s", self.spool.folder / record.key, mask(str(error)))
                    continue
            self.spool.remove(record)
            on_written(record.key)
        return len(self.spool)

    def _check_file(self) -> None:
        """Refuses to write where MLflow has a SQLite file open that has lost its name: that ends with the process."""
        file = database_file(self.uri)
        if file is None or self._lease is None:
            return
        with reaching(self.uri):
            is_there = self._lease.is_in(file)
        if not is_there:
            rule = "the ledger's file must stay while a process writes to it, but it was replaced or removed"
            remedy = (
                "launch again, in a new process: it writes what waits, and trains what the file that is there lacks"
            )
            raise LedgerUnavailableError(f"{self.shown_uri}: {rule} (a backup that was put back?); {remedy}")

    def _holds(self, entry: Entry, content: str) -> bool:
        reader, _ = open_ledger(self.uri)
        with reaching(self.uri):
            try:
                return reader.artifact(entry, "manifest.json") == content.encode()
            except InputError:  # written through a server, which alone can read it
                return True

    def write_manifest(self, sweep: Any, entries: Iterable[Entry]) -> None:
        """Lists a sweep's runs in the experiment's manifest run, so that a report knows which are missing.

        Args:
            sweep: the whole `l2t_ray.sweepfile.read.Sweep`.
            entries: the ledger's, which show whether the same list is already there.
        """
        content, digest = content_of(sweep)
        own = [entry for entry in entries if entry.kind == "manifest" and entry.experiment == self.sweep]
        newest = own[-1] if own else None  # the one that reports read
        if newest and newest.tags.get("manifest_sha") == digest and self._holds(newest, content):
            return
        run_id = newest.run_id if newest else ""
        self.open()
        with reaching(self.uri):
            if not run_id:
                tags = {"l2t.kind": "manifest", "l2t.sweep": self.sweep}
                created = self._client.create_run(self._experiment.experiment_id, tags=tags, run_name="manifest")
                run_id = created.info.run_id
            self._client.log_text(run_id, content, "manifest.json")
            self._client.set_tag(run_id, "l2t.manifest_sha", digest)
            if factors := getattr(sweep, "factors", None):  # of a trainer of the user's own
                varying = [name for part in (factors.method, factors.data, factors.axis) for name in part.split(", ")]
                settings = {name.removeprefix("settings.") for run in sweep.runs.values() for name in run.settings}
                shown = view.state_of([name for name in varying if name in settings], safe_name(sweep.metric.name))
                self._client.set_experiment_tag(self._experiment.experiment_id, view.TAG, shown)
            self._client.set_terminated(run_id, "FINISHED")

    def write_launch(self, content: Mapping[str, Any]) -> None:
        """Stores a launch's predicted and actual duration, and how busy its devices were.

        Args:
            content: plain values with `started_ms`; the manifest run gets it as `launches/STARTED_MS.json`, and a tag
                `l2t.launch.STARTED_MS` with that name.
        """
        with reaching(self.uri):
            query = "tags.`l2t.kind` = 'manifest'"
            manifests = self._client.search_runs([self._experiment.experiment_id], query, order_by=["start_time DESC"])
            if manifests:
                name, run_id = f"launches/{content['started_ms']}.json", manifests[0].info.run_id
                self._client.log_text(run_id, json.dumps(content), name)
                self._client.set_tag(run_id, f"l2t.launch.{content['started_ms']}", name)

    def _write(self, record: Record) -> None:
        from mlflow.entities import Metric, Param

        client, run_id = self._client, ""
        is_new = record.key in self.spool.own and record.key not in self._attempted
        if not is_new or "trace" in record.tags:
            order = ["attributes.start_time ASC"]
            experiment_ids = [one.experiment_id for one in paged(client.search_experiments)]
            known = client.search_runs(experiment_ids, f"tags.`l2t.key` = '{record.key}'", order_by=order)
            begun = [run.info.run_id for run in known if run.info.start_time == record.start_ms]
            told = "l2t.outcome"
            whole = [run for run in known if status_of(run.info.status, run.data.tags.get(told, "")) == "FINISHED"]
            if whole and record.outcome == "finished":
                self._add_trace(whole[0], record)
                for double in set(begun) - {run.info.run_id for run in whole}:  # another sweep has finished this run
                    client.delete_run(double)
                return
            if begun:
                run_id = begun[0]
                for name, text in (("outcome", record.outcome), ("reason", record.tags["reason"])):
                    client.set_tag(run_id, f"l2t.{name}", cut_tag(name, text))  # `settle` may have called it lost
        self._attempted.add(record.key)
        if not run_id:
            tags = {
                "kind": record.kind,
                "key": record.key,
                "sweep": record.sweep,
                "outcome": record.outcome,
                **record.tags,
            }
            created = client.create_run(
                self._experiment.experiment_id,
                start_time=record.start_ms,
                tags={f"l2t.{name}": cut_tag(name, value) for name, value in tags.items()}
                | {name: cut_tag("reason", text) for name, text in run_tags(record.outcome, record.tags).items()},
                run_name=cut(record.name, NAME_CHARACTERS),
            )
            run_id = created.info.run_id
        series = {**record.metrics}
        last = max((epoch for points in series.values() for epoch, _ in points), default=0)
        series.update(wall_s=[(last, record.wall_s)], peak_bytes=[(last, float(record.peak_bytes))])
        metrics = [
            Metric(safe_name(name), value, record.end_ms, epoch)
            for name, points in series.items()
            for epoch, value in points
        ]
        params = [Param(safe_name(name), cut(value, PARAM_CHARACTERS)) for name, value in record.params.items()]
        for start in range(0, max(len(params), 1), PARAMS_A_CALL):
            first = metrics[:METRICS_A_CALL] if start == 0 else []
            client.log_batch(run_id, metrics=first, params=params[start : start + PARAMS_A_CALL])
        for start in range(METRICS_A_CALL, len(metrics), METRICS_A_CALL):
            client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_CALL])
        files = {name: base64.b64decode(content) for name, content in record.artifacts.items()}
        if long := whole_texts(record.params, record.tags):
            files[WHOLE] = long.encode()
        self._log_files(run_id, files)
        client.set_terminated(run_id, "FINISHED" if record.outcome == "finished" else "FAILED", end_time=record.end_ms)

    def _add_trace(self, run: Any, record: Record) -> None:
        """Adds a repeated training's files to the run that holds the result, its trace merged with the earlier one."""
        known = run.data.tags.get("l2t.trace", "").split()
        if not record.artifacts or run.info.start_time == record.start_ms:
            return
        files = {name: base64.b64decode(content) for name, content in record.artifacts.items()}
        run_id = run.info.run_id
        if TRACES in files and TRACES in [item.path for item in self._client.list_artifacts(run_id)]:
            with tempfile.TemporaryDirectory() as folder:
                earlier = Path(self._client.download_artifacts(run_id, TRACES, folder)).read_bytes()
            files[TRACES] = merge(earlier, files[TRACES])
        self._log_files(run_id, files)
        ended = {name: points[-1][1] for name, points in record.metrics.items() if points}
        there = run.data.metrics
        same = all(there[name] == value for name, value in ended.items() if name in there)
        result = "the same metrics" if same else f"test accuracy {ended.get('test_accuracy_percent', math.nan):.2f} %"
        self._client.set_tag(run_id, "l2t.trace_of", f"a repeated training with {result}")
        asked = {*known, *record.tags["trace"].split()}
        self._client.set_tag(
            run_id, "l2t.trace", " ".join(sorted(asked))
        )  # last: this tag says that the trace is complete

    def _log_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder) / name
                path.write_bytes(content)
                self._client.log_artifact(run_id, str(path))

    @functools.cached_property
    def _client(self) -> "MlflowClient":
        return connect(self.uri, writing=True)

    @functools.cached_property
    def _experiment(self) -> Any:
        with reaching(self.uri):
            experiment = self._client.get_experiment_by_name(self.sweep)
            if experiment is None:
                location = None
                if file := database_file(self.uri):
                    with contextlib.closing(sqlite3.connect(file, timeout=60)) as connection:
                        connection.execute(
                            "PRAGMA journal_mode=WAL"
                        )  # reports can read while a sweep writes; the file keeps it
                    location = (file.resolve().parent / FOLDER / self.sweep).as_uri()
                created = self._client.create_experiment(self.sweep, location, tags=experiment_tags(self.sweep))
                experiment = self._client.get_experiment(created)
            elif view.TAG not in experiment.tags:  # of an earlier version
                self._client.set_experiment_tag(
                    experiment.experiment_id, view.TAG, experiment_tags(self.sweep)[view.TAG]
                )
            return experiment
