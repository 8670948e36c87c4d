"""One launch: checks and loads data sets and source networks, opens a cluster, measures, trains all packs."""

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from l2t_ray import registry
from l2t_ray.config import Run, reads_source
from l2t_ray.errors import InputError, LedgerUnavailableError, duration
from l2t_ray.files import HOME
from l2t_ray.launch.backlog import State
from l2t_ray.launch.cluster.connection import cluster, joined_fleet
from l2t_ray.launch.cluster.nodes import on_every_node
from l2t_ray.launch.cluster.tuner import Feed, Launched, launch
from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import cores
from l2t_ray.launch.worker.files import listed, serving
from l2t_ray.launch.worker.job import TRAINER, Work, whole
from l2t_ray.training.storage import File, address, files, storage, write_whole

if TYPE_CHECKING:
    from l2t_ray.sweepfile.read import Sweep


@dataclass(frozen=True)
class Options:
    """What the command line says about a launch."""

    address: str | None = None  # of a running Ray cluster; None for this machine
    download: bool = True  # whether data sets may be fetched
    probe: bool = True  # whether shapes are measured first
    trainer: str = TRAINER  # what trains a pack


def train(
    state: State,
    lanes: Lanes,
    options: Options,
    progress_file: Path,
    say: Callable[[str], None],
    feed: Feed | None = None,
) -> Launched:
    """Trains the runs of a sweep that are to be trained: one launch.

    Args:
        state: of the sweep; this process is its writer.
        lanes: of this machine's devices.
        options: of the command line.
        progress_file: for `--status`.
        say: receives lines of progress.
        feed: gives the runs of a search; the state's runs are then examples.

    Returns:
        What the launch did; device usage is kept in the ledger only.
    """
    sweep, runs = state.sweep, state.runs
    execution = sweep.execution
    checkpoints = checkpoint_folder(sweep)
    work = Work(
        folder=str(Path.cwd()),
        checkpoints=address(checkpoints),
        data_dir=str(Path(execution.data_dir).resolve()),
        download=execution.download and options.download,
        checkpoint_s=execution.checkpoint_s,
        methods=tuple(str(path) for path in sweep.methods),
        trainer=options.trainer,
        mps=f"{os.getpid()}-{time.time_ns()}",
    )
    prepare_checkpoints(checkpoints, {*state.done} - {*state.untraced})
    by_key = prepare_inputs(runs, work)
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
            progress_file=progress_file,
            storage=(HOME / sweep.name / "tune").resolve(),  # this machine's alone: what Tune keeps is not used
            feed=feed,
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


def prepare_inputs(runs: Iterable[Run], work: Work) -> dict[str, str]:
    """Downloads, decodes and checks everything that the runs read, once, before many processes need it.

    Args:
        runs: to train.
        work: how packs are trained.

    Returns:
        Key to the digest of the run's images.

    Raises:
        InputError: with a line for every missing or too small data set, every damaged file of weights, and every traced
            name or index that does not exist.
    """
    runs = list(runs)
    problems: list[str] = []
    classes: dict[str, Sequence[str]] = {}
    digests = _load_data(runs, work, classes, problems)
    _load_sources(runs, classes, problems)
    if not problems:
        _look_at_traced(runs, work, problems)
    if problems:
        raise InputError(problems)
    return digests


def _load_data(
    runs: Iterable[Run], work: Work, classes: dict[str, Sequence[str]], problems: list[str]
) -> dict[str, str]:
    from l2t_ray.data.load import load_data
    from l2t_ray.data.subsets import count_held_out

    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[whole(run.data).model_dump_json()].append(run)
    digests = {}
    for group in groups.values():
        try:
            data = load_data(whole(group[0].data), Path(work.data_dir), download=work.download)
            for settings in {run.data.model_dump_json(): run.data for run in group}.values():
                count_held_out(data.train_labels, data.classes, settings, name=data.name)
        except InputError as error:
            problems.extend(error.problems)
        else:
            digests.update({run.key: data.sha256 for run in group})
            classes.update({run.key: run.data.classes or data.classes for run in group})
    return digests


def _load_sources(runs: Iterable[Run], classes: Mapping[str, Sequence[str]], problems: list[str]) -> None:
    from l2t_ray.methods import Method
    from l2t_ray.methods.custom_loss import check
    from l2t_ray.models import load_source

    by_source: dict[str, dict[str, Run]] = defaultdict(dict)
    for run in runs:
        if reads_source(run):
            by_source[run.source.model_dump_json()].setdefault(run.model_copy(update={"seed": 0}).key, run)
    for cells in by_source.values():
        try:
            source = load_source(next(iter(cells.values())).source)
        except InputError as error:
            problems.extend(error.problems)
            continue
        for run in cells.values():
            method = registry.METHODS[run.method]
            try:
                if run.key in classes and isinstance(method, Method):  # others' images are refused already
                    check(method, run, source, classes[run.key])
            except InputError as error:
                problems.extend(told for told in error.problems if told not in problems)


def _look_at_traced(runs: Iterable[Run], work: Work, problems: list[str]) -> None:
    import torch

    from l2t_ray.config import pack_shape
    from l2t_ray.launch.worker.train import inputs
    from l2t_ray.training.pack import look_at_start

    seen = set()
    for run in runs:
        if run.traced and (asked := (pack_shape(run), run.traced)) not in seen:
            seen.add(asked)
            try:
                look_at_start(run, *inputs(work, run), torch.device("cpu"))
            except InputError as error:
                problems.extend(error.problems)
