"""The command line of the main job: trains whatever a sweep wants and the ledger lacks.

Launching again resumes; launching when all is finished does nothing. stdout is the result, stderr the progress.
Exit codes: 0 all is well; 1 some runs failed, diverged, were interrupted, or wait in the spool; 2 usage.
"""

import argparse
import json
import logging
import os
import shlex
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.entries import Entry, failures, finished
from l2t_ray.errors import InputError, LedgerUnavailableError
from l2t_ray.figures import Figures
from l2t_ray.fleet import Group, cores, local_fleet, parse_fleet
from l2t_ray.lanes import Lanes
from l2t_ray.launch import Launched, cluster, joined_fleet, launch
from l2t_ray.lock import Lock
from l2t_ray.mps import on_every_node
from l2t_ray.placement import habits, times
from l2t_ray.plan import Plan, make_plan
from l2t_ray.progress import duration, read_progress
from l2t_ray.summary import print_plan, print_summary, summarize
from l2t_ray.tracking import Ledger
from l2t_ray.work import TRAINER, Work, whole

if TYPE_CHECKING:
    from l2t_ray.looks import Held
    from l2t_ray.sweepfile import Sweep

HOME = Path(".l2t")  # locks, spools and progress, in the working folder


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: arguments, by default the process'.

    Returns:
        The exit code.
    """
    arguments = _parser().parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        return _run(arguments)
    except InputError as error:
        _say(*error.problems)
    except LedgerUnavailableError as error:
        _say(str(error), "nothing was started and nothing is lost")
    except KeyboardInterrupt:
        _say("interrupted; launch again to go on")
        return 1
    return 2


@dataclass(frozen=True)
class State:
    """A sweep against its ledger."""

    sweep: "Sweep"
    ledger: Ledger
    entries: list[Entry]
    done: dict[str, Entry]
    lost: dict[str, tuple[str, str]]
    to_train: list[str]
    held: "Held | None" = None  # by a declared design

    @classmethod
    def read(cls, sweep: "Sweep", ledger: Ledger, *, retry_failed: bool) -> "State":
        """Compares what is wanted with what is there.

        Args:
            sweep: what is wanted.
            ledger: what is there.
            retry_failed: whether diverged and failed runs are to be trained again.

        Returns:
            The difference.
        """
        entries = ledger.entries()
        done, lost = finished(entries, sweep.runs), failures(entries, sweep.runs)
        skipped = set(done) if retry_failed else {*done, *lost}
        held = sweep.looks.held(entries, retry_failed=retry_failed) if sweep.looks else None
        if held:
            skipped |= held.waiting | held.spared
        return cls(sweep, ledger, entries, done, lost, [key for key in sweep.runs if key not in skipped], held)


def _run(arguments: argparse.Namespace) -> int:
    from l2t_ray.sweepfile import read_sweep

    sweep = read_sweep(arguments.file, overrides=arguments.set, where=arguments.where)
    ledger, folder = Ledger(sweep.name), HOME / sweep.name
    lock, progress_file = Lock(folder / "lock"), folder / "progress.json"
    if arguments.plan or arguments.status:
        state = State.read(sweep, ledger, retry_failed=arguments.retry_failed)
        if arguments.plan:
            return _show_plan(state, arguments)
        holder, running = lock.holder(), read_progress(progress_file)
        _say(f"{sweep.name}: launched by {holder}" if holder else f"{sweep.name}: no launch is running")
        if holder and running:
            _say(running["line"])
        return _show_summary(state, as_json=arguments.json)
    with lock, ExitStack() as stack:
        n_waiting = len(ledger.spool)
        state = State.read(sweep, ledger, retry_failed=arguments.retry_failed)
        if n_waiting or state.to_train:
            stack.enter_context(ledger.writing(on_lost=_interrupt))
            if n_waiting:
                _say(f"{n_waiting} results of an earlier launch are written to {ledger.shown_uri} first")
                ledger.flush()
            ledger.settle()
            state = State.read(sweep, ledger, retry_failed=arguments.retry_failed)  # nobody else writes from here on
        lanes = _lanes(state, local_fleet())
        _say(_announcement(state, _plan(state, lanes, arguments)))
        whole = read_sweep(arguments.file, overrides=arguments.set) if arguments.where else sweep
        ledger.write_manifest(whole, state.entries)
        launched = None
        while state.to_train:  # once; or once for every look of a declared design
            trained = {*state.to_train}
            launched = _train(state, lanes, arguments, progress_file)
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
        code = _show_summary(state, as_json=arguments.json, launched=launched)
        _say(f"result: python -m analysis.stats {sweep.name}    pages: {_pages(ledger)}")
        return code


def _train(state: State, lanes: Lanes, arguments: argparse.Namespace, progress_file: Path) -> Launched:
    sweep = state.sweep
    execution = sweep.execution
    runs = [sweep.runs[key] for key in state.to_train]
    storage = (Path(execution.storage) / sweep.name).resolve()
    work = Work(
        folder=str(Path.cwd()),
        checkpoints=str(storage / "checkpoints"),
        data_dir=str(Path(execution.data_dir).resolve()),
        download=execution.download and not arguments.no_download,
        checkpoint_s=execution.checkpoint_s,
        methods=tuple(str(path) for path in sweep.methods),
        trainer=arguments.trainer,
        mps=f"{os.getpid()}-{time.time_ns()}",
    )
    _tidy(storage / "checkpoints", state.done)
    data_sha = _prepare(runs, work)
    with cluster(arguments.address, n_cores=cores()) as is_ours, on_every_node(execution.mps, work.mps):
        if not is_ours:
            lanes = _lanes(state, joined_fleet())
            _say(f"on the cluster: {_plan(state, lanes, arguments).fleet}")
        if not arguments.no_probe:
            from l2t_ray.probe import probe

            counts = Counter(lanes.shape_of[run.key] for run in runs)
            if probe(lanes, counts, lanes.figures, work, _say):
                _say(_announcement(state, _plan(state, lanes, arguments)))
        plan = _plan(state, lanes, arguments)
        started_ms = time.time_ns() // 1_000_000
        launched = launch(
            runs,
            sweep.cells,
            data_sha=data_sha,
            ledger=state.ledger,
            work=work,
            lanes=lanes,
            retries=execution.retries,
            progress_file=progress_file,
            storage=storage / "tune",
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
        _say(f"what the launch took is not kept: {error}")
    if plan.wall_s is not None and not launched.n_left:
        _say(f"predicted {duration(plan.wall_s)}, took {duration(launched.wall_s)}")
    return replace(launched, usage=None)


def _tidy(checkpoints: Path, done: Iterable[str]) -> None:
    from l2t_ray import checkpoint

    # makes the folder, and removes what killed launches left: parts of files, checkpoints of recorded runs
    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
        for part in checkpoints.glob(".*"):
            part.unlink()
        probe = checkpoints / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{checkpoints}: execution.storage must be a folder that can be written to, got {error.strerror!r}"
        ) from error
    finished_keys = set(done)
    for file in checkpoints.glob("*.ckpt*"):
        if file.name.split(".")[0] in finished_keys:
            checkpoint.remove_state(checkpoints / f"{file.name.split('.')[0]}.ckpt")


def _prepare(runs: Iterable[Run], work: Work) -> dict[str, str]:
    # downloads, decodes and checks every data set once, before many processes want it; key to what its images are
    from l2t_ray.data import count_samples, load_data

    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[whole(run.data).model_dump_json()].append(run)
    problems: list[str] = []
    digests = {}
    for group in groups.values():
        try:
            data = load_data(whole(group[0].data), Path(work.data_dir), download=work.download)
            for samples in {
                json.dumps(run.data.samples_per_class): run.data.samples_per_class for run in group
            }.values():
                count_samples(data.train_labels, data.classes, samples, name=data.name)
        except InputError as error:
            problems.extend(error.problems)
        else:
            digests.update({run.key: data.sha256 for run in group})
    if problems:
        raise InputError(problems)
    return digests


def _lanes(state: State, groups: Sequence[Group], *, estimates: bool = False) -> Lanes:
    sweep = state.sweep
    return Lanes(
        sweep.execution,
        groups,
        Figures(HOME / "probe.json", sweep.methods),
        [sweep.runs[key] for key in state.to_train],
        sweep.cells,
        known=times(state.entries),
        habits=habits(state.entries),
        estimates=estimates,
    )


def _announcement(state: State, plan: Plan) -> str:
    counts = f"{len(state.sweep.runs)} runs wanted, {len(state.done)} finished"
    if state.lost:
        counts += f", {len(state.lost)} failed or diverged"
        counts += " (--retry-failed trains them again)" if not set(state.lost) & set(state.to_train) else ""
    if not state.to_train:
        return f"{state.sweep.name}: {counts}, nothing to train"
    wall = "time unknown" if plan.wall_s is None else f"about {duration(plan.wall_s)}"
    return f"{state.sweep.name}: {counts}, {len(state.to_train)} to train, {next(iter(plan.shares))}, {wall}"


def _plan(state: State, lanes: Lanes, arguments: argparse.Namespace) -> Plan:
    sweep, price = state.sweep, arguments.price_per_hour
    price = sweep.execution.price_per_hour if price is None else price
    return make_plan(sweep.runs, sweep.cells, state.done, state.to_train, lanes, price)


def _show_plan(state: State, arguments: argparse.Namespace) -> int:
    from l2t_ray.detectable import detectable

    groups = parse_fleet(arguments.fleet) if arguments.fleet else local_fleet()
    plan = _plan(state, _lanes(state, groups, estimates=bool(arguments.fleet)), arguments)
    _say(_announcement(state, plan))
    power = detectable(state.sweep.runs, state.sweep.cells, state.entries)
    if arguments.json:
        content = {"sweep": state.sweep.name, **asdict(plan), "power": asdict(power) if power else None}
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
    incomplete = launched is not None and (launched.n_left or launched.n_spooled)
    return 1 if summary.failures or incomplete else 0


def _pages(ledger: Ledger) -> str:
    if ledger.uri.startswith("http"):
        return ledger.shown_uri
    return f"mlflow ui --backend-store-uri {shlex.quote(ledger.shown_uri)}"


def _interrupt(reason: str) -> None:
    _say(reason)
    os.kill(os.getpid(), signal.SIGINT)


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m l2t_ray.sweep", description="Train what a sweep file wants.")
    parser.add_argument("file", type=Path, help="the sweep file (YAML)")
    parser.add_argument("--plan", action="store_true", help="say what would be trained, and how long it takes")
    parser.add_argument("--fleet", metavar="KIND:N,...", help="with --plan: on these devices (h200:8, cpu:64, ...)")
    parser.add_argument("--price-per-hour", type=float, metavar="P", help="of all devices, for the plan's price")
    parser.add_argument(
        "--no-probe", action="store_true", help="train at once, with what earlier launches have measured"
    )
    parser.add_argument("--status", action="store_true", help="say what is finished, also while a launch is running")
    parser.add_argument("--where", action="append", default=[], metavar="K=V", help="only runs with this setting")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="override a setting of every run")
    parser.add_argument("--retry-failed", action="store_true", help="train failed and diverged runs again")
    parser.add_argument("--no-download", action="store_true", help="fail where a data set is not there")
    parser.add_argument("--address", help="of a running Ray cluster; by default this machine")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--trainer", default=TRAINER, help=argparse.SUPPRESS)  # benchmarks measure all but the training
    return parser


if __name__ == "__main__":
    sys.exit(main())
