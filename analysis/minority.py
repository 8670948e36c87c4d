"""The imbalanced class: accuracy on the class with the fewest training images (the thesis' Table 4)."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from analysis.cells import Cell
from analysis.published import MINORITY
from analysis.results import Results


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
        name = _smallest(str(row["data.samples_per_class"]))
        value = None if name is None else row.get(metric(name))
        if value is not None and math.isfinite(value):  # nan where other runs alone have that metric
            values[(row["data"], row["samples_per_class"], row["variant"]), str(row["method"])][row["seed"]] = value
    found = []
    for cell in cells:
        key = ((cell.condition.data, cell.condition.samples_per_class, cell.condition.variant), cell.method)
        if values[key]:
            found.append(replace(cell, values=dict(sorted(values[key].items()))))
    return found


def as_published(cell: Cell) -> Cell:
    """The cell under the name of the thesis' Table 4, where it is that experiment.

    Args:
        cell: of `minority_cells`.

    Returns:
        The cell, renamed for `published.reproduce`.
    """
    others, _, smallest = cell.condition.samples_per_class.partition(",")
    is_thesis = cell.condition.data.lower().startswith("stl10") and others == "100" and smallest.endswith("=10")
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


def _smallest(samples: str) -> str | None:
    try:
        counts = json.loads(samples)
    except ValueError:
        return None
    if not isinstance(counts, Mapping):
        return None
    named = {name: n for name, n in counts.items() if name != "*"}
    if not named:
        return None
    name = min(named, key=lambda key: (named[key], key))
    return str(name) if any(n > named[name] for n in counts.values()) else None
