"""The imbalanced class: accuracy on the class with the fewest training images (the thesis' Table 4).

Of several classes with equally few images it is the mean over them, and that is told.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from analysis.results.cells import Cell
from analysis.results.published import MINORITY, plain
from analysis.results.runs import Results


def minority_cells(results: Results, cells: list[Cell]) -> list[Cell]:
    """The cells of imbalanced data sets, with the accuracy on the smallest class as values.

    Args:
        results: of the ledger.
        cells: of those results.

    Returns:
        Cells whose runs have stored that class' accuracy (`record.per_class`).
    """
    if "data.samples_per_class" not in results.runs:
        return []
    values: dict[tuple[object, str], dict[int, float]] = defaultdict(dict)
    for row in results.runs.to_dict("records"):
        names = _smallest(str(row["data.samples_per_class"]))
        found_here = [row.get(metric(name), math.nan) for name in names]  # nan where other runs alone have that metric
        if names and all(map(math.isfinite, found_here)):
            key = ((row["data"], row["samples_per_class"], row["variant"]), str(row["method"]))
            values[key][row["seed"]] = sum(found_here) / len(names)
    found = []
    for cell in cells:
        key = ((cell.condition.data, cell.condition.samples_per_class, cell.condition.variant), cell.method)
        if values[key]:
            found.append(replace(cell, values=dict(sorted(values[key].items()))))
    return found


def equally_small(results: Results, cells: Sequence[Cell]) -> dict[str, list[str]]:
    """What stands in a cell whose set has several smallest classes.

    Args:
        results: of the ledger.
        cells: of `minority_cells`.

    Returns:
        By data set, a sentence for each such number of images.
    """
    found: dict[str, dict[str, None]] = defaultdict(dict)
    conditions = {(cell.condition.data, cell.condition.samples_per_class) for cell in cells}
    for row in results.runs.to_dict("records") if conditions else ():
        data, label = row["data"], row["samples_per_class"]
        names = _smallest(str(row["data.samples_per_class"])) if (data, label) in conditions else []
        if len(names) > 1:
            told = f"{label}: the smallest classes are {', '.join(names)}, equally small; a run's value is their mean."
            found[data][told] = None
    return {data: [*told] for data, told in found.items()}


def as_published(cell: Cell) -> Cell:
    """The cell under the name of the thesis' Table 4, where it is that experiment.

    Args:
        cell: of `minority_cells`.

    Returns:
        The cell, renamed for `published.reproduce`.
    """
    # one class of ten images, thesis 5.6 does not say which, and 100 of every other
    is_thesis = plain(cell.condition.data) == "stl10" and re.fullmatch(
        r"100,[^,=]+=10", cell.condition.samples_per_class
    )
    if not is_thesis:
        return cell
    return replace(cell, condition=replace(cell.condition, data=MINORITY, samples_per_class="10"))


def metric(name: str) -> str:
    """The metric that holds a class' accuracy.

    Args:
        name: of the class.

    Returns:
        As the ledger spells it.
    """
    return re.sub(r"[^\w\-./ ]", "_", f"test_accuracy_class_{name}_percent")


def _smallest(samples: str) -> list[str]:
    """The named classes with the fewest images, where others have more."""
    try:
        counts = json.loads(samples)
    except ValueError:
        return []
    if not isinstance(counts, Mapping):
        return []
    named = {str(name): n for name, n in counts.items() if name != "*"}
    least = min(named.values(), default=math.inf)
    return sorted(name for name, n in named.items() if n == least) if max(counts.values(), default=0) > least else []
