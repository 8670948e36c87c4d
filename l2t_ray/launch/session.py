"""One launch: checks everything, trains all packs with the backend that was asked for, keeps what it took."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from l2t_ray.config import Run
from l2t_ray.errors import LedgerUnavailableError, duration, say
from l2t_ray.files import HOME
from l2t_ray.launch.backlog import State
from l2t_ray.launch.check import prepare_inputs
from l2t_ray.launch.checkpoints import checkpoint_folder, prepare_checkpoints
from l2t_ray.launch.cluster.connection import cluster, joined_fleet
from l2t_ray.launch.cluster.nodes import on_every_node
from l2t_ray.launch.cluster.tuner import launch
from l2t_ray.launch.live.tally import Feed, Launched
from l2t_ray.launch.options import INLINE, RAY, SLURM, Options, Request, work_of
from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.limits import cores
from l2t_ray.launch.placement.plan import Plan
from l2t_ray.launch.worker.files import listed, serving
from l2t_ray.launch.worker.job import whole
from l2t_ray.launch.worker.train import trainer_of
from l2t_ray.run import AnyRun


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
    from l2t_ray.launch import inline, slurm

    by_key = check(state, lanes, options) if digests is None else digests
    data_sha = {_data(run): by_key[run.key] for run in state.runs}
    request = Request(
        state,
        lanes,
        options,
        work_of(state.sweep, options),
        lambda run: data_sha[_data(run)],
        progress_file,
        say,
        feed,
        on_ready,
    )
    backends = {RAY: _train_on_ray, INLINE: inline.train, SLURM: slurm.train}
    launched, plan = backends[options.backend](request)
    content = {
        "started_ms": time.time_ns() // 1_000_000 - round(launched.wall_s * 1000),
        "n_runs": len(state.runs),
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


def _data(run: AnyRun) -> Hashable:
    """Equal for runs that read the same data; of a trainer of the user's own nobody knows."""
    return whole(run.data) if isinstance(run, Run) else None


def _train_on_ray(request: Request) -> tuple[Launched, Plan]:
    """Opens a cluster or joins one, measures shapes that nobody knows, and trains all packs."""
    state, lanes, work, options = request.state, request.lanes, request.work, request.options
    runs, execution = state.runs, state.sweep.execution
    with ExitStack() as stack:
        is_ours, groups = stack.enter_context(cluster(options.address, n_cores=cores())), lanes.groups
        if not is_ours:
            work = replace(work, files=listed(trainer_of(work).files(runs), work), depot=f"l2t-depot-{work.mps}")
            stack.enter_context(serving(work))
            groups = tuple(joined_fleet(request.say))
        served = stack.enter_context(on_every_node(execution.mps, work.mps))
        if not is_ours or served != lanes.figures.served:
            lanes = state.lanes(groups, served=served)
        if not is_ours:
            request.say(f"on the cluster: {state.plan(lanes).fleet}")
        if options.probe:
            from l2t_ray.launch.cluster.probe import probe

            counts = Counter(lanes.shape_of[run.key] for run in runs)
            if probe(lanes, counts, lanes.figures, work, request.say):
                request.say(state.announce(state.plan(lanes)))
        plan = state.plan(lanes)
        request.on_ready()
        launched = launch(
            [] if request.feed else runs,
            state.sweep.cells,
            data_sha=request.data_sha,
            ledger=state.ledger,
            work=work,
            lanes=lanes,
            execution=execution,
            progress=request.progress(lanes.lanes),
            storage=(HOME / state.sweep.name / "tune").resolve(),  # this machine's alone: what Tune keeps is not used
            feed=request.feed,
        )
    return launched, plan


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


def interrupt(reason: str) -> None:
    """Ends the launch as Ctrl-C does, because another process has become the sweep's writer."""
    say(reason)
    os.kill(os.getpid(), signal.SIGINT)
