"""What `python -m l2t_ray.sweep` does with a sweep: plan, status, or a launch that trains what the ledger lacks."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.errors import LedgerClosedError, LedgerUnavailableError, count, say, wrapped
from l2t_ray.files import HOME, Lock
from l2t_ray.launch import slurm_jobs
from l2t_ray.launch.backlog import State
from l2t_ray.launch.check import inspections
from l2t_ray.launch.kept import kept_bytes, kept_text
from l2t_ray.launch.live.table import print_view
from l2t_ray.launch.live.view import View
from l2t_ray.launch.options import INLINE, RAY, SLURM, Options
from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import local_fleet, n_cards
from l2t_ray.launch.power import detectable
from l2t_ray.launch.preparation import QUEUED, plan_launch, to_fetch
from l2t_ray.launch.sources import check_backend, check_with_sources, source_lines, train_first
from l2t_ray.launch.summary import print_failures, print_plan, print_summary, summarize
from l2t_ray.ledger.entries import unwanted
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.run import AnyRun
from l2t_ray.sweepfile.read import Sweep, read_sweep

if TYPE_CHECKING:
    from l2t_ray.launch.live.tally import Launched


def run_sweep(sweep: Sweep, arguments: argparse.Namespace) -> int:
    """Plans a sweep, prints its status, or trains what it lacks; returns the exit code."""
    ledger, folder = Ledger(sweep.name), HOME / sweep.name
    asks = arguments.plan or arguments.status or arguments.check
    if not asks:
        check_backend(sweep, arguments.backend)
    try:
        ledger.check()
    except LedgerUnavailableError as error:
        if asks or arguments.backend != INLINE or sweep.sources or isinstance(error, LedgerClosedError):
            raise
        from l2t_ray.launch.inline import run_offline

        say(f"{error}; this launch goes on without it, and a later one writes the results")
        return run_offline(sweep, argparse.Namespace(**vars(arguments), part=(1, 1), pack=1))
    lock, progress_file = Lock(folder / "lock"), folder / "progress.json"
    if arguments.plan or arguments.status:
        state = State.read(sweep, ledger, retry_failed=arguments.retry_failed)
        if n_other := _n_unwanted(state, arguments):
            told = "are of other settings, images, weights or trainers than this file's"
            say(f"{sweep.name}: {count(n_other, 'finished run')} in the ledger {told}")
        if arguments.plan:
            return _show_plan(state, arguments)
        view = running(sweep.name, lock, progress_file)
        if state.untraced:
            say(
                f"{len(state.untraced)} finished runs lack a trace or file that is asked for; a launch trains them "
                "again for it"
            )
        return _show_summary(state, as_json=arguments.json, view=view)
    if arguments.check:
        _tell_of_tf32(sweep.name, sweep.runs.values(), arguments)
        state = replace(State.read(sweep, ledger, retry_failed=True), to_train=[*sweep.runs])  # also what is finished
        check_with_sources(state, options(arguments))
        for line in inspections(sweep.runs.values(), Path(sweep.execution.data_dir)):
            print(line)
        later = f"; {', '.join(sweep.sources)}: trained first" if sweep.sources else ""
        checked = f"{sweep.name}: {count(len(sweep.runs), 'run')} checked"
        told = "all images and weights can be read, every method trains"
        print(f"{checked}: {'their settings fit the trainer' if sweep.trainer else told}{later}")
        return 0
    from l2t_ray.launch.session import check, interrupt

    with lock, ExitStack() as stack:
        if sweep.sources:
            check_with_sources(State.read(sweep, ledger, retry_failed=True), options(arguments))
            sweep = train_first(sweep, ledger, options(arguments), lambda: read(arguments, arguments.where))
        state, n_waiting = State.read(sweep, ledger, retry_failed=arguments.retry_failed), len(ledger.spool)
        if n_waiting:
            stack.enter_context(ledger.writing(on_lost=interrupt))
            say(f"{count(n_waiting, 'result')} of an earlier launch are written to {ledger.shown_uri} first")
            ledger.flush()
            state = State.read(sweep, ledger, retry_failed=arguments.retry_failed)
        if state.to_train and arguments.backend == SLURM:
            slurm_jobs.check(sweep.execution.slurm)
        lanes = state.lanes(local_fleet(), alone=arguments.backend != RAY)
        say(state.announce(state.plan(lanes)) if arguments.backend != SLURM else state.announce(None))
        _tell_of_tf32(sweep.name, state.runs, arguments)
        digests = check(state, lanes, options(arguments)) if state.to_train else {}
        if not n_waiting and state.to_train:
            stack.enter_context(ledger.writing(on_lost=interrupt))
        if n_waiting or state.to_train:
            ledger.settle()
            state = State.read(sweep, ledger, retry_failed=arguments.retry_failed)  # nobody else writes from here on
        return _launch(state, arguments, progress_file, lanes, digests)


def _n_unwanted(state: State, arguments: argparse.Namespace) -> int:
    """Counts the finished runs in the ledger that the whole sweep does not want; 0 where its keys are not known yet."""
    whole = read(arguments, ()) if arguments.where else state.sweep
    return 0 if whole.sources else len(unwanted(state.entries, state.sweep.name, whole.runs))


def _tell_of_tf32(name: str, runs: Iterable[AnyRun], arguments: argparse.Namespace) -> None:
    """Says where a precision has no effect on this machine; jobs and clusters may have cards that it lacks."""
    n = sum(isinstance(run, Run) and run.training.precision == "tf32" for run in runs)
    if n and arguments.backend != SLURM and not arguments.address and not n_cards():
        told = "training.precision: tf32 is float32 on a CPU, bit for bit, under other keys"
        say(f"{name}: {told} ({count(n, 'run')})")


def running(name: str, lock: Lock, progress_file: Path) -> View | None:
    """Says who launches a sweep now; returns the launch's state, if it trains already."""
    holder = lock.holder()
    say(f"{name}: launched by {holder}" if holder else f"{name}: no launch is running")
    return View.read(progress_file) if holder else None


def _launch(
    state: State,
    arguments: argparse.Namespace,
    progress_file: Path,
    lanes: Lanes,
    digests: dict[str, str] | None,
) -> int:
    from l2t_ray.launch.checkpoints import checkpoint_folder, tidy_checkpoints
    from l2t_ray.launch.session import train

    sweep, ledger = state.sweep, state.ledger
    whole = read(arguments, ()) if arguments.where else sweep
    entries, n_left_out = state.entries, _n_unwanted(state, arguments)

    def want() -> None:  # from here on reports ask for these runs; a launch that is refused leaves them as they were
        nonlocal n_left_out
        ledger.write_manifest(whole, entries)
        if n_left_out:
            told = f"{count(n_left_out, 'run')} in the ledger that the sweep no longer wants"
            say(f"{sweep.name}: {told}; reports leave them out until a launch wants them again")
            n_left_out = 0

    given = options(arguments)
    launched = None
    if not state.to_train:  # a killed launch may have left checkpoints of what it had recorded already
        tidy_checkpoints(checkpoint_folder(sweep), state.done)
        want()
    while state.to_train:  # once; or once for every look of a declared design
        trained = {*state.to_train}
        launched = train(state, lanes, given, progress_file, say, digests=digests, on_ready=want)
        digests = None  # a later look has further runs
        if launched.n_spooled:
            waiting = "1 result waits" if launched.n_spooled == 1 else f"{launched.n_spooled} results wait"
            reason = f"because {ledger.shown_uri} does not take all; the next launch writes them first"
            say(f"{waiting} in {ledger.spool.folder}, {reason}")
        if launched.n_stopped:
            say(f"{count(launched.n_stopped, 'run')} of stopped cells were not trained")
        if launched.n_left:
            say(f"interrupted with {count(launched.n_left, 'run')} to go; launch again to go on from their checkpoints")
        try:
            state = State.read(sweep, ledger, retry_failed=False)
        except LedgerUnavailableError as error:
            say(str(error))
            return 1
        if state.held:
            say(f"{sweep.name}: {state.held}")
        if launched.n_left or launched.n_spooled or launched.n_stopped or trained & {*state.to_train}:
            break
        lanes = state.lanes(lanes.groups, alone=arguments.backend != RAY)
    code = _show_summary(state, as_json=arguments.json, launched=launched)
    say(f"result: l2t report {sweep.name}    pages: {ledger.page}")
    return code


def options(arguments: argparse.Namespace) -> Options:
    """What the command line says about a launch."""
    return Options(
        arguments.address,
        not arguments.no_download,
        not arguments.no_probe,
        arguments.backend,
        arguments.page,
    )


def read(arguments: argparse.Namespace, where: Sequence[str]) -> Sweep:
    """The sweep that the command line names, its price included; `where` replaces `--where`."""
    sweep = read_sweep(arguments.file, overrides=arguments.set, where=where)
    if (price := arguments.price_per_hour) is None:
        return sweep
    return replace(sweep, execution=sweep.execution.model_copy(update={"price_per_hour": price}))


def _show_plan(state: State, arguments: argparse.Namespace) -> int:
    plan, training = plan_launch(state, fleet=arguments.fleet, backend=arguments.backend)
    is_queued = plan.fleet == QUEUED
    if is_queued:
        told = "Slurm alone knows when jobs begin and on what; a run's time is this machine's"
        say(f"{state.sweep.name}: {told}; --fleet h100:8 plans for such devices")
    say(*source_lines(state.sweep, training))
    fetched = to_fetch(state.sweep, state.runs)
    say(state.announce(None if is_queued else plan))
    power = detectable(state.sweep.runs, state.sweep.cells, state.entries, state.sweep.metric)
    if arguments.json:
        sources = {weights: str(file) for weights, file in state.sweep.sources.items()}
        content = {
            "sweep": state.sweep.name,
            "sources": sources,
            "source_s": training,
            "fetch": [asdict(item) for item in fetched],
            **asdict(plan),
            "power": asdict(power) if power else None,
            "kept": {name: {"n": n, "bytes": size} for name, (n, size) in kept_bytes(state.runs).items()},
        }
        print(json.dumps(content, indent=2))
    else:
        print_plan(plan, power, sys.stdout)
        if fetched:
            total = sum(item.n_bytes for item in fetched) / 2**20
            parts = ", ".join(f"{item.what} ({item.n_bytes / 2**20:,.0f} MiB)" for item in fetched)
            print(wrapped(f"to fetch: {parts}, {total:,.0f} MiB in all", sys.stdout))
        if kept := kept_text(state.runs):
            print(wrapped(kept, sys.stdout))
    return 0


def _show_summary(state: State, *, as_json: bool, launched: "Launched | None" = None, view: View | None = None) -> int:
    summary = summarize(state.sweep.name, state.sweep.runs, state.sweep.cells, state.entries, state.sweep.metric)
    if as_json:
        live = {"live": asdict(view)} if view else {}
        print(json.dumps({**summary.to_json(), "launch": asdict(launched) if launched else None, **live}, indent=2))
    elif view:
        print_view(view, sys.stdout)
        print_failures(summary, sys.stdout)
    else:
        print_summary(summary, sys.stdout)
    sys.stdout.flush()  # whatever happens while Ray is left
    incomplete = launched is not None and (launched.n_left or launched.n_spooled)
    return 1 if summary.failures or summary.n_without_metric or incomplete else 0
