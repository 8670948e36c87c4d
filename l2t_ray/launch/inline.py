"""Trains a sweep in this process, without Ray and MLflow; every result waits in the spool for a later launch."""

import argparse
import base64
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from l2t_ray.config import pack_shape
from l2t_ray.errors import InputError, count, duration, say
from l2t_ray.files import HOME
from l2t_ray.launch.check import prepare_inputs
from l2t_ray.launch.cluster.stops import Stops
from l2t_ray.launch.placement.devices import cores
from l2t_ray.launch.placement.packing import shape
from l2t_ray.launch.session import checkpoint_folder
from l2t_ray.launch.worker.job import Work, encode
from l2t_ray.launch.worker.train import describe, trace, train_pack
from l2t_ray.ledger.spool import TRACE, Ended, Record, Spool
from l2t_ray.run import AnyRun
from l2t_ray.sweepfile.read import Sweep
from l2t_ray.training.checkpoint import remove_state
from l2t_ray.training.device import device_name, is_of_machine, is_out_of_memory
from l2t_ray.training.storage import address


def run_inline(sweep: Sweep, arguments: argparse.Namespace) -> int:
    """Trains this process' part of a sweep and returns the exit code; all source networks must exist."""
    part, n_parts = arguments.part
    mine = [*sweep.runs.values()][part - 1 :: n_parts]
    spool = Spool(HOME / sweep.name / "spool")
    waiting = {record.key: record for record in spool.records()}
    kept = {key for key, record in waiting.items() if record.outcome == "finished" or not arguments.retry_failed}
    to_train = [run for run in mine if run.key not in kept]
    part_of_sweep = f"{count(len(mine), 'run')} in part {part} of {n_parts}"
    say(f"{sweep.name}: {part_of_sweep}, {len(to_train)} to train without Ray and MLflow")
    if to_train:
        try:  # before the training, not after it
            spool.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=spool.folder).close()
        except OSError as error:
            law = f"must be in a folder that can be written, got {error.strerror!r}"
            raise InputError(f"{spool.folder}: {law}; start elsewhere") from error
        work = _work(sweep, arguments)
        digests = prepare_inputs(to_train, work)
        started_s, n_ended = time.monotonic(), 0
        stops = Stops(sweep.cells, _say_stopped if sweep.execution.fail_fast else None)
        for pack in _packs(to_train, arguments.pack):
            for record in _train(sweep, work, pack, digests, stops):
                spool.put(record)
                waiting[record.key] = record
            n_ended += len(pack)
            left_s = (time.monotonic() - started_s) / n_ended * (len(to_train) - n_ended)
            say(f"{n_ended} of {len(to_train)} runs ended, about {duration(left_s)} left")
    ended = [waiting[run.key] for run in mine if run.key in waiting]  # others' cells were stopped
    lost = [record for record in ended if record.outcome != "finished"]
    for record in lost:
        say(f"{record.name}: {record.outcome}: {record.tags['reason']}")
    n_finished = len(ended) - len(lost)
    print(f"{n_finished} results wait in {spool.folder}; launching {arguments.file} writes them to its ledger")
    sys.stdout.flush()
    return 1 if lost else 0


def _work(sweep: Sweep, arguments: argparse.Namespace) -> Work:
    execution = sweep.execution
    return Work(
        folder=str(Path.cwd()),
        checkpoints=address(checkpoint_folder(sweep)),
        data_dir=str(Path(execution.data_dir).resolve()),
        download=execution.download and not arguments.no_download,
        checkpoint_s=execution.checkpoint_s,
        threads=cores() if execution.threads == "auto" else execution.threads,
        methods=tuple(str(path) for path in sweep.methods),
        trainer=sweep.trainer.model_dump_json() if sweep.trainer else "",
    )


def _packs(runs: Sequence[AnyRun], size: int) -> Iterator[list[AnyRun]]:
    """Up to `size` runs of equal shape at a time, in the file's order."""
    groups: dict[str, list[AnyRun]] = defaultdict(list)
    for run in runs:
        groups[pack_shape(run)].append(run)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _say_stopped(cell: str, reason: str) -> None:
    say(f"{cell} is stopped: two of its runs raised the same error, {reason}; execution.fail_fast=false trains them")


def _train(sweep: Sweep, work: Work, pack: list[AnyRun], digests: dict[str, str], stops: Stops) -> Iterator[Record]:
    """Trains a pack; if it raises, each of its runs is tried alone, so that only the culprit fails."""
    pack = [run for run in pack if run.key not in stops]
    if not pack:
        return
    try:
        results = [Ended.from_json(values) for values in train_pack(work, encode(pack), lambda *_: None)]
    except InputError:
        raise
    except Exception as error:  # recorded as the run's reason
        if len(pack) > 1:
            say(f"a pack of {len(pack)} runs raised {describe(error)}; each is tried alone")
            for run in pack:
                yield from _train(sweep, work, [run], digests, stops)
            return
        if not (is_out_of_memory(error) or is_of_machine(error)):
            stops.raised(pack[0].key, describe(error))
        trace_file = {TRACE: base64.b64encode(trace(error).encode()).decode()}
        results = [Ended(pack[0].key, "failed", describe(error), artifacts=trace_file)]
    for run, ended in zip(pack, results, strict=True):
        tags = {"shape": shape(run), "device": device_name(), "pack": str(len(pack)), "processes": "1"}
        cell = sweep.cells[run.key]
        yield Record.of(run, ended, sweep.name, cell, data_sha=digests[run.key], tags=tags)
        remove_state(work.checkpoint(run.key))
