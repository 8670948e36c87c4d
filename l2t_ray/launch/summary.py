"""What a sweep has come to: cells with their counts and accuracies, failures with their reasons."""

import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TextIO

from l2t_ray.errors import count, duration
from l2t_ray.launch.placement.plan import Plan
from l2t_ray.launch.power import Detectable
from l2t_ray.ledger.entries import Entry, artifact_place, failures, finished
from l2t_ray.ledger.limits import safe_name
from l2t_ray.run import ACCURACY, AnyRun, Metric

REASONS_SHOWN, CELLS_SHOWN = 20, 200
NARROW = 100  # columns of a terminal; below, titles take several lines
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
    return Summary(sweep, len(runs), len(done), tuple(rows), told, metric.name)


def print_summary(summary: Summary, stream: TextIO) -> None:
    """Prints the summary as tables."""
    title = "mean test accuracy %" if summary.metric == ACCURACY.name else f"mean {summary.metric}"
    table = _table(stream, "cell", "finished", "diverged", "failed", title)
    for row in summary.cells:
        accuracy = "" if row.mean is None else number_text(row.mean)
        counts = [str(number) if number else "" for number in (row.n_diverged, row.n_failed)]
        table.add_row(row.cell, f"{row.n_finished}/{row.n_wanted}", *counts, accuracy)
    _print(table, stream)
    print_failures(summary, stream)


def print_failures(summary: Summary, stream: TextIO) -> None:
    """Prints the runs without a result, each with its reason."""
    for failure in summary.failures[:REASONS_SHOWN]:
        print(f"{failure.cell} seed {failure.seed} ({failure.key}) {failure.outcome}: {failure.reason}", file=stream)
        if failure.traceback:
            print(f"  traceback: {failure.traceback}", file=stream)
    if len(summary.failures) > REASONS_SHOWN:
        print(f"and {len(summary.failures) - REASONS_SHOWN} more: --json lists all", file=stream)
    if any(failure.traceback for failure in summary.failures):
        print("--retry-failed trains them again, once the error is corrected", file=stream)


def number_text(value: float) -> str:
    """A mean with two decimals, or with four digits where two decimals would show none of them."""
    return f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.4g}"


def print_plan(plan: Plan, power: Detectable | None, stream: TextIO) -> None:
    """Prints the plan as a table; `power` says what the seeds can show."""
    mixed = any(len(row.lanes) > 1 for row in plan.cells)
    titles = ("a run takes", "known from", "memory", "pack", "a device")
    table = _table(stream, "cell", "wanted", "finished", "to train", *(["on"] if mixed else []), *titles)
    for row in plan.cells[:CELLS_SHOWN]:
        head = [row.cell, *(str(number) for number in (row.n_wanted, row.n_finished, row.n_to_train))]
        if not row.lanes:
            table.add_row(*head)
        for lane in row.lanes:
            run = "unknown" if lane.run_s is None else duration(lane.run_s)
            memory = "" if lane.peak_bytes is None else f"{lane.peak_bytes / 2**30:.1f} GiB"
            place = [lane.device] if mixed else []
            table.add_row(*head, *place, run, lane.basis, memory, str(lane.pack), str(lane.processes))
            head = [""] * len(head)
    _print(table, stream)
    if len(plan.cells) > CELLS_SHOWN:
        print(f"and {len(plan.cells) - CELLS_SHOWN} more cells: --json lists all", file=stream)
    print(f"devices: {plan.fleet}", file=stream)
    for share, n_runs in plan.shares.items():
        print(f"placement of {count(n_runs, 'run')}: {share}", file=stream)
    if plan.wall_s is None:
        print(
            f"time: unknown, the duration of {count(plan.n_unmeasured, 'run')} was never measured on this device",
            file=stream,
        )
    elif plan.device_hours is not None:
        origins = ", ".join(f"{count(n_runs, 'run')} {BASES[basis]}" for basis, n_runs in plan.bases.items())
        hours = f"{plan.device_hours:.3g} device-hours"
        work = f"{duration(plan.work_s)} of training ({origins})"
        print(f"time: {duration(plan.wall_s)}, {hours}, {work}" if origins else "time: nothing to train", file=stream)
    if plan.price is not None:
        print(f"price: {plan.price:.2f}", file=stream)
    if power is not None:
        print(_told(power), file=stream)


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
    """Prints texts as a table; the columns of `left` begin at the left."""
    table = _table(stream, *header, left=left)
    for row in rows:
        table.add_row(*row)
    _print(table, stream)


def _table(stream: TextIO, *columns: str, left: Sequence[str] = ("cell",)) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    is_narrow = stream.isatty() and shutil.get_terminal_size().columns < NARROW
    table = Table(box=SIMPLE, pad_edge=False, show_edge=not is_narrow, padding=0 if is_narrow else (0, 1))
    for column in columns:
        title = column.replace(" ", "\n") if is_narrow else column
        justify: Literal["left", "right"] = "left" if column in left else "right"
        table.add_column(title, justify=justify, overflow="fold", no_wrap=column == "cell" or column not in left)
    return table


def _print(table: Any, stream: TextIO) -> None:
    from rich.console import Console

    console = Console(file=stream, highlight=False, markup=False)
    least = console.measure(table, options=console.options.update_width(160)).minimum
    console.width = max(console.width, least) if console.is_terminal else 160  # below that, cells would be left empty
    console.print(table)
