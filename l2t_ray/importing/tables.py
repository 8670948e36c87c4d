"""Reads a CSV table of runs, as W&B, pandas and spreadsheets export it."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from l2t_ray.errors import InputError
from l2t_ray.importing.rows import STATES, Row, is_wandbs, read_text, value_of

SEPARATORS = ",;\t"
# what W&B's table has beside settings and results
BOOKKEEPING = frozenset({
    *("Name", "ID", "State", "Notes", "User", "Tags", "Created", "Runtime", "Updated", "Sweep", "Group", "Job Type"),
    *("Hostname", "Description", "Host", "GitHub", "Commit", "Git Commit", "Start Time", "End Time"),
    *("GPU Count", "GPU Type", "Relative Time (Process)"),
})
WANDB = frozenset({"Name", "State"})  # in every table of W&B's
OURS = frozenset({"key", "run_id", "wall_s", "peak_bytes"})  # in a table of the ledger's runs; no settings
PANDAS_INDEX = ("", "Unnamed: 0")  # the heading of a first column that numbers the rows
Line = tuple[str, list[str]]  # its place, its cells


def read_csv(path: Path, metric: str = "") -> list[Row]:
    """Reads a table with a heading and a run a line.

    Args:
        path: of the CSV file: commas, semicolons or tabs between its values.
        metric: the column that must not have thousands with dots.

    Returns:
        Its rows.

    Raises:
        InputError: if it has no heading or no run, a line has another number of values, a column with values has no
            name, or it is not clear whether a dot stands before decimals.
    """
    text = read_text(path)
    first, _, rest = text.partition("\n")
    told = re.fullmatch(r'"?sep=(.)"?\s*', first)  # Excel's first line
    text, first, delimiter = (rest, rest.partition("\n")[0], told[1]) if told else (text, first, "")
    delimiter = delimiter or max(SEPARATORS, key=first.count)
    lines = _lines(path, text, delimiter, 2 if told else 1)
    (place, names), lines = lines[0], lines[1:]
    names = _heading(place, names, delimiter)
    lines = [line for line in lines if any(cell.strip() for cell in line[1])]
    if problems := _wrong_lengths(names, lines):
        raise InputError(problems)
    if not lines:
        raise InputError(f"{path}: must have a run a line below its heading, got none; export the runs again")
    columns = {number: [cells[number].strip() for _, cells in lines] for number in range(len(names))}
    index = names[0] in PANDAS_INDEX and columns[0] == [str(number) for number in range(len(lines))]
    for number, name in enumerate(names):
        if not name and not (index and number == 0):
            if got := next((cell for cell in columns[number] if cell), ""):
                rule = f"{place}: column {number + 1} must have a name, it has values such as {got[:20]!r}"
                problems.append(f"{rule}; give the column a name, or take it out")
            del columns[number]
    if problems:
        raise InputError(problems)
    if delimiter == ";" and metric in names:
        _refuse_thousands(metric, columns[names.index(metric)], [*columns.values()], [place for place, _ in lines])
    named = {names[number]: cells for number, cells in columns.items()}
    return _rows([place for place, _ in lines], named, {names[0]} if index else set())


def _lines(path: Path, text: str, delimiter: str, line: int) -> list[Line]:
    """The lines of a table, the heading first, blank ones left out."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found, before = list[Line](), line - 1
    try:
        for cells in reader:
            if cells or not found:
                found.append((f"{path}:{line}", cells))
            line = before + reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{line}: must be a line of CSV, got {error}; quote its texts") from error
    return found or [(f"{path}:{line}", [])]


def _heading(place: str, cells: Sequence[str], delimiter: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    named = [name for name in names if name]
    if len(named) == 1 or delimiter not in SEPARATORS:
        rule = f"{place}: the columns must be separated by commas, semicolons or tabs"
        raise InputError(f"{rule}, got {delimiter.join(names)[:60]!r}; save the table so")
    if len({*named}) < len(named) or not named:
        twice = next((name for name in named if named.count(name) > 1), "")
        raise InputError(f"{place}: the first line must name every column once, got {twice or 'nothing'!r}")
    return names


def _wrong_lengths(names: list[str], lines: Sequence[Line]) -> list[str]:
    """Problems of lines whose number of values is not the heading's; empty cells at their ends do not count."""
    problems = []
    for at, cells in lines:
        if any(cell.strip() for cell in cells[len(names) :]) or any(names[len(cells) :]):
            n_named = max(number for number, name in enumerate(names, start=1) if name)
            problems.append(f"{at}: must have {n_named} values, as the heading, got {len(cells)}")
        cells[len(cells) :] = [""] * (len(names) - len(cells))
    return problems


def _refuse_thousands(
    metric: str, cells: Sequence[str], columns: Sequence[Sequence[str]], places: Sequence[str]
) -> None:
    """Refuses 1.012 where it may be a thousand and twelve: beside 998, or where others have decimal commas."""
    dotted = [cell for cell in cells if "." in cell]
    if not dotted or not all(re.fullmatch(r"[+-]?[1-9]\d{0,2}\.\d{3}", cell) for cell in dotted):
        return
    whole = next((cell for cell in cells if re.fullmatch(r"[+-]?\d{3}", cell)), "")
    comma = next((cell for column in columns for cell in column if re.fullmatch(r"[+-]?\d+,\d+", cell)), "")
    if whole or comma:
        got, place = dotted[0], places[[*cells].index(dotted[0])]
        rule = f"{place}: {metric} must say what its dots are, got {got} in a table with {comma or whole}"
        raise InputError(f"{rule}; is {got} a thousand? write {got.replace('.', '')} (all of them so), or {got}0")


def _rows(places: Sequence[str], columns: Mapping[str, Sequence[str]], index: set[str]) -> list[Row]:
    """Rows with W&B's states where the table has them; W&B's columns are spare where the table clearly is W&B's."""
    states = [state.lower() for state in columns["State"]] if columns.keys() >= WANDB else []
    has_states = bool(states) and {*states} <= STATES
    is_table = has_states and (
        len(columns.keys() & BOOKKEEPING) >= 4 or len({*columns["Name"]}) == len(places) or any(map(is_wandbs, columns))
    )
    own = {*index, *(("State",) if has_states else ())}
    own |= {name for name in columns if name in BOOKKEEPING or is_wandbs(name)} if is_table else set()
    own |= {name for name in OURS & columns.keys() if len({*columns[name]}) == len(places) > 1}
    rows = []
    for at, place in enumerate(places):
        values = {name: value_of(cells[at]) for name, cells in columns.items()}
        spare = {name: values.pop(name) for name in columns if name in own}
        state, name = (states[at], columns["Name"][at]) if has_states else ("finished", "")
        rows.append(Row(place, values, state, name, spare=spare))
    return rows
