"""Accuracy against images per class: means with a band (the thesis' Figure 34), and every seed as a point."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.figures.style import Drawing, drawing, drawn, file_name, looks, save
from analysis.results.cells import Cell
from analysis.results.wanted import TRANSFER, images, is_number
from analysis.tables.names import arm_name, data_name
from analysis.tables.table import arms, count_text

UNIT = "test accuracy (%)"
SPREAD = 0.8  # of a category's width, over which the methods' points are spread
BESIDE = 0.04  # from one method's bars to the next: a part of a category's width, or of the number of images
MOST_INSIDE = 16  # methods of a legend that fits into the axes, and of a column of one beside them
COLUMN = 2.0  # inches for such a column


def draw_accuracy(
    cells: Sequence[Cell], folder: Path | None, *, unit: str = UNIT, name: str = "accuracy"
) -> list[Drawing]:
    """The thesis' Figure 34 for each data set that has results; `name` begins the files' names."""
    return [
        figure
        for data, group in by_data(cells).items()
        for figure in drawn(file_name(name, data), _draw_bands, data, group, folder, unit, name)
    ]


def draw_seeds(cells: Sequence[Cell], folder: Path | None, *, unit: str = UNIT) -> list[Drawing]:
    """A figure for each data set that has results: every run as a point, with its cell's mean and interval."""
    return [
        figure
        for data, group in by_data(cells).items()
        for figure in drawn(file_name("seeds", data), _draw_points, data, group, folder, unit)
    ]


def by_data(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """The cells that have results, by data set in alphabetical order."""
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.values:
            groups[cell.condition.data].append(cell)
    return dict(sorted(groups.items()))


def samples_of(cells: Sequence[Cell]) -> list[str]:
    """The different images per class of the cells, by size."""
    return sorted({cell.condition.samples_per_class for cell in cells}, key=images)


def axis_title(cells: Sequence[Cell]) -> str:
    """What the horizontal axis shows; nothing where the sweep has no axis."""
    factors = cells[0].condition.factors
    return "training images a class" if factors == TRANSFER else factors.axis


def _draw_bands(data: str, cells: Sequence[Cell], folder: Path | None, unit: str, name: str) -> Drawing:
    labels = samples_of(cells)
    numeric = all(is_number(label) for label in labels) and min(map(float, labels)) > 0
    is_log = numeric and len(labels) > 1
    places = {label: float(label) if numeric else float(index) for index, label in enumerate(labels)}
    rows: list[dict[str, Any]] = []
    with drawing() as (figure, axes):
        ax, names = axes[0, 0], arms(cells)
        beside = min(BESIDE, SPREAD / len(names))
        for rank, (arm, look) in enumerate(looks(names).items()):
            offset = beside * (rank - (len(names) - 1) / 2)  # bars at the same place would hide each other
            of_arm = sorted(
                (cell for cell in cells if cell.arm == arm), key=lambda c: images(c.condition.samples_per_class)
            )
            x = np.array([places[cell.condition.samples_per_class] for cell in of_arm])
            mean = np.array([cell.mean.mean for cell in of_arm], dtype=float)
            half = np.array([cell.mean.half_width or 0.0 for cell in of_arm])
            x = x * (1 + offset / 2) if is_log else x + offset
            ax.fill_between(x, mean - half, mean + half, color=look.color, alpha=0.18, linewidth=0)
            ax.errorbar(
                x, mean, yerr=half, **look.stroke, capsize=2.5, elinewidth=0.9, label=arm_name(arm),
                markeredgecolor="white", markeredgewidth=0.5,
            )  # fmt: skip
            rows.extend(
                {
                    "data": data, "images_per_class": cell.condition.samples_per_class, "method": cell.method,
                    "variant": cell.condition.variant, "n": cell.mean.n, "n_wanted": cell.n_wanted,
                    "mean": cell.mean.mean, "half_width_95": cell.mean.half_width,
                }
                for cell in of_arm
            )  # fmt: skip
        if is_log:
            ax.set_xscale("log")
        ax.set_xticks([*places.values()], labels)
        ax.minorticks_off()
        if len(labels) == 1:
            ax.set_xlim(places[labels[0]] - 0.5, places[labels[0]] + 0.5)
        axis = axis_title(cells)
        ax.set_xlabel(axis)
        ax.set_ylabel(unit)
        ax.set_title(data_name(data), loc="left", fontsize=10)
        _add_legend(figure, ax, len(names))
        when = "" if name == "means" else " of the last epoch"  # another trainer returns its results
        against = f"{when} against {axis}" if axis else ""
        caption = (
            f"{data_name(data)}: mean {unit.split(' (', maxsplit=1)[0]}{against}; bands and bars are 95 % t intervals "
            f"of the mean, {count_text(cells)} seeds a cell."
        )
        return save(figure, file_name(name, data), caption, pd.DataFrame(rows), folder)


def _draw_points(data: str, cells: Sequence[Cell], folder: Path | None, unit: str) -> Drawing:
    labels, names = samples_of(cells), arms(cells)
    width = SPREAD / len(names)
    rows: list[dict[str, Any]] = []
    with drawing(width=max(6.4, 1.1 * len(labels) + 1.5)) as (figure, axes):
        ax = axes[0, 0]
        for rank, (arm, look) in enumerate(looks(names).items()):
            x: list[float] = []
            y: list[float] = []
            for cell in (cell for cell in cells if cell.arm == arm):
                middle = labels.index(cell.condition.samples_per_class) + (rank - (len(names) - 1) / 2) * width
                jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(cell.values)) * width
                x.extend((middle + jitter).tolist())
                y.extend(cell.values.values())
                mean, half = cell.mean.mean or 0.0, cell.mean.half_width
                ax.errorbar(
                    [middle], [mean], yerr=None if half is None else [half], color="black", marker="_", markersize=9,
                    capsize=2, elinewidth=1, linestyle="none", zorder=3,
                )  # fmt: skip
                rows.extend(
                    {
                        "data": data, "images_per_class": cell.condition.samples_per_class, "method": cell.method,
                        "variant": cell.condition.variant, "seed": seed, "value": value,
                    }
                    for seed, value in cell.values.items()
                )  # fmt: skip
            ax.plot(
                x, y, color=look.color, marker=look.marker, linestyle="none", markersize=3.2, alpha=0.65,
                markeredgewidth=0, label=arm_name(arm),
            )  # fmt: skip
        ax.set_xticks(range(len(labels)), labels)
        ax.grid(visible=False, axis="x")
        ax.set_xlabel(axis_title(cells))
        ax.set_ylabel(unit)
        ax.set_title(data_name(data), loc="left", fontsize=10)
        _add_legend(figure, ax, len(names), markerscale=1.6)
        caption = f"{data_name(data)}: every run is a point; black bars are the means and their 95 % t intervals."
        return save(figure, file_name("seeds", data), caption, pd.DataFrame(rows), folder)


def _add_legend(figure: Any, ax: Any, n_names: int, **options: Any) -> None:
    """Adds the legend where it hides least; of many methods beside the axes, which it would cover."""
    if n_names <= MOST_INSIDE:
        ax.legend(loc="best", **options)
        return
    columns = -(-n_names // MOST_INSIDE)
    figure.set_figwidth(figure.get_figwidth() + columns * COLUMN)
    figure.legend(loc="outside right upper", ncols=columns, **options)
