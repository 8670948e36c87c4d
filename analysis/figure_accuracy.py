"""Accuracy against images a class, a band for each method (the thesis' Figure 34)."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.cells import Cell, methods_of, sort_key
from analysis.figures import Drawing, drawing, file_name, looks, save
from analysis.tables import method_name


def draw_accuracy(cells: Sequence[Cell], folder: Path | None, unit: str = "test accuracy (%)") -> list[Drawing]:
    """Figure 34 for every data set and variant.

    Args:
        cells: all.
        folder: where to.
        unit: the vertical axis' label.

    Returns:
        One figure a data set and variant that has results.
    """
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.values:
            groups[cell.condition.data, cell.condition.variant].append(cell)
    return [_draw(data, variant, group, folder, unit) for (data, variant), group in sorted(groups.items())]


def _draw(data: str, variant: str, cells: Sequence[Cell], folder: Path | None, unit: str) -> Drawing:
    conditions = sorted({cell.condition for cell in cells}, key=sort_key)
    labels = [condition.samples_per_class for condition in conditions]
    numeric = all(label.isdigit() for label in labels)
    places = {label: float(label) if numeric else float(index) for index, label in enumerate(labels)}
    rows: list[dict[str, Any]] = []
    with drawing() as (figure, axes):
        ax = axes[0, 0]
        methods = methods_of(cells)
        for method, look in looks(methods).items():
            mine = [cell for cell in cells if cell.method == method]
            mine.sort(key=lambda cell: sort_key(cell.condition))
            x = [places[cell.condition.samples_per_class] for cell in mine]
            means = [cell.mean.mean or 0.0 for cell in mine]
            halves = [cell.mean.half_width or 0.0 for cell in mine]
            low, high = ([m + sign * h for m, h in zip(means, halves, strict=True)] for sign in (-1, 1))
            ax.fill_between(x, low, high, color=look.color, alpha=0.18, linewidth=0)
            ax.errorbar(
                x, means, yerr=halves, color=look.color, marker=look.marker, linestyle=look.line, capsize=2.5,
                elinewidth=0.9, label=method_name(method), markeredgecolor="white", markeredgewidth=0.5,
            )  # fmt: skip
            rows.extend(
                {
                    "data": data, "variant": variant, "images_per_class": cell.condition.samples_per_class,
                    "method": method, "n": cell.mean.n, "n_wanted": cell.n_wanted, "mean": cell.mean.mean,
                    "half_width_95": cell.mean.half_width,
                }
                for cell in mine
            )  # fmt: skip
        if numeric and len(labels) > 1:
            ax.set_xscale("log")
        ax.set_xticks([*places.values()], labels)
        ax.minorticks_off()
        ax.set_xlabel("training images a class")
        ax.set_ylabel(unit)
        ax.set_title(f"{data} {variant}".strip(), loc="left", fontsize=10)
        ax.legend(loc="best")
        n = sorted({cell.mean.n for cell in cells})
        seeds = f"{n[0]}" if len(n) == 1 else f"{n[0]} to {n[-1]}"
        name = f"{data} {variant}".strip()
        caption = (
            f"{name}: mean {unit.split(' (', maxsplit=1)[0]} of the last epoch against training images a class; "
            f"bands and bars are 95 % t intervals of the mean, {seeds} seeds a cell."
        )
        return save(figure, file_name("accuracy", data, variant), caption, pd.DataFrame(rows), folder)
