"""The imbalanced class: accuracy on the class with the fewest training images (the thesis' Table 4).

Where several classes share the smallest number, a run's value is the mean over them, and a note names them.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from analysis.results.cells import Cell
from analysis.results.published import MINORITY, plain
from analysis.results.runs import LACKING, Gap, Results
from l2t_ray.ledger.limits import older_name, safe_name


def minority_cells(results: Results, cells: list[Cell]) -> tuple[list[Cell], list[str]]:
    """Gives the imbalanced cells the smallest class' accuracy as values, if `record.per_class` stored it.

    Args:
        results: finished runs.
        cells: of these runs.

    Returns:
        The cells, and a sentence for each class whose accuracy an older version stored together with another class'.
    """
    if "data.samples_per_class" not in results.runs:
        return [], []
    values: dict[tuple[object, str], dict[int, float]] = defaultdict(dict)
    shared: dict[str, set[str]] = {}  # by an older version's metric: the runs in which several classes share it
    notices: dict[str, None] = {}
    for row in results.runs.to_dict("records"):
        names = _smallest(str(row["data.samples_per_class"]))
        if names is None:
            place = f"{row['cell']} seed {row['seed']} ({row['key']})"
            notices[f"{place}: data.samples_per_class cannot be read, so the run has no smallest class"] = None
            continue
        accuracies = []
        for name in names:
            new, old = metric(name), older_name(f"test_accuracy_class_{name}_percent")
            value = row.get(new, math.nan)  # nan where only other runs have that metric
            if new != old and not math.isfinite(value) and math.isfinite(row.get(old, math.nan)):
                if old not in shared:
                    shared[old] = _runs_with_several(results, old)
                if row["run_id"] in shared[old]:
                    notices[f"{row['cell']}: an older version stored the accuracy of {name!r} together with another "
                            f"class' as {old}, so it is left out; --retry-failed does not help, train the runs again "
                            "under another sweep name"] = None  # fmt: skip
                else:
                    value = row[old]
            accuracies.append(value)
        if names and all(map(math.isfinite, accuracies)):
            key = ((row["data"], row["samples_per_class"], row["variant"]), str(row["method"]))
            values[key][row["seed"]] = sum(accuracies) / len(names)
    wanted = {run.key: run for run in results.wanted}
    keys = dict(zip(results.runs["run_id"], results.runs["key"], strict=True))
    minority = []
    for cell in cells:
        key = ((cell.condition.data, cell.condition.samples_per_class, cell.condition.variant), cell.method)
        if values[key]:
            lacking = [
                Gap(wanted[keys[run_id]], LACKING, "the run did not store its smallest class' accuracy")
                for seed, run_id in cell.run_ids.items()
                if seed not in values[key]
            ]
            found = dict(sorted(values[key].items()))
            minority.append(replace(cell, values=found, gaps=(*cell.gaps, *lacking)))
    return minority, [*notices]


def _runs_with_several(results: Results, name: str) -> set[str]:
    """The runs that hold several values of a metric at one epoch: unlike classes whose names became the same."""
    table = results.histories(name)
    return {*table[table.duplicated(["run_id", "epoch"], keep=False)]["run_id"]}


def equally_small(results: Results, cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Notes by data set: one for each number of images with several smallest classes, naming them."""
    notes: dict[str, dict[str, None]] = defaultdict(dict)
    conditions = {(cell.condition.data, cell.condition.samples_per_class) for cell in cells}
    for row in results.runs.to_dict("records") if conditions else ():
        data, label = row["data"], row["samples_per_class"]
        names = _smallest(str(row["data.samples_per_class"])) if (data, label) in conditions else []
        if names and len(names) > 1:
            note = f"{label}: the smallest classes are {', '.join(names)}, equally small; a run's value is their mean."
            notes[data][note] = None
    return {data: [*texts] for data, texts in notes.items()}


def as_published(cell: Cell) -> Cell:
    """The cell under the data set's name in `published`, if it is the experiment of the thesis' Table 4."""
    # thesis 5.6: ten images of one class, which it does not name, and 100 of every other
    is_thesis = plain(cell.condition.data) == "stl10" and re.fullmatch(
        r"100,[^,=]+=10", cell.condition.samples_per_class
    )
    if not is_thesis:
        return cell
    return replace(cell, condition=replace(cell.condition, data=MINORITY, samples_per_class="10"))


def metric(name: str) -> str:
    """The ledger's metric for a class' test accuracy."""
    return safe_name(f"test_accuracy_class_{name}_percent")


def _smallest(samples: str) -> list[str] | None:
    """The named classes with the fewest images; none where all classes have equally many, None if unreadable."""
    if not samples.startswith("{"):  # one number for every class, or a setting that the ledger does not hold
        return []
    try:
        counts: dict[str, int] = json.loads(samples)
    except ValueError:
        return None
    named = {name: n for name, n in counts.items() if name != "*"}
    least = min(named.values(), default=math.inf)
    return sorted(name for name, n in named.items() if n == least) if max(counts.values(), default=0) > least else []
