"""Learning curves: for each epoch the mean over seeds, with a band for each method."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd
from scipy import stats

from analysis.figures.accuracy import by_data, samples_of
from analysis.figures.style import (
    Drawing,
    drawing,
    drawn,
    evenly,
    file_name,
    hide_rest,
    label_epochs,
    looks,
    save,
    thinned,
)
from analysis.results.cells import Cell
from analysis.results.runs import Results
from analysis.tables.names import arm_name, data_name, samples_text
from analysis.tables.table import arms

MOST_VALUES = 200_000  # of one metric that are read from the ledger: fewer epochs of many runs
FEWEST_EPOCHS = 25
METRICS: Mapping[str, str] = {
    "train_loss": "training loss",
    "test_accuracy_percent": "test accuracy (%)",
}


def draw_curves(
    results: Results, cells: Sequence[Cell], folder: Path | None, metrics: Mapping[str, str] | None = None
) -> list[Drawing]:
    """A figure for each data set and metric with more than one value per run; reads the histories from the ledger.

    Args:
        results: finished runs.
        cells: of these runs.
        folder: of the files; None draws in memory alone.
        metrics: with their units; by default those of the built-in trainer.

    Returns:
        The figures.
    """
    drawings = []
    for metric, unit in (METRICS if metrics is None else metrics).items():
        run_ids = [run_id for cell in cells for run_id in cell.run_ids.values()]
        history = results.histories(metric, run_ids, _epochs(results, cells, metric))
        history = history[history["value"].abs() < 1e308]  # also drops nan; such a run has no result anyway
        bands = _bands(history, cells)
        for data, group in by_data(cells).items():
            here = bands[bands["data"] == data]
            if (here.groupby("images_per_class")["epoch"].nunique() > 1).any():
                name = file_name("curves", metric, data)
                drawings.extend(drawn(name, _draw, data, metric, unit, group, here, folder))
    return drawings


def _epochs(results: Results, cells: Sequence[Cell], metric: str) -> Collection[int] | None:
    """The epochs to read: all, or as many as `MOST_VALUES` allow, with the first and last of every cell."""
    one_each = [next(iter(cell.run_ids.values())) for cell in cells if cell.run_ids]
    logged = results.histories(metric, one_each)
    every = sorted({*logged["epoch"]})
    most = max(FEWEST_EPOCHS, MOST_VALUES // max(1, sum(len(cell.run_ids) for cell in cells)))
    if len(every) <= most:
        return None
    ends = logged.groupby("run_id")["epoch"].agg(["min", "max"])
    return {*(every[place] for place in evenly(len(every), most)), *ends["min"], *ends["max"]}


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
                band = thinned(bands[(bands["images_per_class"] == label) & (bands["arm"] == arm)])
                if band.empty:
                    continue
                epoch, mean, half = band["epoch"], band["mean"], band["half_width_95"].fillna(0)
                ax.fill_between(epoch, mean - half, mean + half, color=look.color, alpha=0.18, linewidth=0)
                every = max(1, len(band) // 6)
                ax.plot(epoch, mean, **look.stroke, markevery=every, markersize=3.5, label=arm_name(arm))
            axis = samples_text(label, cells[0].condition.factors)
            ax.set_title(f"{data_name(data)}{', ' * bool(axis)}{axis}", loc="left", fontsize=9)
            label_epochs(ax)
        hide_rest(axes, len(labels))
        named = {
            text: line for ax in axes.flat for line, text in zip(*ax.get_legend_handles_labels(), strict=True)
        }  # of all panels, since the first may lack a method
        axes.flat[0].legend(named.values(), named.keys(), fontsize=7)
        for row in axes:
            row[0].set_ylabel(unit)
        what = unit.split(" (", maxsplit=1)[0]
        caption = f"{data_name(data)}: {what} over training, mean over seeds with 95 % t intervals."
        return save(figure, file_name("curves", metric, data), caption, bands, folder)
