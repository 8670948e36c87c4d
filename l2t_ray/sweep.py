"""The main command: trains whatever a sweep wants and the ledger lacks.

Launching again resumes; launching a finished sweep does nothing. stdout is the result, stderr the progress.
Exit codes: 0 all is well; 1 some runs failed, diverged, were interrupted, or wait in the spool; 2 usage.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from l2t_ray.errors import exit_code, say


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; argv is the process' own by default."""
    return exit_code(lambda: _run(_parse(argv)))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.plan and arguments.status:
        parser.error("--plan and --status are two answers; ask for one of them")
    if arguments.fleet and not arguments.plan:
        parser.error("--fleet stands with --plan: a launch takes the devices that there are")
    return arguments


def _run(arguments: argparse.Namespace) -> int:
    from l2t_ray.launch.command import read, run_sweep

    sweep = read(arguments, arguments.where)
    say(*sweep.notes)
    if not sweep.search:
        return run_sweep(sweep, arguments)
    from l2t_ray.search.command import run_search

    code, best = run_search(sweep, arguments)
    if best is None:
        return code
    return max(code, _run(argparse.Namespace(**{**vars(arguments), "file": best, "set": []})))


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
    parser.add_argument("--trainer", help=argparse.SUPPRESS)  # benchmarks measure everything but the training
    return parser


if __name__ == "__main__":
    sys.exit(main())
