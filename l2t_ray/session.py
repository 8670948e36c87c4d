"""One launch's training, from preparing the data to keeping what it took: a cluster, measurements, then all packs."""

import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from l2t_ray.depot import listed, serving
from l2t_ray.errors import LedgerUnavailableError
from l2t_ray.fleet import cores
from l2t_ray.joined import joined_fleet
from l2t_ray.lanes import Lanes
from l2t_ray.launch import Feed, Launched, cluster, launch
from l2t_ray.mps import on_every_node
from l2t_ray.prepare import checkpoint_folder, prepare_checkpoints, prepare_inputs
from l2t_ray.progress import duration
from l2t_ray.spool import HOME
from l2t_ray.state import State
from l2t_ray.storage import address
from l2t_ray.work import TRAINER, Work, whole


@dataclass(frozen=True)
class Options:
    """What the command line says of a launch.

    Attributes:
        address: of a running Ray cluster; None for this machine.
        download: whether data sets may be fetched.
        probe: whether shapes are measured first.
        trainer: what trains a pack.
    """

    address: str | None = None
    download: bool = True
    probe: bool = True
    trainer: str = TRAINER


def train(
    state: State,
    lanes: Lanes,
    options: Options,
    progress_file: Path,
    say: Callable[[str], None],
    feed: Feed | None = None,
) -> Launched:
    """Trains what is to be trained.

    Args:
        state: of the sweep; this process is its writer.
        lanes: of this machine's devices.
        options: of the command line.
        progress_file: for `--status`.
        say: is told what happens.
        feed: gives the runs of a search; those of the state are then examples.

    Returns:
        What the launch came to; its usage is in the ledger alone.
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
            from l2t_ray.probe import probe

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
