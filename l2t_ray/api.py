"""The Python API: a sweep that plans and runs itself, a training in this process, and the table of results."""

import argparse
import contextlib
import io
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, overload

from l2t_ray.config import Run, reads_source, weights_files
from l2t_ray.errors import InputError, suggest
from l2t_ray.sweepfile import read

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from l2t_ray.data.load import DataSet
    from l2t_ray.launch.placement.plan import Plan
    from l2t_ray.launch.summary import Summary
    from l2t_ray.models import Backbone
    from l2t_ray.training.pack import Outcome

Backend = Literal["ray", "inline", "slurm"]
_RUNNING = threading.Lock()  # held while a sweep runs in this process, whose streams and modules are one


@dataclass(frozen=True)
class Sweep(read.Sweep):
    """A sweep file, read; `plan` and `run` do what `l2t plan` and `l2t run` do."""

    overrides: tuple[str, ...] = ()  # as it was read
    where: tuple[str, ...] = ()
    folder: Path = field(default_factory=Path.cwd)  # where it was read: its paths and its ledger are there

    def plan(
        self, fleet: str | None = None, *, price_per_hour: float | None = None, backend: Backend = "ray"
    ) -> "Plan":
        """Returns what a launch would train, for how long and at what price; starts nothing.

        Args:
            fleet: devices such as `h200:8`; this machine's by default.
            price_per_hour: of all devices together.
            backend: what trains: Ray, this process, or Slurm.

        Raises:
            InputError: if there is no such fleet or backend, or the working folder is another one than that in which
                the file was read.
        """
        from l2t_ray.launch.backlog import State
        from l2t_ray.launch.preparation import plan_launch
        from l2t_ray.ledger.ledger import Ledger

        self._check(backend)
        price = self.execution.price_per_hour if price_per_hour is None else price_per_hour
        priced = replace(self, execution=self.execution.model_copy(update={"price_per_hour": price}))
        state = State.read(priced, Ledger(self.name), retry_failed=False)
        return plan_launch(state, fleet=fleet, backend=backend)[0]

    def run(
        self,
        *,
        address: str | None = None,
        download: bool = True,
        retry_failed: bool = False,
        probe: bool = True,
        backend: Backend = "ray",
        page: Path | str | None = None,
    ) -> "Summary":
        """Trains what the sweep wants and the ledger lacks; progress goes to stderr.

        Args:
            address: of a running Ray cluster; this machine by default.
            download: whether data sets and published weights may be fetched.
            retry_failed: trains failed and diverged runs again.
            probe: whether shapes are measured first.
            backend: what trains: Ray, this process, or Slurm.
            page: the file of a page that shows the progress and reads itself again; None for none.

        Returns:
            Every cell's counts and mean accuracy, and the failures; a file with a search gives those of its trials.

        Raises:
            InputError: with a line for every problem, before anything is written; also while another sweep runs in this
                process, and where the working folder is another one than that in which the file was read.
        """
        from l2t_ray.launch.command import run_sweep
        from l2t_ray.launch.summary import summarize
        from l2t_ray.ledger.ledger import Ledger
        from l2t_ray.ledger.limits import safe_name

        self._check(backend)
        arguments = argparse.Namespace(
            file=self.path, set=[*self.overrides], where=[*self.where], address=address, no_download=not download,
            retry_failed=retry_failed, no_probe=not probe, plan=False, status=False, check=False, fleet=None,
            price_per_hour=None, json=False, backend=backend, page=page and str(page),
        )  # fmt: skip
        with _alone(self.name), contextlib.redirect_stdout(io.StringIO()):  # the summary is returned
            if self.search:
                from l2t_ray.search.command import run_search

                run_search(self, arguments)
            else:
                run_sweep(self, arguments)
        found = read.read_sweep(self.path, overrides=self.overrides, where=self.where)  # sources are trained now
        entries = Ledger(found.name).entries([safe_name(found.metric.name)])
        return summarize(found.name, found.runs, found.cells, entries, found.metric)

    def _check(self, backend: str) -> None:
        from l2t_ray.launch.options import BACKENDS

        if backend not in BACKENDS:
            rule = f"backend must be one of {', '.join(BACKENDS)}"
            raise InputError(f"{rule}, got {backend!r}; {suggest(backend, BACKENDS)}")
        if (here := Path.cwd()) != self.folder:
            rule = f"{self.path}: must be planned and run in the folder in which it was read, {self.folder}"
            raise InputError(f"{rule}, got {here}; go back there, or read the file here")


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    if not _RUNNING.acquire(blocking=False):
        rule = f"{name}: must be the only sweep that runs in this process, got another one that is running"
        raise InputError(f"{rule}; wait until it has ended, or start another process")
    try:
        yield
    finally:
        _RUNNING.release()


def read_sweep(path: Path | str, *, overrides: Sequence[str] = (), where: Sequence[str] = ()) -> Sweep:
    """Reads a sweep file.

    Args:
        path: of the YAML file; paths inside count from the working folder.
        overrides: `dotted.key=VALUE`, as `--set`.
        where: `KEY=VALUE`, as `--where`.

    Returns:
        The sweep, its settings resolved.

    Raises:
        InputError: with a line for every problem of the file.
    """
    found = read.read_sweep(Path(path), overrides=overrides, where=where)
    known = {field.name: getattr(found, field.name) for field in fields(found)}
    return Sweep(**known, overrides=tuple(overrides), where=tuple(where))


@overload
def train(runs: Run, data: "DataSet | None" = None, source: "Backbone | None" = None, **more: Any) -> "Outcome": ...
@overload
def train(
    runs: Sequence[Run], data: "DataSet | None" = None, source: "Backbone | None" = None, **more: Any
) -> "list[Outcome]": ...
def train(
    runs: Run | Sequence[Run],
    data: "DataSet | None" = None,
    source: "Backbone | None" = None,
    *,
    device: "torch.device | None" = None,
    data_dir: Path | str = "data",
    download: bool = True,
    **more: Any,
) -> "Outcome | list[Outcome]":
    """Trains one run, or several of equal shape together, in this process, without Ray and MLflow.

    Args:
        runs: the run, or the runs of one pack.
        data: their images; loaded from `data_dir` by default.
        source: their frozen source network; read from `source.weights` by default.
        device: where to train; a card by default, if there is one.
        data_dir: for downloads and caches.
        download: whether a data set and published weights may be fetched.
        **more: `states` and `on_epoch` of `l2t_ray.training.pack.train`.

    Returns:
        The run's outcome, or a list of them.

    Raises:
        InputError: if images or weights are wrong or missing.
    """
    import torch

    from l2t_ray.data.fetch import fetch
    from l2t_ray.data.load import load_data
    from l2t_ray.models import load_source
    from l2t_ray.published import weights_at
    from l2t_ray.training import pack

    several = [runs] if isinstance(runs, Run) else [*runs]
    first = several[0]
    if data is None:
        data = load_data(first.data, Path(data_dir), download=download)
    for path in weights_files(first):
        if (item := weights_at(path)) and (source is None or path != first.source.file):
            fetch(item, Path(path), download=download)
    if source is None and reads_source(first):
        source = load_source(first.source, first.data.image_size)
    chosen = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    outcomes = pack.train(several, data, source, device=chosen, **more)
    return outcomes[0] if isinstance(runs, Run) else outcomes


def results(*sweeps: str, uri: str | None = None, metric: str | None = None) -> "pd.DataFrame":
    """Returns the finished runs of sweeps as a table: a row a run, with settings and last metrics.

    Args:
        *sweeps: names; none means every sweep of the ledger.
        uri: of MLflow; by default MLFLOW_TRACKING_URI, then `mlflow.db` in the working folder.
        metric: whose last value every row has; by default the sweeps' own, else test accuracy.

    Returns:
        Settings under their dotted names, metrics under theirs.

    Raises:
        InputError: if there is no such ledger, sweep or metric, or another module is imported as `analysis`.
    """
    found: pd.DataFrame = _analysis().read_results(sweeps, uri=uri, metric=metric).runs
    return found


def _analysis() -> ModuleType:
    """Our package beside this one, which alone reads results; a script may have an analysis.py of its own beside it."""
    home = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(home))
    try:
        found = import_module("analysis")
    finally:
        sys.path.remove(str(home))
    file = found.__file__
    if file is None or Path(file).resolve().parents[1] != home:  # it was imported before
        place = file or ", ".join(found.__path__)
        raise InputError(f"{place}: must not be named analysis where l2t_ray.results is used; rename it")
    return found
