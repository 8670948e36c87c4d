"""The command line of the analysis: reads finished runs, prints tables and tests, draws figures and writes a report.

stdout is the product (tables, or JSON with `--json`), stderr the progress. Exit codes: 0 every wanted run has a result;
1 some have none (they are listed), or a file or stdout cannot be written; 2 wrong usage or an unreachable ledger.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from l2t_ray.errors import InputError, printable, wrapped
from l2t_ray.ledger.address import pages, tracking_uri
from l2t_ray.usage import Parser, command, local

ABOUT = "Print tables and tests of finished runs, draw figures, write a report."
FORM = "[SWEEP ...] [options]"
METRIC = "test_accuracy_percent"  # as in analysis.results.runs, whose import would take a second (pandas)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; `argv` is by default the process' own."""
    example = "python -m analysis.stats quickstart --out report/quickstart"
    parser = Parser(prog="python -m analysis.stats", description=ABOUT, form=FORM, example=example)
    return command(configure, parser, argv)


def run(arguments: argparse.Namespace) -> int:
    """Does what the arguments ask for; returns the exit code."""
    from analysis.figures.accuracy import draw_accuracy
    from analysis.figures.style import file_name, writing
    from analysis.report.answer import answer, nothing_missing
    from analysis.report.evidence import Question, gather
    from analysis.report.numbers import missing_json, summary_json
    from analysis.report.page import FIGURES, write_report
    from analysis.report.sections import draw_all
    from analysis.tables.render import print_table
    from analysis.tables.table import missing_table
    from l2t_ray.ledger.attached import attach

    pair = tuple(arguments.compare) if arguments.compare else None
    question = Question(arguments.metric, pair, arguments.baseline, arguments.alpha, arguments.margin)
    evidence = gather(arguments.sweeps, question, uri=arguments.tracking_uri)
    results, code = evidence.results, 1 if evidence.gaps else 0
    print(f"{', '.join(results.sweeps)}: {len(results.runs)} of {len(results.wanted)} runs finished", file=sys.stderr)
    if arguments.missing:
        missing = missing_table(evidence.gaps)
        if arguments.json:
            print(json.dumps(missing_json(evidence), indent=2))
        elif missing:
            print_table(missing, sys.stdout)
        else:
            print(nothing_missing(evidence))
        return code
    failed: OSError | None = None
    if arguments.out:
        _check_folder(arguments.out)
        folder = arguments.out / FIGURES
        with writing(arguments.formats):
            figures = draw_all(evidence, folder)
        page = write_report(
            evidence, arguments.out, mlflow_url=arguments.mlflow_url, out=printable(str(arguments.out)), figures=figures
        )
        drawings, closing = figures["accuracy"], [f"report: {page}"]
        undrawn = [figure.caption for group in figures.values() for figure in group if not figure.svg]
        if arguments.attach:
            for sweep in results.sweeps:
                attach(tracking_uri(arguments.tracking_uri), sweep, page)  # `results.uri` lacks the password
            closing.append(f"attached in MLflow to {', '.join(results.sweeps)}")
    else:
        folder = Path("report", file_name("+".join(results.sweeps)))
        drawings, closing, undrawn = [], [], []
        name = "accuracy" if evidence.is_transfer else "means"
        try:
            with writing(arguments.formats):
                drawings = draw_accuracy(evidence.cells, folder, unit=evidence.question.unit, name=name)
            undrawn = [figure.caption for figure in drawings if not figure.svg]
        except OSError as error:  # somebody else's folder: the tables are printed first
            failed = error
    paths = [str(folder / f"{drawing.name}.svg") for drawing in drawings if drawing.svg]
    none = [] if undrawn else ["no figure: no run has finished yet"]
    told = [*([f"figure: {', '.join(paths)}"] if paths else none), *undrawn]
    ids = {entry.experiment: entry.experiment_id for entry in results.entries.values()}
    shown = pages(results.uri, results.sweeps, ids, is_default=not arguments.tracking_uri)
    closing = [*([] if failed else told), *closing, f"pages: {shown}"]
    if arguments.json:
        print(json.dumps(summary_json(evidence), indent=2, allow_nan=False))
        print(*closing, sep="\n", file=sys.stderr)
        return _ended(code, failed)
    print(*(wrapped(line, sys.stdout) for line in answer(evidence)), "", sep="\n\n")
    for table in evidence.main_tables():
        print_table(table, sys.stdout)
    for notice in results.notices:
        print(wrapped(f"note: {notice}", sys.stdout))
    print(*closing, sep="\n")
    return _ended(code, failed)


def _ended(code: int, failed: OSError | None) -> int:
    if failed:
        raise failed
    return code


def _check_folder(folder: Path) -> None:
    # refuse before the minutes of work, not after them
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: --out must be a folder that can be written to, got {error.strerror!r}") from error


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""

    def checked(arguments: argparse.Namespace) -> int:
        if arguments.attach and not arguments.out:
            parser.error("--attach stands with --out DIR: it copies that report")
        return run(arguments)

    asked = parser.add_mutually_exclusive_group()
    parser.add_argument("sweeps", nargs="*", metavar="SWEEP", help="name of a sweep; by default every sweep")
    parser.add_argument("--out", type=local, metavar="DIR", help="write the whole report into this folder")
    parser.add_argument("--attach", action="store_true", help="with --out: copy the page into MLflow, too")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    asked.add_argument("--baseline", metavar="B", help="compare every method with B; by default with scratch")
    asked.add_argument("--compare", nargs=2, metavar=("A", "B"), help="compare two methods; by default a design's")
    told = f"by default the sweep's, else {METRIC}"
    parser.add_argument("--metric", metavar="NAME", help=told)
    parser.add_argument("--alpha", type=_alpha, default=0.05, metavar="A", help="significance level; by default 0.05")
    parser.add_argument(
        "--margin", type=_positive, metavar="M", help="smallest difference that matters; the sweep's, else 1"
    )
    parser.add_argument(
        "--formats", type=_formats, default=("svg",), metavar="LIST", help="of figures: svg (default),pdf,png"
    )
    parser.add_argument("--missing", action="store_true", help="list only the runs without a result")
    parser.add_argument("--tracking-uri", metavar="URI", help="of the ledger; else MLFLOW_TRACKING_URI or mlflow.db")
    parser.add_argument("--mlflow-url", type=_url, metavar="URL", help="of MLflow's pages, for the report's links")
    parser.set_defaults(run=checked)


def _formats(text: str) -> tuple[str, ...]:
    kinds = tuple(text.replace(" ", "").split(","))
    if unknown := [kind for kind in kinds if kind not in {"svg", "pdf", "png"}]:
        raise argparse.ArgumentTypeError(f"must be a list of svg, pdf and png, got {', '.join(unknown)!r}")
    return kinds


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"must be an address such as http://127.0.0.1:5000, got {text!r}")
    return text


def _positive(text: str) -> float:
    return _number(text, float("inf"), "must be > 0")


def _alpha(text: str) -> float:
    return _number(text, 1.0, "must be between 0 and 1")


def _number(text: str, below: float, law: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < below:
        raise argparse.ArgumentTypeError(f"{law}, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
