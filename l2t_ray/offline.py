"""The command line that trains a sweep without Ray and MLflow: on a machine that has neither, or no way to them.

    python -m l2t_ray.offline SWEEP [--pack K] [--part I/N]

Every result waits as a file in `.l2t/<sweep>/spool`. Copy that folder to where the ledger is and launch the sweep
there: the launch writes what waits first, and trains what is left. Launching this again goes on, from checkpoints too.
stdout is the result, stderr the progress. Exit codes: 0 every run of the part waits in the spool; 1 some failed,
diverged or were interrupted; 2 usage.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.errors import InputError, duration, exit_code
from l2t_ray.files import HOME
from l2t_ray.ledger.spool import Ended, Record, Spool

if TYPE_CHECKING:
    from l2t_ray.launch.worker.job import Work
    from l2t_ray.sweepfile.read import Sweep


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: arguments, by default the process'.

    Returns:
        The exit code.
    """
    arguments = _parser().parse_args(argv)
    return exit_code(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    from l2t_ray.launch.session import prepare_inputs
    from l2t_ray.sweepfile.read import read_sweep

    sweep = read_sweep(arguments.file, overrides=arguments.set, where=arguments.where)
    if sweep.search:
        law = "search must be launched with python -m l2t_ray.sweep, whose ledger its trials are judged by"
        raise InputError(f"{arguments.file}: {law}; or train a file without it")
    if sweep.sources:  # only with them are the runs' keys known
        raise InputError(
            f"{weights}: must be there; python -m l2t_ray.pretrain {file} trains it"
            for weights, file in sweep.sources.items()
        )
    part, n_parts = arguments.part
    mine = [*sweep.runs.values()][part - 1 :: n_parts]
    spool = Spool(HOME / sweep.name / "spool")
    waiting = {record.key: record for record in spool.records()}
    kept = {key for key, record in waiting.items() if record.outcome == "finished" or not arguments.retry_failed}
    to_train = [run for run in mine if run.key not in kept]
    _say(f"{sweep.name}: {len(mine)} runs in part {part} of {n_parts}, {len(to_train)} to train without Ray and MLflow")
    if to_train:
        work = _work(sweep, arguments)
        digests = prepare_inputs(to_train, work)
        started_s, n_ended = time.monotonic(), 0
        for pack in _packs(to_train, arguments.pack):
            for record in _train(sweep, work, pack, digests):
                spool.put(record)
                waiting[record.key] = record
            n_ended += len(pack)
            left_s = (time.monotonic() - started_s) / n_ended * (len(to_train) - n_ended)
            _say(f"{n_ended} of {len(to_train)} runs ended, about {duration(left_s)} left")
    ended = [waiting[run.key] for run in mine]
    lost = [record for record in ended if record.outcome != "finished"]
    for record in lost:
        _say(f"{record.name}: {record.outcome}: {record.tags['reason']}")
    print(
        f"{len(ended) - len(lost)} results wait in {spool.folder}; launching {arguments.file} writes them to its ledger"
    )
    return 1 if lost else 0


def _work(sweep: "Sweep", arguments: argparse.Namespace) -> "Work":
    from l2t_ray.launch.placement.devices import cores
    from l2t_ray.launch.session import checkpoint_folder
    from l2t_ray.launch.worker.job import Work
    from l2t_ray.training.storage import address

    execution = sweep.execution
    return Work(
        folder=str(Path.cwd()),
        checkpoints=address(checkpoint_folder(sweep)),
        data_dir=str(Path(execution.data_dir).resolve()),
        download=execution.download and not arguments.no_download,
        checkpoint_s=execution.checkpoint_s,
        threads=cores() if execution.threads == "auto" else execution.threads,
        methods=tuple(str(path) for path in sweep.methods),
    )


def _packs(runs: Sequence[Run], size: int) -> Iterator[list[Run]]:
    """Runs of equal shape, K at a time, in the file's order."""
    from l2t_ray.config import pack_shape

    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[pack_shape(run)].append(run)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _train(sweep: "Sweep", work: "Work", pack: list[Run], digests: dict[str, str]) -> Iterator[Record]:
    """How the runs of a pack ended; where a pack raises, its runs are tried alone, and only the culprit fails."""
    from l2t_ray.launch.placement.packing import shape
    from l2t_ray.launch.worker.job import encode
    from l2t_ray.launch.worker.train import describe, train_pack
    from l2t_ray.training.checkpoint import remove_state
    from l2t_ray.training.device import device_name

    try:
        results = [Ended.from_json(values) for values in train_pack(work, encode(pack), lambda *_: None)]
    except InputError:
        raise
    except Exception as error:  # recorded: as the run's reason
        if len(pack) > 1:
            _say(f"a pack of {len(pack)} runs raised {describe(error)}; each is tried alone")
            for run in pack:
                yield from _train(sweep, work, [run], digests)
            return
        results = [Ended(pack[0].key, "failed", describe(error))]
    for run, ended in zip(pack, results, strict=True):
        tags = {"shape": shape(run), "device": device_name(), "pack": str(len(pack)), "processes": "1"}
        cell = sweep.cells[run.key]
        yield Record.of(run, ended, sweep.name, cell, data_sha=digests[run.key], tags=tags)
        remove_state(work.checkpoint(run.key))


def _part(text: str) -> tuple[int, int]:
    part, _, n_parts = text.partition("/")
    if not (part.isdecimal() and n_parts.isdecimal() and 1 <= int(part) <= int(n_parts)):
        raise argparse.ArgumentTypeError(f"must be I/N with 1 <= I <= N, got {text!r}")
    return int(part), int(n_parts)


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m l2t_ray.offline", description="Train what a sweep file wants, without Ray and MLflow."
    )
    parser.add_argument("file", type=Path, help="the sweep file (YAML)")
    parser.add_argument("--pack", type=_count, default=1, metavar="K", help="runs trained together; 1 by default")
    parser.add_argument(
        "--part", type=_part, default=(1, 1), metavar="I/N", help="the I-th of N parts, for N processes"
    )
    parser.add_argument("--where", action="append", default=[], metavar="K=V", help="only runs with this setting")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="override a setting of every run")
    parser.add_argument("--retry-failed", action="store_true", help="train failed and diverged runs again")
    parser.add_argument("--no-download", action="store_true", help="fail where a data set is not there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
