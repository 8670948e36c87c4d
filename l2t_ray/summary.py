"""What a sweep has come to: cells with their counts and accuracies, failures with their reasons."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from l2t_ray.config import Run
from l2t_ray.entries import Entry, failures, finished
from l2t_ray.placement import Plan
from l2t_ray.progress import duration

REASONS_SHOWN = 20


@dataclass(frozen=True)
class CellSummary:
    """One cell."""

    cell: str
    n_wanted: int
    n_finished: int
    n_diverged: int
    n_failed: int
    mean_test_accuracy_percent: float | None


@dataclass(frozen=True)
class Failure:
    """One run without a result."""

    key: str
    cell: str
    seed: int
    outcome: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """A sweep's state, from the ledger alone."""

    sweep: str
    n_wanted: int
    n_finished: int
    cells: tuple[CellSummary, ...]
    failures: tuple[Failure, ...]

    def to_json(self) -> dict[str, Any]:
        """This as plain values.

        Returns:
            What `--json` prints.
        """
        return asdict(self)


def summarize(sweep: str, runs: Mapping[str, Run], cells: Mapping[str, str], entries: Iterable[Entry]) -> Summary:
    """Looks the wanted runs up in the ledger.

    Args:
        sweep: its name.
        runs: wanted, by key.
        cells: key to cell.
        entries: of the ledger.

    Returns:
        The summary.
    """
    entries = list(entries)
    done, lost = finished(entries, runs), failures(entries, runs)
    keys: dict[str, list[str]] = defaultdict(list)
    for key in runs:
        keys[cells[key]].append(key)
    rows = []
    for cell, wanted in keys.items():
        accuracies = [
            done[key].metrics["test_accuracy_percent"]
            for key in wanted
            if key in done and "test_accuracy_percent" in done[key].metrics
        ]
        outcomes = [lost[key][0] for key in wanted if key in lost]
        rows.append(
            CellSummary(
                cell=cell,
                n_wanted=len(wanted),
                n_finished=sum(key in done for key in wanted),
                n_diverged=outcomes.count("diverged"),
                n_failed=outcomes.count("failed"),
                mean_test_accuracy_percent=sum(accuracies) / len(accuracies) if accuracies else None,
            )
        )
    told = tuple(Failure(key, cells[key], runs[key].seed, outcome, reason) for key, (outcome, reason) in lost.items())
    return Summary(sweep, len(runs), len(done), tuple(rows), told)


def print_summary(summary: Summary, stream: TextIO) -> None:
    """The summary as tables.

    Args:
        summary: of a sweep.
        stream: where to.
    """
    table = _table(stream, "cell", "finished", "diverged", "failed", "mean test accuracy %")
    for row in summary.cells:
        accuracy = "" if row.mean_test_accuracy_percent is None else f"{row.mean_test_accuracy_percent:.2f}"
        counts = [str(number) if number else "" for number in (row.n_diverged, row.n_failed)]
        table.add_row(row.cell, f"{row.n_finished}/{row.n_wanted}", *counts, accuracy)
    _print(table, stream)
    for failure in summary.failures[:REASONS_SHOWN]:
        print(f"{failure.cell} seed {failure.seed} ({failure.key}) {failure.outcome}: {failure.reason}", file=stream)
    if len(summary.failures) > REASONS_SHOWN:
        print(f"and {len(summary.failures) - REASONS_SHOWN} more: --json lists all", file=stream)


def print_plan(plan: Plan, stream: TextIO) -> None:
    """The plan as a table.

    Args:
        plan: of a launch.
        stream: where to.
    """
    table = _table(stream, "cell", "wanted", "finished", "to train", "a run takes")
    for row in plan.cells:
        run = "unknown" if row.run_s is None else duration(row.run_s)
        counts = [str(number) for number in (row.n_wanted, row.n_finished, row.n_to_train)]
        table.add_row(row.cell, *counts, run if row.n_to_train else "")
    _print(table, stream)
    print(f"placement: {plan.share}", file=stream)
    if plan.wall_s is None:
        print(f"time: unknown, {plan.n_unmeasured} runs are of shapes never measured on this device", file=stream)
    else:
        print(f"time: {duration(plan.wall_s)} ({duration(plan.work_s)} of training)", file=stream)
    if plan.price is not None:
        print(f"price: {plan.price:.2f}", file=stream)


def _table(stream: TextIO, *columns: str) -> Any:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column == "cell" else "right", overflow="fold")
    return table


def _print(table: Any, stream: TextIO) -> None:
    from rich.console import Console

    console = Console(file=stream, highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 160
    console.print(table)
