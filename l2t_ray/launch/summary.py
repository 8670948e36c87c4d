"""What a sweep has come to: cells with their counts and accuracies, failures with their reasons."""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TextIO

from l2t_ray.errors import as_shown, count, duration, width_of, wrapped
from l2t_ray.launch.placement.plan import Plan
from l2t_ray.launch.power import Detectable
from l2t_ray.ledger.entries import Entry, artifact_place, failures, finished
from l2t_ray.ledger.limits import safe_name
from l2t_ray.run import ACCURACY, AnyRun, Metric

REASONS_SHOWN, CELLS_SHOWN = 20, 200
NARROW = 100  # columns of a terminal; below, titles take several lines
FILE_WIDTH = 160
BASES = {
    "ledger": "as in the ledger",
    "measured": "as measured here",
    "shipped": "as measured elsewhere and shipped",
    "other settings": "as runs with other settings",
    "estimate": "ESTIMATED by arithmetic, not measured",
}


@dataclass(frozen=True)
class CellSummary:
    """The state of one cell."""

    cell: str
    n_wanted: int
    n_finished: int
    n_diverged: int
    n_failed: int
    mean_test_accuracy_percent: float | None
    mean: float | None  # of the metric that counts


@dataclass(frozen=True)
class Failure:
    """One run without a result."""

    key: str
    cell: str
    seed: int
    outcome: str
    reason: str
    traceback: str = ""  # the file with all lines of the error


@dataclass(frozen=True)
class Summary:
    """A sweep's state, from the ledger alone."""

    sweep: str
    n_wanted: int
    n_finished: int
    cells: tuple[CellSummary, ...]
    failures: tuple[Failure, ...]
    metric: str = ACCURACY.name
    n_without_metric: int = 0  # finished runs that do not have it

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return asdict(self)


def summarize(
    sweep: str,
    runs: Mapping[str, AnyRun],
    cells: Mapping[str, str],
    entries: Iterable[Entry],
    metric: Metric = ACCURACY,
) -> Summary:
    """Looks up the wanted runs in the ledger; means are of the metric."""
    name = safe_name(metric.name)
    entries = list(entries)
    done, lost = finished(entries, runs), failures(entries, runs)
    keys: dict[str, list[str]] = defaultdict(list)
    for key in runs:
        keys[cells[key]].append(key)
    rows = []
    for cell, wanted in keys.items():
        values = [done[key].metrics[name] for key in wanted if key in done and name in done[key].metrics]
        mean = sum(values) / len(values) if values else None
        outcomes = [lost[key][0] for key in wanted if key in lost]
        rows.append(
            CellSummary(
                cell=cell,
                n_wanted=len(wanted),
                n_finished=sum(key in done for key in wanted),
                n_diverged=outcomes.count("diverged"),
                n_failed=outcomes.count("failed"),
                mean_test_accuracy_percent=mean if metric == ACCURACY else None,
                mean=mean,
            )
        )
    traces = {
        entry.key: artifact_place(entry, entry.tags["error"])
        for entry in entries
        if entry.key in lost and entry.status == "FAILED" and entry.tags.get("error")
    }
    told = tuple(
        Failure(key, cells[key], runs[key].seed, outcome, reason, traces.get(key, ""))
        for key, (outcome, reason) in lost.items()
    )
    n_without = 0 if metric == ACCURACY else sum(name not in entry.metrics for entry in done.values())
    return Summary(sweep, len(runs), len(done), tuple(rows), told, metric.name, n_without)


def print_summary(summary: Summary, stream: TextIO) -> None:
    """Prints the summary as tables."""
    title = "mean test accuracy %" if summary.metric == ACCURACY.name else f"mean {summary.metric}"
    rows = []
    for row in summary.cells:
        accuracy = "" if row.mean is None else number_text(row.mean)
        counts = [str(number) if number else "" for number in (row.n_diverged, row.n_failed)]
        rows.append((row.cell, f"{row.n_finished}/{row.n_wanted}", *counts, accuracy))
    print_rows(("cell", "finished", "diverged", "failed", title), rows, stream)
    if summary.n_without_metric:
        lacking = f"{summary.n_without_metric} of {count(summary.n_finished, 'finished run')}"
        rule = f"metric.name must be a result of every run, got {summary.metric!r}, which {lacking} lack"
        _tell(stream, f"{rule}; correct it, or train them again: give the trainer another `version:`")
    print_failures(summary, stream)


def print_failures(summary: Summary, stream: TextIO) -> None:
    """Prints the runs without a result, each with its reason."""
    for failure in summary.failures[:REASONS_SHOWN]:
        _tell(stream, f"{failure.cell} seed {failure.seed} ({failure.key}) {failure.outcome}: {failure.reason}")
        if failure.traceback:
            _tell(stream, f"  traceback: {failure.traceback}")
    if len(summary.failures) > REASONS_SHOWN:
        _tell(stream, f"and {len(summary.failures) - REASONS_SHOWN} more: --json lists all")
    if any(failure.traceback for failure in summary.failures):
        _tell(stream, "--retry-failed trains them again, once the error is corrected")


def _tell(stream: TextIO, line: str) -> None:
    print(wrapped(line, stream), file=stream)


def number_text(value: float) -> str:
    """A mean with two decimals, or with four digits where two decimals would show none of them."""
    return f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.4g}"


def print_plan(plan: Plan, power: Detectable | None, stream: TextIO) -> None:
    """Prints the plan as a table; `power` says what the seeds can show."""
    mixed = any(len(row.lanes) > 1 for row in plan.cells)
    lane_titles = ("a run takes", "known from", "memory", "pack", "a device")
    titles = ("cell", "wanted", "finished", "to train", *(["on"] if mixed else []), *lane_titles)
    rows = []
    for row in plan.cells[:CELLS_SHOWN]:
        head = [row.cell, *(str(number) for number in (row.n_wanted, row.n_finished, row.n_to_train))]
        if not row.lanes:
            rows.append(head + [""] * (len(titles) - len(head)))
        for lane in row.lanes:
            run = "unknown" if lane.run_s is None else duration(lane.run_s)
            memory = "" if lane.peak_bytes is None else f"{lane.peak_bytes / 2**30:.1f} GiB"
            place = [lane.device] if mixed else []
            rows.append([*head, *place, run, lane.basis, memory, str(lane.pack), str(lane.processes)])
            head = [""] * len(head)
    print_rows(titles, rows, stream)
    if len(plan.cells) > CELLS_SHOWN:
        _tell(stream, f"and {len(plan.cells) - CELLS_SHOWN} more cells: --json lists all")
    _tell(stream, f"devices: {plan.fleet}")
    for share, n_runs in plan.shares.items():
        _tell(stream, f"placement of {count(n_runs, 'run')}: {share}")
    if plan.n_unmeasured:
        unmeasured = count(plan.n_unmeasured, "run")
        _tell(stream, f"time: unknown, the duration of {unmeasured} was never measured on this device")
    elif plan.wall_s is not None and plan.device_hours is not None:
        origins = ", ".join(f"{count(n_runs, 'run')} {BASES[basis]}" for basis, n_runs in plan.bases.items())
        hours = f"{plan.device_hours:.3g} device-hours"
        work = f"{duration(plan.work_s)} of training ({origins})"
        _tell(stream, f"time: {duration(plan.wall_s)}, {hours}, {work}" if origins else "time: nothing to train")
    if plan.price is not None:
        _tell(stream, f"price: {plan.price:.2f}")
    if power is not None:
        _tell(stream, _told(power))


def _told(power: Detectable) -> str:
    compared = count(power.n_comparisons, "comparison")
    family = f"{count(power.n_seeds, 'seed')}, {compared}, alpha {power.alpha:.2g} each"
    if power.a12 is None or power.sds is None:
        return f"power: {family}: too few seeds to find any difference 4 times in 5"
    points = f"{power.sds:.2f} standard deviations of a run"
    if power.difference is not None and power.sd is not None:
        unit = "accuracy points" if power.accuracy_points is not None else f"of {power.metric}"
        points = f"{number_text(power.difference)} {unit} ({points}, {number_text(power.sd)})"
    return f"power: {family}: 80 % for differences from A12 = {power.a12:.2f}, {points}"


def print_rows(
    header: Sequence[str], rows: Iterable[Sequence[str]], stream: TextIO, left: Sequence[str] = ("cell",)
) -> None:
    """Prints texts as a table; the columns of `left` begin at the left.

    On a terminal the widest columns break between words, until the table fits.
    """
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    width, texts = width_of(stream), [[as_shown(text, stream) for text in row] for row in (header, *rows)]
    console = Console(file=stream, highlight=False, markup=False, width=width or FILE_WIDTH)

    def drawn(columns: Sequence[Sequence[str]], *, is_narrow: bool) -> Table:
        table = Table(box=SIMPLE, pad_edge=False, show_edge=not is_narrow, padding=0 if is_narrow else (0, 1))
        for name, (title, *_) in zip(header, columns, strict=True):
            justify: Literal["left", "right"] = "left" if name in left else "right"
            no_wrap = width is not None or name == "cell" or name not in left
            table.add_column(title, justify=justify, overflow="fold", no_wrap=no_wrap)
        for row in [*zip(*columns, strict=True)][1:]:
            table.add_row(*row)
        return table

    def needed(table: Table) -> int:
        return console.measure(table, options=console.options.update_width(sys.maxsize)).maximum

    columns = [*zip(*texts, strict=True)]
    table = drawn(columns, is_narrow=False)
    if width is not None and (width < NARROW or needed(table) > width):
        columns = [(title.replace(" ", "\n"), *column) for title, *column in columns]
        table = drawn(columns, is_narrow=True)
        widths = [max(len(line) for text in column for line in text.split("\n")) for column in columns]
        for index in sorted(range(len(columns)), key=lambda index: -widths[index]):
            if (over := needed(table) - width) > 0:
                columns[index] = tuple(_folded(text, widths[index] - over) for text in columns[index])
                table = drawn(columns, is_narrow=True)
        console.width = max(width, needed(table))  # what is wider still, the terminal breaks
    console.print(table)


def _folded(text: str, width: int) -> str:
    """Breaks a text after blanks and after the marks in names."""
    lines = [""]
    for word in re.findall(r"[^ /_\n-]+[ /_\n-]?|[ /_\n-]", text):
        if lines[-1].endswith("\n") or (lines[-1] and len((lines[-1] + word).rstrip()) > width):
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip() for line in lines)
