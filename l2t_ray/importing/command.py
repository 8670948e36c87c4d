"""The command that reads runs which other tools have trained into the ledger, so that a report can judge them.

Exit codes: 0 all rows are in the ledger; 1 some runs had failed or had no number, or the ledger did not take all; 2 a
row, a column or the ledger is wrong, and nothing was written.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from l2t_ray.errors import InputError, count, say
from l2t_ray.usage import Parser, command, local

if TYPE_CHECKING:
    from l2t_ray.importing.runs import Imported
    from l2t_ray.ledger.entries import Entry
    from l2t_ray.ledger.ledger import Ledger

ABOUT = "Read runs of W&B, Hydra or a CSV table into the ledger; `l2t report` then judges them."
FORM = "FILE --sweep NAME --metric NAME [options]"
EXAMPLE = "runs.csv --sweep mine --metric accuracy_percent"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  # of a sweep, as in its file
UNIT = "_percent"
DEVICE = "imported"  # the device of every imported run, by which it is told from trained ones
SHOWN = 10  # runs without a result


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; argv is the process' own by default."""
    prog = "python -m l2t_ray.importing.command"
    return command(configure, Parser(prog=prog, description=ABOUT, form=FORM, example=f"{prog} {EXAMPLE}"), argv)


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    parser.add_argument("file", type=local, help="CSV table, W&B's export (CSV, JSON), or Hydra's multirun folder")
    parser.add_argument("--sweep", required=True, metavar="NAME", help="the name of the sweep in the ledger")
    parser.add_argument("--metric", required=True, metavar="NAME", help="the result by which runs are compared")
    parser.add_argument("--lower-is-better", action="store_true", help="of that metric; else higher is better")
    parser.add_argument("--margin", type=_positive, metavar="M", help="smallest difference that matters; 1 percent")
    parser.add_argument("--seed", default="seed", metavar="NAME", help="the column of seeds; by default seed")
    listed = {"action": "append", "default": [], "metavar": "NAME"}
    parser.add_argument("--method", help="setting that is compared (repeatable)", **listed)  # type: ignore[arg-type]
    parser.add_argument("--axis", default="", metavar="NAME", help="setting along which cells are ordered (a size)")
    parser.add_argument("--settings", help="only these tell runs apart (repeatable)", **listed)  # type: ignore[arg-type]
    parser.add_argument("--ignore", help="column that is no setting (repeatable)", **listed)  # type: ignore[arg-type]
    parser.add_argument("--result", default="results.json", metavar="FILE", help="in each job's folder of Hydra")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Imports what the arguments name.

    Returns:
        The exit code.

    Raises:
        InputError: with a line for every problem, before anything is written.
    """
    from l2t_ray.importing.hydra import read_multirun
    from l2t_ray.importing.objects import SUFFIXES, read_json
    from l2t_ray.importing.runs import Asked, make_runs
    from l2t_ray.importing.tables import read_csv
    from l2t_ray.run import Metric

    file, name, metric = arguments.file, arguments.sweep, arguments.metric
    if not re.fullmatch(NAME, name):
        raise InputError(f"--sweep must be letters, digits, '.', '_' or '-', got {name!r}; choose another")
    if arguments.margin is None and not metric.endswith(UNIT):
        rule = f"--margin must be given for {metric}: the smallest difference that matters, in its unit"
        raise InputError(f"{rule}; add e.g. --margin 0.01")
    if file.is_dir():
        rows = read_multirun(file, arguments.result)
    else:
        rows = read_json(file) if file.suffix in SUFFIXES else read_csv(file, metric)
    counted = Metric(metric, arguments.lower_is_better, 1.0 if arguments.margin is None else arguments.margin)
    parts = (tuple(arguments.method), arguments.axis, tuple(arguments.settings), tuple(arguments.ignore))
    found = make_runs(name, rows, Asked(counted, arguments.seed, *parts))
    say(*found.notes)
    return write(found)


def write(found: "Imported") -> int:
    """Writes imported runs to the ledger.

    Returns:
        The exit code.

    Raises:
        InputError: if the ledger holds another result of one of the runs, or another process writes it.
    """
    from l2t_ray.files import HOME, Lock
    from l2t_ray.ledger.ledger import Ledger
    from l2t_ray.ledger.limits import safe_name

    ledger, metric = Ledger(found.name), safe_name(found.metric.name)
    ledger.check()
    rule, remedy = "another import or launch of this sweep runs", "import again then"
    with Lock(HOME / found.name / "lock", rule, remedy), ledger.writing():
        of_sweep = [entry for entry in ledger.entries([metric]) if entry.experiment == found.name]
        entries = [entry for entry in of_sweep if entry.kind == "run"]
        if trained := [entry for entry in entries if entry.tags.get("device") != DEVICE]:
            rule = f"--sweep {found.name}: must not have trained runs, got {len(trained)}"
            raise InputError(f"{rule}; import under another name")
        done = {entry.key: entry.metrics.get(metric) for entry in entries if entry.status == "FINISHED"}
        known = {**{entry.key: entry.tags.get("outcome") for entry in entries}, **dict.fromkeys(done, "finished")}
        if any(done[key] is None for key in done.keys() & found.results.keys()):
            rule = f"--metric must be {_metric_before(ledger, of_sweep)}, as {found.name} was imported before"
            raise InputError(f"{rule}, got {found.metric.name}; import this metric under another --sweep name")
        _refuse_changes(found, done)
        new = [key for key, ended in found.results.items() if known.get(key) not in {ended.status, "finished"}]
        for key in new:
            tags = {"device": DEVICE, "place": found.places[key], "name_elsewhere": found.tools_names[key]}
            ledger.record(found.runs[key], found.results[key], found.cells[key], tags=tags)
        n_left = ledger.flush()
        ledger.write_manifest(found, ledger.entries())
    return _tell(found, n_new=len(new), n_gone=len({entry.key for entry in entries} - {*found.runs}), n_left=n_left)


def _metric_before(ledger: "Ledger", entries: Iterable["Entry"]) -> str:
    """The metric with which runs were imported before, as the sweep's manifest names it."""
    from l2t_ray.ledger.reader import open_ledger

    reader, _ = open_ledger(ledger.uri)
    with suppress(ValueError, KeyError):  # damaged, or a file that cannot be reached
        for entry in entries:
            if entry.kind == "manifest" and (content := reader.artifact(entry, "manifest.json")):
                return str(json.loads(content)["metric"]["name"])
    return "another"


def _refuse_changes(found: "Imported", done: Mapping[str, float | None]) -> None:
    """Refuses a result that differs from the one that the ledger holds of the same run."""
    problems = []
    for key in done.keys() & found.results.keys():
        before, now = done[key], found.results[key]
        points = now.metrics.get(found.metric.name)
        value = points[-1][1] if points and now.status == "finished" else None
        if value != before:
            got = now.status if value is None else f"{value:g}"
            rule = f"{found.places[key]}: {found.metric.name} must be {before}, as imported before, got {got}"
            problems.append(f"{rule}; import under another --sweep name, or delete that run in MLflow")
    if problems:
        raise InputError(sorted(problems))


def _tell(found: "Imported", *, n_new: int, n_gone: int, n_left: int) -> int:
    lost = [key for key in found.runs if key not in found.results or found.results[key].status != "finished"]
    for key in lost[:SHOWN]:
        say(f"{found.places[key]}: {found.results[key].reason if key in found.results else 'still running'}")
    if len(lost) > SHOWN:
        say(f"{len(lost) - SHOWN} more without a result")
    if n_gone:
        say(f"{count(n_gone, 'run')} of an earlier import: not in this one; reports leave them out")
    n_cells = len({*found.cells.values()})
    print(f"{found.name}: {count(len(found.runs), 'run')} in {count(n_cells, 'cell')}, {n_new} new in the ledger")
    print(f"result: l2t report {found.name}")
    sys.stdout.flush()
    return 1 if lost or n_left else 0


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number > 0, got {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
