"""Learning curves: the mean over seeds of what was measured in each epoch, with a band for each method."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from scipy import stats

from analysis.figures.accuracy import by_data, samples_of
from analysis.figures.style import Drawing, drawing, file_name, hide_rest, label_epochs, looks, save
from analysis.results.cells import Cell
from analysis.results.runs import Results
from analysis.results.wanted import images_text
from analysis.tables.table import arm_name, arms

METRICS: Mapping[str, str] = {
    "train_loss": "training loss",
    "test_accuracy_percent": "test accuracy (%)",
}
MOST_POINTS = 100  # of a curve; further epochs are left out evenly


def draw_curves(results: Results, cells: Sequence[Cell], folder: Path | None) -> list[Drawing]:
    """Learning curves of every data set and metric that has more than one value a run.

    Args:
        results: of the ledger; the histories are read from it.
        cells: all.
        folder: where to.

    Returns:
        One figure a data set and metric.
    """
    found = []
    for metric, unit in METRICS.items():
        history = results.histories(metric)
        history = history[history["value"].abs() < 1e308]  # also drops nan; such a run has no result anyway
        bands = _bands(history, cells)
        for data, group in by_data(cells).items():
            here = bands[bands["data"] == data]
            if (here.groupby("images_per_class")["epoch"].nunique() > 1).any():
                found.append(_draw(data, metric, unit, group, here, folder))
    return found


def _bands(history: pd.DataFrame, cells: Sequence[Cell]) -> pd.DataFrame:
    places = pd.DataFrame(
        [
            (run_id, cell.condition.data, cell.condition.samples_per_class, cell.arm)
            for cell in cells
            for run_id in cell.run_ids.values()
        ],
        columns=["run_id", "data", "images_per_class", "arm"],
    )
    joined = history.merge(places, on="run_id")
    groups = joined.groupby(["data", "images_per_class", "arm", "epoch"], sort=True)["value"]
    bands = groups.agg(n="count", mean="mean", sd="std").reset_index()
    bands["half_width_95"] = stats.t.ppf(0.975, (bands["n"] - 1).clip(lower=1)) * bands["sd"] / bands["n"] ** 0.5
    return bands.drop(columns="sd")


def _draw(
    data: str, metric: str, unit: str, cells: Sequence[Cell], bands: pd.DataFrame, folder: Path | None
) -> Drawing:
    n_epochs = bands.groupby("images_per_class")["epoch"].nunique()
    labels = [label for label in samples_of(cells) if n_epochs.get(label, 0) > 1]
    columns = min(len(labels), 3)
    rows = -(-len(labels) // columns)
    layout = {"width": max(4.6, 3.0 * columns), "height": 0.4 + 2.5 * rows, "sharex": True, "sharey": True}
    with drawing(columns, rows, **layout) as (figure, axes):
        for ax, label in zip(axes.flat, labels, strict=False):
            for arm, look in looks(arms(cells)).items():
                mine = bands[(bands["images_per_class"] == label) & (bands["arm"] == arm)]
                if mine.empty:
                    continue
                every = -(-len(mine) // MOST_POINTS)
                mine = mine.iloc[(len(mine) - 1) % every :: every]  # the last epoch stays
                half = mine["half_width_95"].fillna(0)
                ax.fill_between(
                    mine["epoch"], mine["mean"] - half, mine["mean"] + half, color=look.color, alpha=0.18, linewidth=0
                )
                ax.plot(
                    mine["epoch"], mine["mean"], color=look.color, linestyle=look.line, marker=look.marker,
                    markevery=max(1, len(mine) // 6), markersize=3.5, label=arm_name(arm),
                )  # fmt: skip
            ax.set_title(f"{data}, {images_text(label)}", loc="left", fontsize=9)
            label_epochs(ax)
        hide_rest(axes, len(labels))
        named = {
            text: line for ax in axes.flat for line, text in zip(*ax.get_legend_handles_labels(), strict=True)
        }  # a method may be missing in the first
        axes.flat[0].legend(named.values(), named.keys(), fontsize=7)
        for line in axes:
            line[0].set_ylabel(unit)
        caption = f"{data}: {unit.split(' (', maxsplit=1)[0]} over training, mean over seeds with 95 % t intervals."
        return save(figure, file_name("curves", metric, data), caption, bands, folder)
