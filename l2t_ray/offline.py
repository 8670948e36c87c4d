"""The command that trains a sweep without Ray and MLflow, on a machine that has neither or cannot reach them.

    python -m l2t_ray.offline SWEEP [--pack K] [--part I/N]

Every result waits as a file in `.l2t/<sweep>/spool`. Copy that folder to where the ledger is and launch the sweep
there: the launch writes the waiting results first and trains what is left. Calling this command again goes on, from
checkpoints too. stdout is the result, stderr the progress. Exit codes: 0 every run of the part waits in the spool;
1 some failed, diverged or were interrupted; 2 usage.
"""

import argparse
import sys
from collections.abc import Sequence

from l2t_ray.errors import InputError
from l2t_ray.usage import Parser, command, local


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; argv is the process' own by default."""
    about = "Train what a sweep file wants, without Ray and MLflow. Calling it again goes on."
    example = "python -m l2t_ray.offline sweeps/quickstart.yaml --pack 4"
    parser = Parser(prog="python -m l2t_ray.offline", description=about, form="FILE [options]", example=example)
    return command(configure, parser, argv)


def _run(arguments: argparse.Namespace) -> int:
    from l2t_ray.sweepfile.read import read_sweep

    sweep = read_sweep(arguments.file, overrides=arguments.set, where=arguments.where)
    if sweep.search:
        law = "search must be launched with python -m l2t_ray.sweep, whose ledger judges its trials"
        raise InputError(f"{arguments.file}: {law}; or train a file without it")
    if sweep.sources:  # the runs' keys are known only with them
        raise InputError(
            f"{weights}: must exist; python -m l2t_ray.pretrain {file} trains it"
            for weights, file in sweep.sources.items()
        )
    from l2t_ray.launch.inline import run_offline

    return run_offline(sweep, arguments)


def _part(text: str) -> tuple[int, int]:
    part, _, n_parts = text.partition("/")
    if not (part.isdecimal() and n_parts.isdecimal() and 1 <= int(part) <= int(n_parts)):
        raise argparse.ArgumentTypeError(f"must be I/N with 1 <= I <= N, got {text!r}")
    return int(part), int(n_parts)


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    parser.add_argument("file", type=local, help="the sweep file (YAML)")
    parser.add_argument("--pack", type=_count, default=1, metavar="K", help="runs trained together; 1 by default")
    parser.add_argument(
        "--part", type=_part, default=(1, 1), metavar="I/N", help="the I-th of N parts, for N processes"
    )
    parser.add_argument("--where", action="append", default=[], metavar="K=V", help="only runs with this setting")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="override a setting of every run")
    parser.add_argument("--retry-failed", action="store_true", help="train failed and diverged runs again")
    parser.add_argument("--no-download", action="store_true", help="fail where data or weights are not there")
    parser.set_defaults(run=_run)


if __name__ == "__main__":
    sys.exit(main())
