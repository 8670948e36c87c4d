"""The command line of the main job: trains whatever a sweep wants and the ledger lacks.

Launching again resumes; launching when all is finished does nothing. stdout is the result, stderr the progress.
Exit codes: 0 all is well; 1 some runs failed, diverged, were interrupted, or wait in the spool; 2 usage.
"""

import argparse
import json
import logging
import math
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from l2t_ray.errors import InputError, LedgerUnavailableError, told_of_disk
from l2t_ray.files import HOME, Lock
from l2t_ray.launch.backlog import State
from l2t_ray.launch.cluster.tuner import Launched
from l2t_ray.launch.placement.devices import local_fleet, parse_fleet
from l2t_ray.launch.placement.progress import read_progress
from l2t_ray.launch.session import Options, checkpoint_folder, tidy_checkpoints, train
from l2t_ray.launch.summary import print_plan, print_summary, summarize
from l2t_ray.launch.worker.job import TRAINER
from l2t_ray.ledger.address import pages
from l2t_ray.ledger.entries import unwanted
from l2t_ray.ledger.ledger import Ledger

if TYPE_CHECKING:
    from l2t_ray.sweepfile.read import Sweep


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: arguments, by default the process'.

    Returns:
        The exit code.

    Raises:
        OSError: any other than of a disk that is full or closed.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.fleet and not arguments.plan:
        parser.error("--fleet stands with --plan: a launch takes the devices that there are")
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        return _run(arguments)
    except InputError as error:
        _say(*error.problems)
    except LedgerUnavailableError as error:
        _say(str(error), "nothing is lost; launch again when it answers")
    except KeyboardInterrupt:
        _say("interrupted; launch again to go on")
        return 1
    except BrokenPipeError:  # whoever read the result has gone
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for the interpreter's last flush
        return 1
    except OSError as error:
        if (told := told_of_disk(error)) is None:
            raise
        _say(told)
        return 1
    return 2


def _run(arguments: argparse.Namespace) -> int:
    sweep = _read(arguments, arguments.where)
    _say(*sweep.notes)
    ledger, folder = Ledger(sweep.name), HOME / sweep.name
    lock, progress_file = Lock(folder / "lock"), folder / "progress.json"
    if sweep.search:
        return _search(sweep, ledger, arguments)
    if arguments.plan or arguments.status:
        state = State.read(sweep, ledger, retry_failed=arguments.retry_failed)
        if arguments.plan:
            return _show_plan(state, arguments)
        holder, running = lock.holder(), read_progress(progress_file)
        _say(f"{sweep.name}: launched by {holder}" if holder else f"{sweep.name}: no launch is running")
        if holder and running:
            _say(running["line"])
        if state.untraced:
            _say(
                f"{len(state.untraced)} finished runs lack a trace that is asked for; a launch trains them again for it"
            )
        return _show_summary(state, as_json=arguments.json)
    with lock, ExitStack() as stack:
        if sweep.sources:
            sweep = _with_sources(sweep, ledger, arguments)
        n_waiting = len(ledger.spool)
        state = State.read(sweep, ledger, retry_failed=arguments.retry_failed)
        if n_waiting or state.to_train:
            stack.enter_context(ledger.writing(on_lost=_interrupt))
            if n_waiting:
                _say(f"{n_waiting} results of an earlier launch are written to {ledger.shown_uri} first")
                ledger.flush()
            ledger.settle()
            state = State.read(sweep, ledger, retry_failed=arguments.retry_failed)  # nobody else writes from here on
        return _launch(state, arguments, progress_file)


def _with_sources(sweep: "Sweep", ledger: Ledger, arguments: argparse.Namespace) -> "Sweep":
    """The sweep once the source networks that it lacks are trained: only now are its runs' keys known."""
    from l2t_ray.launch.sources import train_sources

    with ledger.writing(on_lost=_interrupt):
        for weights, file in sweep.sources.items():
            _say(f"{sweep.name}: {weights} is not there, so {file} trains it first")
        train_sources(
            sweep.sources,
            sweep.execution,
            ledger,
            _say,
            address=arguments.address,
            download=sweep.execution.download and not arguments.no_download,
        )
    again = _read(arguments, arguments.where)
    for weights, file in again.sources.items():  # removed meanwhile: no key that is provisional may be trained
        raise InputError(f"{weights}: must be there once {file} has trained it; launch again")
    return again


def _launch(state: State, arguments: argparse.Namespace, progress_file: Path) -> int:
    sweep, ledger = state.sweep, state.ledger
    lanes = state.lanes(local_fleet())
    _say(state.announce(state.plan(lanes)))
    whole = _read(arguments, ()) if arguments.where else sweep
    ledger.write_manifest(whole, state.entries)
    n_left_out = 0 if whole.sources else len(unwanted(state.entries, sweep.name, whole.runs))
    if n_left_out:  # where all keys are known
        told = f"{n_left_out} run{'' if n_left_out == 1 else 's'} in the ledger that the sweep no longer wants"
        _say(f"{sweep.name}: {told}; reports leave them out until a launch wants them again")
    options = _options(arguments)
    launched = None
    if not state.to_train:  # a killed launch may have left checkpoints of what it had recorded already
        tidy_checkpoints(checkpoint_folder(sweep), state.done)
    while state.to_train:  # once; or once for every look of a declared design
        trained = {*state.to_train}
        launched = train(state, lanes, options, progress_file, _say)
        if launched.n_spooled:
            _say(
                f"{launched.n_spooled} results wait in {ledger.spool.folder}, because {ledger.shown_uri} "
                "does not take them; the next launch writes them first"
            )
        if launched.n_left:
            _say(f"interrupted with {launched.n_left} runs to go; launch again to go on from their checkpoints")
        try:
            state = State.read(sweep, ledger, retry_failed=False)
        except LedgerUnavailableError as error:
            _say(str(error))
            return 1
        if state.held:
            _say(f"{sweep.name}: {state.held}")
        if launched.n_left or launched.n_spooled or trained & {*state.to_train}:
            break
        lanes = state.lanes(lanes.groups)
    code = _show_summary(state, as_json=arguments.json, launched=launched)
    _say(f"result: python -m analysis.stats {sweep.name}    pages: {pages(ledger.uri)}")
    return code


def _search(sweep: "Sweep", ledger: Ledger, arguments: argparse.Namespace) -> int:
    from l2t_ray.search.command import run_search

    def with_sources() -> "Sweep":
        return _with_sources(sweep, ledger, arguments)

    code, best = run_search(sweep, ledger, arguments, _options(arguments), _say, _interrupt, with_sources)
    if best is None:
        return code
    return max(code, _run(argparse.Namespace(**{**vars(arguments), "file": best, "set": []})))


def _options(arguments: argparse.Namespace) -> Options:
    return Options(arguments.address, not arguments.no_download, not arguments.no_probe, arguments.trainer)


def _read(arguments: argparse.Namespace, where: Sequence[str]) -> "Sweep":
    from l2t_ray.sweepfile.read import read_sweep

    sweep = read_sweep(arguments.file, overrides=arguments.set, where=where)
    if (price := arguments.price_per_hour) is None:
        return sweep
    return replace(sweep, execution=sweep.execution.model_copy(update={"price_per_hour": price}))


def _show_plan(state: State, arguments: argparse.Namespace) -> int:
    from l2t_ray.launch.power import detectable

    groups = parse_fleet(arguments.fleet) if arguments.fleet else local_fleet()
    plan = state.plan(state.lanes(groups, estimates=bool(arguments.fleet)))
    for weights, file in state.sweep.sources.items():
        _say(f"{state.sweep.name}: {weights} is not there: {file} trains it first, and then its runs' keys are known")
    _say(state.announce(plan))
    power = detectable(state.sweep.runs, state.sweep.cells, state.entries)
    if arguments.json:
        sources = {weights: str(file) for weights, file in state.sweep.sources.items()}
        content = {
            "sweep": state.sweep.name,
            "sources": sources,
            **asdict(plan),
            "power": asdict(power) if power else None,
        }
        print(json.dumps(content, indent=2))
    else:
        print_plan(plan, power, sys.stdout)
    return 0


def _show_summary(state: State, *, as_json: bool, launched: Launched | None = None) -> int:
    summary = summarize(state.sweep.name, state.sweep.runs, state.sweep.cells, state.entries)
    if as_json:
        print(json.dumps({**summary.to_json(), "launch": asdict(launched) if launched else None}, indent=2))
    else:
        print_summary(summary, sys.stdout)
    sys.stdout.flush()  # whatever happens while Ray is left
    incomplete = launched is not None and (launched.n_left or launched.n_spooled)
    return 1 if summary.failures or incomplete else 0


def _interrupt(reason: str) -> None:
    _say(reason)
    os.kill(os.getpid(), signal.SIGINT)


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def _price(text: str) -> float:
    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 <= price < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text!r}")
    return price


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m l2t_ray.sweep", description="Train what a sweep file wants.")
    parser.add_argument("file", type=Path, help="the sweep file (YAML)")
    parser.add_argument("--plan", action="store_true", help="say what would be trained, and how long it takes")
    parser.add_argument("--fleet", metavar="KIND:N,...", help="with --plan: on these devices (h200:8, cpu:64, ...)")
    parser.add_argument("--price-per-hour", type=_price, metavar="P", help="of all devices, for the plan's price")
    parser.add_argument(
        "--no-probe", action="store_true", help="train at once, with what earlier launches have measured"
    )
    parser.add_argument("--status", action="store_true", help="say what is finished, also while a launch is running")
    parser.add_argument("--where", action="append", default=[], metavar="K=V", help="only runs with this setting")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="K=V",
        help="override a setting of every run; the sweep then wants these",
    )
    parser.add_argument("--retry-failed", action="store_true", help="train failed and diverged runs again")
    parser.add_argument("--no-download", action="store_true", help="fail where a data set is not there")
    parser.add_argument("--address", help="of a running Ray cluster; by default this machine")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--trainer", default=TRAINER, help=argparse.SUPPRESS)  # benchmarks measure all but the training
    return parser


if __name__ == "__main__":
    sys.exit(main())
