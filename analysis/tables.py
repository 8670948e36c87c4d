"""Tables of results: the thesis' layout for each data set, and what is missing."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from analysis.cells import Cell, Condition, methods_of, sort_key
from analysis.comparison import Comparison
from analysis.hypothesis import seed_list
from analysis.results import Gap

NAMES = {"scratch": "From scratch", "ufm": "UFM", "l2t_ww": "L2T-ww", "l2t_www": "L2T-www"}
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Table:
    """A table of texts; numbers for machines are in the tidy files.

    Attributes:
        name: of its files.
        title: one line.
        header: column titles.
        rows: texts.
        notes: what a reader must know, one sentence each.
        rules: row numbers before which a line is drawn.
        n_text: how many columns from the left are text; the others are numbers.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    rules: tuple[int, ...] = ()
    n_text: int = 1

    @property
    def numeric(self) -> range:
        """The columns that are set to the right."""
        return range(self.n_text, len(self.header))


def accuracy_tables(cells: Sequence[Cell], comparisons: Sequence[Comparison]) -> list[Table]:
    """The thesis' Tables 1 to 3: methods by images a class.

    Args:
        cells: all.
        comparisons: of one pair of methods; none for a single method.

    Returns:
        One table a data set and variant.
    """
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.condition.data, cell.condition.variant].append(cell)
    return [_accuracy_table(data, variant, group, comparisons) for (data, variant), group in sorted(groups.items())]


def _accuracy_table(data: str, variant: str, cells: Sequence[Cell], comparisons: Sequence[Comparison]) -> Table:
    conditions = sorted({cell.condition for cell in cells}, key=sort_key)
    by_place = {(cell.method, cell.condition): cell for cell in cells}
    here = {item.condition: item for item in comparisons if item.condition in conditions}
    rows = [
        (method_name(method), *(accuracy_text(by_place.get((method, condition))) for condition in conditions))
        for method in methods_of(cells)
    ]
    rules: tuple[int, ...] = ()
    notes = ["Mean test accuracy in % \N{PLUS-MINUS SIGN} 95 % half-width."]
    if here:
        rules = (len(rows),)
        a, b = next(iter(here.values())).a, next(iter(here.values())).b
        rows.append((f"{label(a)} \N{MINUS SIGN} {label(b)}", *_line(conditions, here, _difference)))
        rows.append(("p (Mann-Whitney)", *_line(conditions, here, lambda item: p_text(item.test.p))))
        notes.extend(sorted({f"{item.condition}: {item.test.note}." for item in here.values() if item.test.note}))
    if any(not cell.is_complete for cell in cells):
        notes.append("(k/n): k of n wanted runs have a result; what is missing is listed below.")
    else:
        notes.append(f"{_counts(cells)} runs a cell.")
    title = f"{data}: test accuracy by images a class" + (f", {variant}" if variant else "")
    name = "_".join(["accuracy", data, *([variant] if variant else [])])
    header = ("images a class", *(condition.samples_per_class for condition in conditions))
    return Table(name, title, header, tuple(rows), tuple(notes), rules)


def missing_table(gaps: Sequence[Gap]) -> Table | None:
    """Every wanted run without a result, never averaged away.

    Args:
        gaps: of the results.

    Returns:
        A row for each cell, outcome and reason; None where nothing is missing.
    """
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for gap in gaps:
        groups[gap.wanted.cell, gap.outcome, gap.reason].append(gap.wanted.seed)
    if not groups:
        return None
    rows = [
        (cell, outcome, str(len(seeds)), seed_list(sorted(seeds)), reason)
        for (cell, outcome, reason), seeds in groups.items()
    ]
    return Table(
        "missing", "Runs without a result", ("cell", "state", "runs", "seeds", "reason"), tuple(rows), n_text=5
    )


def method_name(method: str) -> str:
    """A method for people.

    Args:
        method: its name in sweep files.

    Returns:
        The thesis' name where it has one.
    """
    return NAMES.get(method, method)


def label(cell: Cell, *, variant: bool = False) -> str:
    """A cell's method for people.

    Args:
        cell: any.
        variant: whether to tell its variant.

    Returns:
        The method's name.
    """
    return method_name(cell.method) + (f" {cell.condition.variant}" if variant and cell.condition.variant else "")


def accuracy_text(cell: Cell | None) -> str:
    """A cell's mean, half-width and, where runs are missing, counts.

    Args:
        cell: None where the sweep does not want it.

    Returns:
        "41.08 ± 1.63 (27/30)"
    """
    if cell is None:
        return NOTHING
    mean = cell.mean
    counts = "" if cell.is_complete else f" ({mean.n}/{cell.n_wanted})"
    if mean.mean is None:
        return f"missing{counts}"
    half = "" if mean.half_width is None else f" \N{PLUS-MINUS SIGN} {mean.half_width:.2f}"
    return f"{mean.mean:.2f}{half}{counts}"


def p_text(p: float | None) -> str:
    """A p for people.

    Args:
        p: or None.

    Returns:
        Three digits, four below 0.01.
    """
    if p is None:
        return NOTHING
    if p < 0.0001:
        return "<0.0001"
    return f"{p:.4f}" if p < 0.01 else f"{p:.3f}"


def signed(value: float | None, digits: int = 2) -> str:
    """A difference for people.

    Args:
        value: or None.
        digits: after the point.

    Returns:
        With its sign, a true minus.
    """
    return NOTHING if value is None else f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _difference(item: Comparison) -> str:
    return signed(item.difference)


def _line(
    conditions: Sequence[Condition], here: Mapping[Condition, Comparison], text: Callable[[Comparison], str]
) -> list[str]:
    return [text(here[condition]) if condition in here else NOTHING for condition in conditions]


def _counts(cells: Sequence[Cell]) -> str:
    counts = sorted({cell.mean.n for cell in cells})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
