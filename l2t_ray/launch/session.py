"""One launch: opens a cluster, measures, trains all packs."""

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from l2t_ray.errors import InputError, LedgerUnavailableError, duration
from l2t_ray.files import HOME
from l2t_ray.launch.backlog import State
from l2t_ray.launch.check import prepare_inputs
from l2t_ray.launch.cluster.connection import cluster, joined_fleet
from l2t_ray.launch.cluster.nodes import on_every_node
from l2t_ray.launch.cluster.tuner import Feed, Launched, launch
from l2t_ray.launch.live.cells import Cells
from l2t_ray.launch.live.progress import Progress
from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import cores
from l2t_ray.launch.placement.eta import Forecast
from l2t_ray.launch.worker.files import listed, serving
from l2t_ray.launch.worker.job import TRAINER, Work, whole
from l2t_ray.training.storage import File, address, files, storage, write_whole

if TYPE_CHECKING:
    from l2t_ray.sweepfile.read import Sweep


INTERIM = "Means are of the runs so far and decide nothing: the declared design decides, at its looks."


@dataclass(frozen=True)
class Options:
    """What the command line says about a launch."""

    address: str | None = None  # of a running Ray cluster; None for this machine
    download: bool = True  # whether data sets may be fetched
    probe: bool = True  # whether shapes are measured first
    trainer: str = TRAINER  # what trains a pack
    page: str | None = None  # the file of the live page; empty for the default one, None for none


def train(
    state: State,
    lanes: Lanes,
    options: Options,
    progress_file: Path,
    say: Callable[[str], None],
    feed: Feed | None = None,
    *,
    digests: Mapping[str, str] | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> Launched:
    """Trains the runs of a sweep that are to be trained: one launch.

    Args:
        state: of the sweep; this process is its writer.
        lanes: of this machine's devices.
        options: of the command line.
        progress_file: for `--status`.
        say: receives lines of progress.
        feed: gives the runs of a search; the state's runs are then examples.
        digests: what `check` has returned for these runs, if it was called already.
        on_ready: called when nothing can be refused any more, before the first run is trained.

    Returns:
        What the launch did; device usage is kept in the ledger only.
    """
    sweep, runs = state.sweep, state.runs
    execution = sweep.execution
    work = work_of(sweep, options)
    by_key = check(state, lanes, options) if digests is None else digests
    data_sha = {whole(run.data): by_key[run.key] for run in runs}
    with ExitStack() as stack:
        is_ours, groups = stack.enter_context(cluster(options.address, n_cores=cores())), lanes.groups
        if not is_ours:
            work = replace(work, files=listed(runs, work), depot=f"l2t-depot-{work.mps}")
            stack.enter_context(serving(work))
            groups = tuple(joined_fleet(say))
        served = stack.enter_context(on_every_node(execution.mps, work.mps))
        if not is_ours or served != lanes.figures.served:
            lanes = state.lanes(groups, served=served)
        if not is_ours:
            say(f"on the cluster: {state.plan(lanes).fleet}")
        if options.probe:
            from l2t_ray.launch.cluster.probe import probe

            counts = Counter(lanes.shape_of[run.key] for run in runs)
            if probe(lanes, counts, lanes.figures, work, say):
                say(state.announce(state.plan(lanes)))
        plan = state.plan(lanes)
        on_ready()
        progress = Progress(
            sweep.name,
            cells_of(state),
            Forecast(lanes.lanes),
            progress_file,
            page=None if options.page is None else Path(options.page or HOME / sweep.name / "live.html"),
            links={"pages": state.ledger.page, "result": f"l2t report {sweep.name}"},
            notes=[INTERIM] if sweep.looks else [],
        )
        started_ms = time.time_ns() // 1_000_000
        launched = launch(
            runs,
            sweep.cells,
            data_sha=lambda run: data_sha[whole(run.data)],
            ledger=state.ledger,
            work=work,
            lanes=lanes,
            retries=execution.retries,
            hang_s=execution.hang_s,
            progress=progress,
            storage=(HOME / sweep.name / "tune").resolve(),  # this machine's alone: what Tune keeps is not used
            feed=feed,
            fail_fast=execution.fail_fast,
        )
    content = {
        "started_ms": started_ms,
        "n_runs": len(runs),
        "fleet": plan.fleet,
        "shares": plan.shares,
        "bases": plan.bases,
        "predicted_wall_s": plan.wall_s,
        **asdict(launched),
    }
    try:
        state.ledger.write_launch(content)
    except LedgerUnavailableError as error:  # the results wait in the spool; this is told now and not kept
        say(f"what the launch took is not kept: {error}")
    if plan.wall_s is not None and not launched.n_left:
        say(f"predicted {duration(plan.wall_s)}, took {duration(launched.wall_s)}")
    return replace(launched, usage=None)


def check(state: State, lanes: Lanes, options: Options, *, later: Collection[str] = ()) -> dict[str, str]:
    """Checks everything that a launch reads and writes; of the ledger it writes nothing.

    Args:
        state: of the sweep.
        lanes: of this machine's devices.
        options: of the command line.
        later: files of weights that are trained first.

    Returns:
        Key to the digest of the run's images.

    Raises:
        InputError: with a line for every problem.
    """
    prepare_checkpoints(checkpoint_folder(state.sweep), {*state.done} - {*state.untraced})
    slots = [lanes.share(shape, group) for shape in lanes.example for group in lanes.groups]
    n_at_once = max((share.slots * share.pack for share in slots), default=1)
    return prepare_inputs(state.runs, work_of(state.sweep, options), n_at_once=n_at_once, later=later)


def cells_of(state: State) -> Cells:
    """The cells of a sweep as the ledger has them; of a search, whose runs are examples, the studies."""
    accuracies = {
        key: entry.metrics["test_accuracy_percent"]
        for key, entry in state.done.items()
        if "test_accuracy_percent" in entry.metrics
    }
    return Cells(state.sweep.cells, state.done, state.lost, accuracies)


def work_of(sweep: "Sweep", options: Options) -> Work:
    """How this launch trains packs."""
    execution = sweep.execution
    return Work(
        folder=str(Path.cwd()),
        checkpoints=address(checkpoint_folder(sweep)),
        data_dir=str(Path(execution.data_dir).resolve()),
        download=execution.download and options.download,
        checkpoint_s=execution.checkpoint_s,
        methods=tuple(str(path) for path in sweep.methods),
        trainer=options.trainer,
        mps=f"{os.getpid()}-{time.time_ns()}",
    )


def prepare_checkpoints(folder: File, done: Iterable[str]) -> None:
    """Makes the folder of checkpoints and removes what killed launches left in it.

    Args:
        folder: of the sweep's checkpoints.
        done: keys of finished runs.

    Raises:
        InputError: if the folder is not writable.
    """
    try:
        write_whole(folder / ".writable", b"")
        tidy_checkpoints(folder, done)
    except OSError as error:
        told = error.strerror or str(error).splitlines()[0]
        raise InputError(
            f"{folder}: execution.storage must be a folder that can be written to, got {told!r}"
        ) from error


def checkpoint_folder(sweep: "Sweep") -> File:
    """The folder of a sweep's checkpoints; it may not exist yet."""
    return storage(sweep.execution.storage) / sweep.name / "checkpoints"


def tidy_checkpoints(folder: File, done: Iterable[str]) -> None:
    """Removes incomplete files and the checkpoints of finished runs."""
    recorded = {"", *done}
    for file in files(folder):
        if file.name.split(".")[0] in recorded:
            file.unlink(missing_ok=True)
