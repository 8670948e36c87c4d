"""The command `l2t` and its subcommands; each loads what it needs when it runs.

Exit codes are those of the `python -m` commands: 0 all is well; 1 some runs failed or something is missing; 2 usage.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import l2t_ray
from analysis import stats
from l2t_ray import pretrain, sweep
from l2t_ray.errors import exit_code, say
from l2t_ray.importing import command as importing
from l2t_ray.usage import Parser, local, parsed

ABOUT = "Find out whether one transfer-learning method beats another on small data."
SHELLS = ("bash", "zsh", "fish")
PORT = 5000
Configure = Callable[[argparse.ArgumentParser], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; argv is the process' own by default."""
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions
        import argcomplete

        argcomplete.autocomplete(parser)
    return exit_code(lambda: parsed(parser, argv))


def _parser() -> Parser:
    parser = Parser(prog="l2t", form="[COMMAND] [options]", description=ABOUT, example="l2t quickstart")
    parser.add_argument("--version", action="version", version=f"l2t-ray {l2t_ray.__version__}")
    parser.set_defaults(run=_overview)
    commands = parser.add_subparsers(prog="l2t", metavar="COMMAND", parser_class=Parser)

    def add(name: str, brief: str, configure: Configure, example: str, **more: Any) -> None:
        shown = f"l2t {name} {example}".strip()
        about = f"{brief[0].upper()}{brief[1:]}."
        configure(commands.add_parser(name, help=brief, **{"description": about, "example": shown, **more}))

    quickstart = "sweeps/quickstart.yaml"
    add("init", "copy the shipped sweep files into ./sweeps", _init, "", form="[FOLDER]")
    add("quickstart", "train a source and four methods on digits, then report", _quickstart, "")
    form, about = sweep.FORM, sweep.ABOUT
    check = partial(sweep.configure, form=sweep.CHECK)
    add("check", "look at images, weights and methods", check, quickstart, form=form, description=about[sweep.CHECK])
    plan = partial(sweep.configure, form=sweep.PLAN)
    add(
        "plan",
        "say what would run, how long, at what price",
        plan,
        quickstart,
        form=form,
        description=about[sweep.PLAN],
    )
    run = partial(sweep.configure, form=sweep.RUN)
    add("run", "train what a sweep file wants", run, quickstart, form=form, description=about[sweep.RUN])
    status = partial(sweep.configure, form=sweep.STATUS)
    add(
        "status", "say what is finished and what failed", status, quickstart, form=form, description=about[sweep.STATUS]
    )
    example = "quickstart --out report/quickstart"
    add("report", "print tables and tests, write a report", _report, example, form=stats.FORM, description=stats.ABOUT)
    add("import", "read runs of W&B, Hydra or a CSV table", importing.configure, importing.EXAMPLE, form=importing.FORM)
    example, form = "sweeps/quickstart_source.yaml", pretrain.FORM
    add("pretrain", "train a source network", pretrain.configure, example, form=form, description=pretrain.ABOUT)
    form, example = "RUN [options]", "1f0c9d2e4b6a8c0d --out net.pt2"
    add("export", "write a network that a run kept as a torch program", _export, example, form=form)
    add("ui", "open MLflow's pages of the ledger", _ui, "quickstart", form="[SWEEP] [options]")
    add("doctor", "look at this machine: what is missing, and the remedy", _doctor, "")
    add("completion", "print what makes a shell complete `l2t`", _completion, "bash >> ~/.bashrc", form="SHELL")
    return parser


def _overview(arguments: argparse.Namespace) -> int:
    from l2t.overview import print_overview

    print_overview(sys.stdout)
    return 0


def _init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=local, nargs="?", default=Path("sweeps"), help="by default ./sweeps")

    def run(arguments: argparse.Namespace) -> int:
        from l2t.shipped import copy_sweeps

        return copy_sweeps(arguments.folder)

    parser.set_defaults(run=run)


def _quickstart(parser: argparse.ArgumentParser) -> None:
    def run(arguments: argparse.Namespace) -> int:
        from l2t.shipped import run_quickstart

        return run_quickstart()

    parser.set_defaults(run=run)


def _report(parser: argparse.ArgumentParser) -> None:
    stats.configure(parser)

    def run(arguments: argparse.Namespace) -> int:
        from l2t.shipped import sweep_name

        files = [Path(word) for word in arguments.sweeps if sweep_name(word) != word]
        arguments.sweeps = [sweep_name(word) for word in arguments.sweeps]
        code = stats.run(arguments)
        for file in files:
            from l2t.edited import note_on  # it loads what reads sweep files

            if note := note_on(file, arguments.tracking_uri):
                say(note)
        return code

    parser.set_defaults(run=run)
    for action in parser._actions:
        if action.dest == "sweeps":
            action.help = "name or file of a sweep; by default every sweep"


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="RUN", help="its key, or MLflow's id of it")
    parser.add_argument("--out", type=local, default=Path("network.pt2"), metavar="FILE", help="by default network.pt2")
    parser.add_argument("--tracking-uri", metavar="URI", help="of the ledger; else MLFLOW_TRACKING_URI or mlflow.db")

    def run(arguments: argparse.Namespace) -> int:
        from l2t.export import export_run

        return export_run(arguments.name, arguments.out, arguments.tracking_uri)

    parser.set_defaults(run=run)


def _ui(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", nargs="?", metavar="SWEEP", help="name or file: its page; by default all of them")
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"on loopback; by default {PORT}")

    def run(arguments: argparse.Namespace) -> int:
        from l2t.pages import serve

        return serve(arguments.sweep, arguments.port)

    parser.set_defaults(run=run)


def _doctor(parser: argparse.ArgumentParser) -> None:
    def run(arguments: argparse.Namespace) -> int:
        from l2t.doctor import examine

        return examine(sys.stdout)

    parser.set_defaults(run=run)


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))

    def run(arguments: argparse.Namespace) -> int:
        import argcomplete

        print(argcomplete.shellcode(["l2t"], shell=arguments.shell))
        return 0

    parser.set_defaults(run=run)
