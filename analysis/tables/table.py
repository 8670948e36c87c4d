"""The table itself, the texts of its cells, and two tables: accuracies in the thesis' layout, and missing runs."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from analysis.results.cells import Cell, Condition
from analysis.results.comparison import MOST_UNLIKE, Comparison
from analysis.results.runs import LACKING, Gap
from analysis.results.wanted import images, order
from analysis.tables.names import MINUS, arm_name, data_name, family_text, one_pair, pair_place, place_cells, place_text
from l2t_ray.statistics.effect import Estimate
from l2t_ray.statistics.hypothesis import seed_list

NOTHING = "\N{EN DASH}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
LARGE = 1e15  # from here on a number has no decimals, and is written with an exponent


@dataclass(frozen=True)
class Table:
    """A table of texts for people; programs read the numbers from the CSV and JSON files of the report."""

    name: str  # of its files
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()  # what a reader must know, one sentence each
    rules: tuple[int, ...] = ()  # rows before which a line is drawn
    n_text: int = 1  # columns of text, from the left; the others hold numbers
    links: Mapping[tuple[int, int], str] = field(default_factory=dict)  # row and column -> where the page links it

    @property
    def numeric(self) -> range:
        """The numbers of the numeric columns, which are set to the right."""
        return range(self.n_text, len(self.header))


def accuracy_tables(
    cells: Sequence[Cell],
    comparisons: Sequence[Comparison],
    *,
    name: str = "accuracy",
    what: str = "Mean test accuracy in %",
    link: Callable[[Cell], str] | None = None,
) -> list[Table]:
    """A table for each data set, laid out as the thesis' Tables 1 to 3: methods by images per class, tests below.

    Args:
        cells: in the order of tables.
        comparisons: their tests stand below the methods where all are of the same two methods.
        name: begins the tables' names.
        what: the numbers are.
        link: gives the address of a cell's runs, for the page.

    Returns:
        The tables, by data set in alphabetical order.
    """
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.condition.data].append(cell)
    return [_accuracy_table(data, groups[data], comparisons, name, what, link) for data in sorted(groups)]


def _accuracy_table(
    data: str,
    cells: Sequence[Cell],
    comparisons: Sequence[Comparison],
    name: str,
    what: str,
    link: Callable[[Cell], str] | None,
) -> Table:
    samples = sorted({cell.condition.samples_per_class for cell in cells}, key=images)
    by_place = {(cell.arm, cell.condition.samples_per_class): cell for cell in cells}
    rows = [(arm_name(arm), *(accuracy_text(by_place.get((arm, label))) for label in samples)) for arm in arms(cells)]
    links = {
        (row, column): link(cell)
        for row, arm in enumerate(arms(cells))
        for column, label in enumerate(samples, start=1)
        if link is not None and (cell := by_place.get((arm, label))) is not None and cell.values
    }
    rules, notes = [], [f"{what} {PLUS_MINUS} 95 % half-width."]
    groups: dict[tuple[str, str], dict[str, Comparison]] = defaultdict(dict)
    for item in comparisons if one_pair(comparisons) else ():  # many pairs have a table of their own
        if item.condition.data == data:
            groups[item.a.arm, item.b.arm][item.condition.samples_per_class] = item
    for (a, b), here in groups.items():
        rules.append(len(rows))
        rows.append((
            f"{arm_name(a)} {MINUS} {arm_name(b)}",
            *_line(samples, here, lambda item: signed(item.difference, item.digits)),
        ))
        rows.append(("p", *_line(samples, here, _single_p)))
        rows.append(("p (Holm)", *_line(samples, here, lambda item: p_text(item.p_holm))))
        rows.append((
            "A12",
            *_line(samples, here, lambda item: f"{item.a12.value:.2f}" if item.has_values else NOTHING),
        ))
        notes.extend(f"{place_text(item.condition)}: {item.test.note}." for item in here.values() if item.test.note)
        notes.extend(f"{place_text(item.condition)}: {_decision(item)}." for item in here.values() if item.decision)
        notes.extend(unlike_notes([*here.values()]))
    if groups:
        designed = any(item.decision for here in groups.values() for item in here.values())
        looks = ", from the p adjusted for the declared looks" if designed else ""
        notes.insert(
            1,
            f"p is Mann-Whitney's, two-sided, of one test; Holm's over {family_text(comparisons)}{looks}; A12 is how "
            "often the first method is higher, ties counting half.",
        )
    if any(not cell.is_complete for cell in cells):
        notes.append("(k/n): k of n wanted runs have a result.")
        notes.extend(_lacking(cells))
    else:
        n = count_text(cells)
        notes.append(f"{n} run{'' if n == '1' else 's'} a cell.")
    axis, lowered = cells[0].condition.factors.axis, f"{what[0].lower()}{what[1:]}"
    header = (axis, *samples) if axis else (cells[0].condition.factors.method, lowered)
    title = f"{data_name(data)}: {lowered}{f' by {axis}' if axis else ''}"
    return Table(f"{name}_{data}", title, header, tuple(rows), tuple(dict.fromkeys(notes)), tuple(rules), links=links)


def missing_table(gaps: Sequence[Gap]) -> Table | None:
    """Wanted runs without a result, a row for each cell, state and reason; None where nothing is missing."""
    groups: dict[tuple[str, str, str, str, str], list[int]] = defaultdict(list)
    for gap in gaps:
        run = gap.wanted
        method = arm_name(f"{run.method}/{run.variant}")
        groups[data_name(run.data), run.samples_per_class, method, gap.outcome, gap.reason].append(run.seed)
    if not groups:
        return None
    rows: list[tuple[str, ...]] = [
        (*where, outcome, str(len(seeds)), seed_list(sorted(seeds)), reason)
        for (*where, outcome, reason), seeds in groups.items()
    ]
    factors = gaps[0].wanted.factors
    header: tuple[str, ...] = (factors.data, factors.axis, factors.method, "state", "runs", "seeds", "reason")
    if not factors.axis:
        header, rows = (header[0], *header[2:]), [(row[0], *row[2:]) for row in rows]
    return Table("missing", "Runs without a result", header, tuple(rows), n_text=len(header))


def arms(cells: Sequence[Cell]) -> list[str]:
    """The arms of the cells, in the order of tables."""
    keys = {cell.arm: (order(cell.method), cell.condition.variant) for cell in cells}
    return sorted(keys, key=lambda arm: keys[arm])


def unlike_notes(comparisons: Sequence[Comparison]) -> list[str]:
    """A sentence that names the comparisons which Brunner and Munzel's test decides; none without one."""
    places = [pair_place(item, comparisons) for item in comparisons if item.deciding is not item.test]
    if not places:
        return []
    return [
        f"{'; '.join(places)}: p and A12's interval are Brunner and Munzel's, because spreads or numbers of seeds "
        f"of these runs differ by more than {MOST_UNLIKE:g} to 1, where Mann-Whitney's test may find too much."
    ]


def accuracy_text(cell: Cell | None) -> str:
    """A cell's mean, half-width and, where runs are missing, counts: `41.08 ± 1.63 (27/30)`."""
    if cell is None:
        return NOTHING
    mean = cell.mean
    counts = "" if cell.is_complete else f" ({mean.n}/{cell.n_wanted})"
    if mean.mean is None:
        return f"missing{counts}"
    half = "" if mean.half_width is None else f" {PLUS_MINUS} {_number(mean.half_width, cell.digits)}"
    return f"{_number(mean.mean, cell.digits)}{half}{counts}"


def p_text(p: float | None) -> str:
    """A p with three digits, four below 0.1, so that 0.0499 does not look like a threshold of 0.05."""
    if p is None:
        return NOTHING
    if p < 0.0001:
        return "<0.0001"
    return f"{p:.4f}" if p < 0.1 else f"{p:.3f}"


def level_text(level: float | None) -> str:
    """A look's level with four digits, two significant ones below 0.001: `0.0120`, `0.00021`, `3.1e-07`."""
    if level is None:
        return NOTHING
    return f"{level:.4f}" if level >= 0.001 else f"{level:.2g}"


def signed(value: float | None, digits: int = 2) -> str:
    """A difference with its sign and a true minus; a dash for None."""
    if value is None:
        return NOTHING
    exact = round(value, max(9, digits + 3)) + 0.0  # what is left of a computation that gives 0 has no minus
    return _number(exact, digits, "+").replace("-", MINUS)


def _number(value: float, digits: int, sign: str = "") -> str:
    return f"{value:{sign}.{digits}{'e' if abs(value) >= LARGE else 'f'}}"


def points(margin: float, unit: str = "point") -> str:
    """A margin in words: `1 point`, `2.5 points`; `0.1 rmse` where the unit is a metric."""
    return f"{margin:g} {unit}{'s' if unit in {'point', 'epoch'} and margin != 1 else ''}"


def estimate_text(estimate: Estimate, *, sign: bool = False, digits: int = 2) -> str:
    """An estimate with its interval: `0.71 [0.57, 0.82]`; with `sign`, positive numbers have a plus."""

    def text(value: float) -> str:
        return signed(value, digits) if sign else _number(value, digits).replace("-", MINUS)

    if estimate.low is None or estimate.high is None:
        return text(estimate.value)
    return f"{text(estimate.value)} [{text(estimate.low)}, {text(estimate.high)}]"


def count_text(cells: Sequence[Cell]) -> str:
    """Runs per cell: `30`, or `28 to 30`."""
    counts = sorted({cell.mean.n for cell in cells})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _lacking(cells: Sequence[Cell]) -> list[str]:
    """A sentence for each cell with runs that are finished but lack what the table shows."""
    notes = []
    for cell in cells:
        seeds = [gap.wanted.seed for gap in cell.gaps if gap.outcome == LACKING]
        if seeds:
            reason = next(gap.reason for gap in cell.gaps if gap.outcome == LACKING)
            notes.append(
                f"{arm_name(cell.arm)}, {place_text(cell.condition)}, seed {seed_list(sorted(seeds))}: {reason}."
            )
    return notes


def _single_p(item: Comparison) -> str:
    if item.decision is not None and item.decision.p is not None:
        return f"{p_text(item.decision.p)} (look {item.decision.look})"
    return p_text(item.deciding.p)


def _decision(item: Comparison) -> str:
    decision = item.decision
    if decision is None or not decision.look:
        return "the declared design has taken no look yet"
    level = "" if decision.level is None else f", level {level_text(decision.level)}"
    return f"{decision.state} at look {decision.look} after {decision.n[0]} and {decision.n[1]} seeds{level}"


def _line(samples: Sequence[str], here: Mapping[str, Comparison], text: Callable[[Comparison], str]) -> list[str]:
    return [text(here[label]) if label in here else NOTHING for label in samples]


def condition_text(condition: Condition) -> tuple[str, ...]:
    """The first columns of a table of comparisons: the data set with its variant, and images per class if any."""
    name, *axis = place_cells(condition)
    return f"{name} {condition.variant}".strip(), *axis
