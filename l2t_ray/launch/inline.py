"""Trains runs in this process, one pack after another: no Ray, and no MLflow unless results go to a ledger."""

import argparse
import base64
import json
import logging
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from l2t_ray.config import pack_shape
from l2t_ray.errors import InputError, count, duration, say
from l2t_ray.files import HOME
from l2t_ray.launch.check import prepare_inputs
from l2t_ray.launch.cluster.stops import Stops
from l2t_ray.launch.cluster.usage import Usage
from l2t_ray.launch.live.tally import Launched, Tally
from l2t_ray.launch.options import INLINE, Options, Request, work_of
from l2t_ray.launch.placement.devices import threads_tag
from l2t_ray.launch.placement.limits import cores
from l2t_ray.launch.placement.packing import shape
from l2t_ray.launch.worker.job import Work, encode
from l2t_ray.launch.worker.train import StoppedError, describe, trace, train_pack
from l2t_ray.ledger.spool import TRACE, Ended, Record, Spool
from l2t_ray.run import AnyRun
from l2t_ray.sweepfile.read import Sweep
from l2t_ray.training.checkpoint import remove_state
from l2t_ray.training.device import device_name, is_of_machine, is_out_of_memory

if TYPE_CHECKING:
    from l2t_ray.launch.placement.plan import Plan
    from l2t_ray.launch.summary import Summary

INTERRUPTED = "interrupted: the running epoch ends and leaves a checkpoint; a second Ctrl-C ends at once"
Result = tuple[AnyRun, Ended, dict[str, str]]  # the run, how it ended, and tags


def packs(runs: Iterable[AnyRun], size: Callable[[AnyRun], int]) -> Iterator[list[AnyRun]]:
    """Packs of runs of equal shape, in the runs' order.

    Args:
        runs: to train.
        size: the most runs of a pack with this one.

    Yields:
        Runs that train together.
    """
    groups: dict[str, list[AnyRun]] = defaultdict(list)
    for run in runs:
        groups[pack_shape(run)].append(run)
    for group in groups.values():
        most = size(group[0])
        for start in range(0, len(group), most):
            yield group[start : start + most]


@dataclass(frozen=True)
class Trainer:
    """Trains packs in this process.

    Attributes:
        work: how packs are trained.
        stops: the cells that are stopped.
        watch: receives a pack, the epochs done and their total.
        stop: whether to end after the current epoch, with a checkpoint.
    """

    work: Work
    stops: Stops
    watch: Callable[[list[AnyRun], int, int], None] = lambda *_: None
    stop: Callable[[], bool] = lambda: False

    def train(self, pack: list[AnyRun]) -> Iterator[Result]:
        """Trains a pack; if it raises, each of its runs is tried alone, so that only the culprit fails.

        Raises:
            InputError: if images or weights have changed since they were checked.
            StoppedError: if `stop` asked for it.
        """
        pack = [run for run in pack if run.key not in self.stops]
        if not pack:
            return
        try:
            ended = train_pack(self.work, encode(pack), lambda *done: self.watch(pack, *done), self.stop)
            results = [Ended.from_json(values) for values in ended]
        except (InputError, StoppedError):
            raise
        except Exception as error:  # recorded as the run's reason
            if len(pack) > 1:
                say(f"a pack of {len(pack)} runs raised {describe(error)}; each is tried alone")
                for run in pack:
                    yield from self.train([run])
                return
            if not (is_out_of_memory(error) or is_of_machine(error)):
                self.stops.raised(pack[0].key, describe(error))
            trace_file = {TRACE: base64.b64encode(trace(error).encode()).decode()}
            results = [Ended(pack[0].key, "failed", describe(error), artifacts=trace_file)]
        for run, result in zip(pack, results, strict=True):
            tags = {"shape": shape(run), "device": device_name(), "pack": str(len(pack)), "processes": "1"}
            yield run, result, tags | threads_tag(tags["device"], self.work.threads)


@contextmanager
def stopped_by_signals(text: str = INTERRUPTED) -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether Ctrl-C, SIGTERM or SIGHUP has come; a second one raises KeyboardInterrupt."""
    came, stderr = False, sys.stderr  # a trainer's own output is captured

    def on_signal(*_: object) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True
        with redirect_stderr(stderr):
            say(text)

    numbers: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        is_nohup = signal.getsignal(signal.SIGHUP) != signal.SIG_DFL
        numbers = [signal.SIGINT, signal.SIGTERM, *([] if is_nohup else [signal.SIGHUP])]
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Shows the launch's own warnings on the stderr of now, not among what a trainer prints meanwhile."""
    logger, handler = logging.getLogger("l2t_ray"), logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    if not logger.hasHandlers():  # else whoever called has said where they go
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def train(request: Request) -> "tuple[Launched, Plan]":
    """Trains a launch's runs here and writes their results to the ledger as they come."""
    from l2t_ray.ledger.recorder import Recorder

    state, lanes, feed = request.state, request.lanes, request.feed
    (group,), execution = lanes.groups, state.sweep.execution
    work, plan = replace(request.work, threads=threads(execution.threads)), state.plan(lanes)
    runs = [] if feed else state.runs
    progress = request.progress(lambda shape: [replace(lane, n_slots=1) for lane in lanes.lanes(shape)])
    tally = Tally(runs, lanes, progress, feed)
    usage, name, n_together = Usage(), "", 0
    request.on_ready()
    with (
        stopped_by_signals() as is_stopped,
        warnings_shown(),
        progress,
        Recorder(state.ledger, lambda key: remove_state(work.checkpoint(key))) as recorder,
    ):

        def watch(pack: list[AnyRun], done: int, n_epochs: int) -> None:
            if n_epochs and len(pack) == n_together:  # not where each is tried alone
                progress.reached(name, done, n_epochs)
            usage.tick()
            progress.devices = usage.latest
            progress.tick()

        def size(run: AnyRun) -> int:
            return lanes.share(lanes.shape_of[run.key], group).pack

        on_stop = None if feed or not execution.fail_fast else lambda *told: progress.tell(stopped_text(*told))
        stops = Stops(state.sweep.cells, on_stop)
        trainer = Trainer(work, stops, watch, is_stopped)
        try:
            while runs := runs or tally.more(1):
                for planned in packs(runs, size):
                    if is_stopped():
                        raise StoppedError
                    pack = [run for run in planned if run.key not in stops]
                    if not pack:
                        continue
                    name, n_together = pack[0].key, len(pack)
                    where = (lanes.shape_of[name], group)
                    progress.began(name, [run.key for run in pack], where[0], group.device, 1)
                    for run, ended, tags in trainer.train(pack):
                        cells = feed.cells if feed else state.sweep.cells
                        recorder.add(run, ended, cells[run.key], request.data_sha(run), tags)
                        tally.ended(run.key, ended.status, ended.reason, ended.wall_s, ended.metrics, where)
                        if feed:
                            feed.ended(run, ended)
                    progress.stopped(name)
                runs = []
        except (StoppedError, KeyboardInterrupt):
            pass
        for key in [key for key in tally.left if key in stops]:
            tally.drop(key)
    return tally.launched(recorder.n_left), plan


def run_offline(sweep: Sweep, arguments: argparse.Namespace) -> int:
    """Trains this process' part of a sweep and returns the exit code; all source networks must exist."""
    part, n_parts = arguments.part
    mine = [*sweep.runs.values()][part - 1 :: n_parts]
    spool = Spool(HOME / sweep.name / "spool")
    waiting = {record.key: record for record in spool.records()}
    kept = {key for key, record in waiting.items() if record.outcome == "finished" or not arguments.retry_failed}
    to_train = [run for run in mine if run.key not in kept]
    part_of_sweep = f"{count(len(mine), 'run')} in part {part} of {n_parts}"
    say(f"{sweep.name}: {part_of_sweep}, {len(to_train)} to train without Ray and MLflow")
    is_cut = False
    if to_train:
        _prepare_spool(spool.folder)
        options = Options(None, not arguments.no_download, probe=False, backend=INLINE)
        work = replace(work_of(sweep, options), mps="", threads=threads(sweep.execution.threads))
        digests = prepare_inputs(to_train, work)
        started_s, n_ended = time.monotonic(), 0
        stops = Stops(sweep.cells, (lambda *told: say(stopped_text(*told))) if sweep.execution.fail_fast else None)
        with stopped_by_signals() as is_stopped:
            trainer = Trainer(work, stops, stop=is_stopped)
            try:
                for pack in packs(to_train, lambda _: arguments.pack):
                    for record in spooled(trainer, pack, spool, sweep.name, sweep.cells, digests):
                        waiting[record.key] = record
                    n_ended += len(pack)
                    left_s = (time.monotonic() - started_s) / n_ended * (len(to_train) - n_ended)
                    say(f"{n_ended} of {len(to_train)} runs ended, about {duration(left_s)} left")
            except StoppedError:
                is_cut = True
                say("interrupted; the same command goes on from the checkpoints")
    ended = [waiting[run.key] for run in mine if run.key in waiting]  # others' cells were stopped
    lost = [record for record in ended if record.outcome != "finished"]
    for record in lost:
        say(f"{record.name}: {record.outcome}: {record.tags['reason']}")
    n_finished = len(ended) - len(lost)
    told = f"{n_finished} results wait in {spool.folder}; launching {arguments.file} writes them to its ledger"
    if getattr(arguments, "json", False):
        say(told)
        print(json.dumps({**_summary(sweep, waiting.values()).to_json(), "launch": None}, indent=2))
    else:
        print(told)
    sys.stdout.flush()
    return 1 if lost or is_cut else 0


def spooled(
    trainer: Trainer,
    pack: Sequence[AnyRun],
    spool: Spool,
    sweep: str,
    cells: Mapping[str, str],
    digests: Mapping[str, str],
) -> Iterator[Record]:
    """Trains a pack and spools every result before it is yielded.

    Args:
        trainer: of this process.
        pack: runs of equal shape.
        spool: of the sweep.
        sweep: its name.
        cells: key to cell.
        digests: key to the digest of the run's images.
    """
    for run, ended, tags in trainer.train([*pack]):
        record = Record.of(run, ended, sweep, cells[run.key], data_sha=digests[run.key], tags=tags)
        spool.put(record)
        remove_state(trainer.work.checkpoint(run.key))
        yield record


def _summary(sweep: Sweep, records: Iterable[Record]) -> "Summary":
    """The sweep's state by the results that wait."""
    from l2t_ray.launch.summary import summarize
    from l2t_ray.ledger.entries import Entry
    from l2t_ray.ledger.limits import safe_name

    entries = []
    for record in records:
        tags = {"kind": record.kind, "key": record.key, "outcome": record.outcome, "reason": record.tags["reason"]}
        values = {safe_name(name): series[-1][1] for name, series in record.metrics.items() if series}
        status = "FINISHED" if record.outcome == "finished" else "FAILED"
        entries.append(Entry(record.key, record.sweep, status, record.start_ms, tags, values))
    return summarize(sweep.name, sweep.runs, sweep.cells, entries, sweep.metric)


def threads(asked: int | str) -> int:
    """CPU threads of a process that trains alone on its machine."""
    return cores() if isinstance(asked, str) else asked


def stopped_text(cell: str, reason: str) -> str:
    """What to say of a cell that is stopped."""
    return f"{cell} is stopped: two of its runs raised the same error, {reason}; execution.fail_fast=false trains them"


def _prepare_spool(folder: Path) -> None:
    try:  # before the training, not after it
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        law = f"must be in a folder that can be written, got {error.strerror!r}"
        raise InputError(f"{folder}: {law}; start elsewhere") from error
