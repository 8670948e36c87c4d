"""The main command: trains whatever a sweep wants and the ledger lacks.

Launching again resumes; launching a finished sweep does nothing. stdout is the result, stderr the progress.
Exit codes: 0 all is well; 1 some runs failed, diverged, were interrupted, or wait in the spool; 2 usage.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from typing import Any

from l2t_ray.errors import say
from l2t_ray.usage import Parser, command, local

FORM = "FILE [options]"
RUN, PLAN, STATUS, CHECK = "run", "plan", "status", "check"  # the forms of `l2t`
ABOUT = {
    RUN: "Train what a sweep file wants and the ledger lacks. Launching again resumes.",
    PLAN: "Say what would be trained, on which devices and for how long. Starts nothing.",
    CHECK: "Look at all images and weights, and train one batch of every method.",
    STATUS: "Say what is finished and what failed, also while a launch is running.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; argv is the process' own by default."""
    example = "python -m l2t_ray.sweep sweeps/quickstart.yaml --plan"
    parser = Parser(prog="python -m l2t_ray.sweep", description=ABOUT[RUN], form=FORM, example=example)
    return command(configure, parser, argv)


def configure(parser: argparse.ArgumentParser, form: str = "") -> None:
    """Adds the command's arguments to a parser.

    Args:
        parser: without arguments.
        form: RUN, PLAN, STATUS or CHECK for that part alone; all of it by default.
    """

    def run(arguments: argparse.Namespace) -> int:
        if (asked := [f"--{name}" for name in (PLAN, STATUS, CHECK) if getattr(arguments, name)])[1:]:
            parser.error(f"{' and '.join(asked)} are {len(asked)} answers; ask for one of them")
        if arguments.address and arguments.backend != "ray":
            parser.error("--address stands with --backend ray")
        if arguments.fleet and not arguments.plan:
            parser.error("--fleet stands with --plan: a launch takes the devices that there are")
        return _run(arguments)

    parser.add_argument("file", type=local, help="the sweep file (YAML)")
    for name, forms, more in _OPTIONS:
        if not form or form in forms:
            parser.add_argument(name, **more)
        else:
            absent: Any = [] if more.get("action") == "append" else False if "action" in more else more.get("default")
            parser.set_defaults(**{name[2:].replace("-", "_"): absent})
    parser.set_defaults(run=run, **({form: True} if form in {PLAN, STATUS, CHECK} else {}))


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


# name, the forms that have it, argparse's settings; each fits a line of help
_OPTIONS: tuple[tuple[str, set[str], dict[str, Any]], ...] = (
    ("--plan", set(), {"action": "store_true", "help": "say what would be trained, and how long it takes"}),
    ("--check", set(), {"action": "store_true", "help": "look at images, weights and methods; start nothing"}),
    ("--fleet", {PLAN}, {"metavar": "KIND:N,...", "help": "with --plan: on these devices (h200:8, cpu:64)"}),
    ("--price-per-hour", {RUN, PLAN}, {"type": _price, "metavar": "P", "help": "of all devices, for the plan's price"}),
    ("--no-probe", {RUN}, {"action": "store_true", "help": "train at once, without measuring first"}),
    (
        "--page",
        {RUN},
        {"nargs": "?", "const": "", "metavar": "FILE", "help": "a live page, kept in FILE or .l2t/SWEEP/live.html"},
    ),
    ("--status", set(), {"action": "store_true", "help": "say what is finished, also during a launch"}),
    (
        "--where",
        {RUN, PLAN, STATUS, CHECK},
        {"action": "append", "default": [], "metavar": "K=V", "help": "only runs with this setting (repeatable)"},
    ),
    (
        "--set",
        {RUN, PLAN, STATUS, CHECK},
        {"action": "append", "default": [], "metavar": "K=V", "help": "change every run; the sweep then wants these"},
    ),
    ("--retry-failed", {RUN, PLAN}, {"action": "store_true", "help": "train failed and diverged runs again"}),
    ("--no-download", {RUN, PLAN, CHECK}, {"action": "store_true", "help": "fail where data or weights are not there"}),
    (
        "--backend",
        {RUN, PLAN},
        {"choices": ("ray", "inline", "slurm"), "default": "ray", "help": "what trains: Ray, this process, or Slurm"},
    ),
    ("--address", {RUN}, {"help": "of a running Ray cluster; else this machine"}),
    ("--json", {RUN, PLAN, STATUS}, {"action": "store_true", "help": "print the result as JSON"}),
)

if __name__ == "__main__":
    sys.exit(main())
