"""Traces over training: gamma (the thesis' Figure 35), weights under several methods (Figure 36), and lambda.

Lambda is drawn for every pair of layers: as maps at five moments, and as a row of colours over the epochs.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.figures.style import (
    MOST_POINTS,
    STYLES,
    Drawing,
    drawing,
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
from analysis.results.traces import COLUMNS, Trace, read_traces
from analysis.tables.names import arm_name, place_text
from analysis.tables.table import arms

MOST_LINES = 8
MOST_PANELS = 6
SAME = 1e-6  # methods whose first weights differ by less began from the same ones
MEANING = {
    "gamma": "weight of a pixel, 1 at the start",
    "omega": "weight of a channel, all channels sum to 1",
}
MOMENTS = 5  # maps of lambda: the first epoch, the quarters, the last
COLORS = "cividis"  # brightness rises steadily: the same in grey and to the colour-blind
UNMATCHED = "#e8e8e8"  # pairs of layers that are not matched


def draw_traces(results: Results, cells: Sequence[Cell], folder: Path | None) -> list[Drawing]:
    """Figures of gamma, omega and lambda for each traced cell; of weights for each place and seed, of all methods."""
    traces = read_traces(results, cells)
    drawings = []
    for trace in traces:
        for kind in trace.kinds:
            if kind == "lambda":
                drawings.append(draw_lambda(trace, folder))
            elif kind != "theta":
                drawings.append(_draw_lines(trace, kind, folder))
    places = dict.fromkeys((trace.cell.place, trace.seed) for trace in traces if "theta" in trace.kinds)
    for place, seed in places:
        here = [t for t in traces if t.cell.place == place and t.seed == seed and "theta" in t.kinds]
        drawings.append(_draw_weights(here, folder))
    return drawings


def _draw_lines(trace: Trace, kind: str, folder: Path | None) -> Drawing:
    values, cell = trace.of(kind), trace.cell
    names = [*dict.fromkeys(values["series"])]
    shown = [names[place] for place in evenly(len(names), MOST_LINES)]
    with drawing() as (figure, axes):
        ax = axes[0, 0]
        for name, look in zip(shown, STYLES, strict=False):
            line = thinned(values[values["series"] == name])
            every = max(1, len(line) // 8)
            ax.plot(line["epoch"], line["value"], **look.stroke, markevery=every, markersize=3.5, label=name)
        label_epochs(ax)
        meaning = MEANING.get(kind)
        ax.set_ylabel(f"{kind} ({meaning})" if meaning else kind)
        ax.set_title(
            f"{place_text(cell.condition)}, {arm_name(cell.method)}, seed {trace.seed}", loc="left", fontsize=10
        )
        ax.legend(fontsize=7, title="source-target layer [entry]" if meaning else None, title_fontsize=7)
        caption = (
            f"{place_text(cell.condition)}: {len(shown)} of {len(names)} traced values of {kind} over training, "
            f"{arm_name(cell.arm)}, seed {trace.seed}.{f' Of {trace.note}.' if trace.note else ''}"
        )
        return save(figure, _name(kind, cell), caption, values[[*COLUMNS]], folder)


def _draw_weights(traces: Sequence[Trace], folder: Path | None) -> Drawing:
    weights = {trace.cell: trace.of("theta") for trace in traces}
    seed, place = traces[0].seed, traces[0].cell.place
    names = [*dict.fromkeys(name for table in weights.values() for name in table["series"])]
    shown = [names[place] for place in evenly(len(names), MOST_PANELS)]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    starts = pd.DataFrame({cell.arm: table.groupby("series")["value"].first() for cell, table in weights.items()})
    same = bool((starts.max(axis=1) - starts.min(axis=1) < SAME).all())
    numbers = []
    layout: dict[str, Any] = {"width": max(4.6, 3.0 * columns), "height": 0.4 + 2.4 * rows, "sharex": True}
    with drawing(columns, rows, **layout) as (figure, axes):
        styles = looks(arms([*weights]))
        for cell, table in weights.items():
            look = styles[cell.arm]
            for ax, name in zip(axes.flat, shown, strict=False):
                line = thinned(table[table["series"] == name])
                every, label = max(1, len(line) // 6), arm_name(cell.arm)
                ax.plot(line["epoch"], line["value"], **look.stroke, markevery=every, markersize=3.5, label=label)
                ax.set_title(name, loc="left", fontsize=8)
                label_epochs(ax)
            numbers.append(table[[*COLUMNS]].assign(method=cell.method, variant=cell.condition.variant))
        hide_rest(axes, len(shown))
        axes.flat[0].legend(fontsize=7)
        for row in axes:
            row[0].set_ylabel("weight")
        if len(weights) == 1:
            start = f"{arm_name(traces[0].cell.arm)} alone"
        else:
            start = f"methods {'from the same initial weights' if same else 'whose first stored weights DIFFER'}"
        caption = (
            f"{' '.join(place)}: paths of {len(shown)} of {len(names)} traced weights of the target, seed {seed}, "
            f"{start}."
        )
        return save(figure, file_name("weights", *place, f"seed{seed}"), caption, pd.concat(numbers), folder)


def _name(kind: str, cell: Cell) -> str:
    return file_name(kind, *cell.place, cell.method, cell.condition.variant)


def draw_lambda(trace: Trace, folder: Path | None) -> Drawing:
    """Lambda of one run: above, source by target level at five moments; below, every pair over the epochs."""
    values, cell = trace.of("lambda"), trace.cell
    table = values.assign(pair=values["name"].str.partition(".")[2]).pivot_table(
        index="pair", columns="epoch", values="value", aggfunc="mean"
    )
    table = table.loc[sorted(table.index, key=_pair)]
    shown = [int(table.columns[place]) for place in evenly(table.shape[1], MOMENTS)]
    layout: dict[str, Any] = {
        "height": 3.2 + 0.17 * len(table),
        "gridspec_kw": {"height_ratios": [1.0, 0.12 * len(table)]},
    }
    with drawing(len(shown), 2, width=7.2, **layout) as (figure, axes):
        norm = {"cmap": COLORS, "vmin": 0.0, "vmax": max(float(np.nanmax(table.to_numpy())), 1e-6)}
        for ax, epoch in zip(axes[0], shown, strict=True):
            _draw_moment(ax, table[epoch], norm)
            ax.set_title("before training" if epoch == 0 else f"epoch {epoch}", fontsize=8)
        axes[0, 0].set_ylabel("source level")
        for ax in axes[1]:
            ax.remove()
        line = figure.add_subplot(axes[1, 0].get_gridspec()[1, :])
        mesh = _draw_time(line, table.iloc[:, evenly(table.shape[1], MOST_POINTS)], norm)
        figure.colorbar(mesh, ax=[*axes[0], line], label="lambda", pad=0.015, aspect=32)
        figure.suptitle(
            f"{place_text(cell.condition)}, {arm_name(cell.method)}, seed {trace.seed}", x=0.01, ha="left", fontsize=10
        )
        return save(figure, _name("lambda", cell), _caption(trace, table), values[[*COLUMNS]], folder)


def _caption(trace: Trace, table: pd.DataFrame) -> str:
    last, cell = table.iloc[:, -1], trace.cell
    zeros = [str(pair) for pair in last.index[last < 0.005]]
    off = f"; {', '.join(zeros)} {'is' if len(zeros) == 1 else 'are'} switched off" if zeros else ""
    note = f" Of {trace.note}." if trace.note else ""
    return (
        f"{place_text(cell.condition)}: lambda, how much a pair of layers (source-target) is matched, over training, "
        f"{arm_name(cell.arm)}, seed {trace.seed}; the mean over the same training images at every epoch. "
        f"At the end {last.idxmax()} has the largest, {last.max():.3g}, {last.idxmin()} the smallest, "
        f"{last.min():.3g}{off}.{note}"
    )


def _draw_moment(ax: Any, values: pd.Series, norm: dict[str, Any]) -> None:
    from matplotlib.colors import Normalize

    pairs = {_pair(str(name)): float(value) for name, value in values.items()}
    n_sources, n_targets = (max(pair[side] for pair in pairs) + 1 for side in (0, 1))
    grid = np.full((n_sources, n_targets), np.nan)
    for (m, n), value in pairs.items():
        grid[m, n] = value
    ax.set_facecolor(UNMATCHED)
    ax.imshow(np.ma.masked_invalid(grid), aspect="auto", **norm)
    scale = Normalize(norm["vmin"], norm["vmax"])
    for (m, n), value in pairs.items():
        ink = "black" if scale(value) > 0.55 else "white"
        ax.text(n, m, f"{value:.1f}", ha="center", va="center", fontsize=6.5, color=ink)
    ax.set_xticks(range(n_targets))
    ax.set_yticks(range(n_sources))
    ax.tick_params(labelsize=7, length=2)
    ax.set_xlabel("target level", fontsize=8)
    ax.grid(visible=False)


def _draw_time(ax: Any, table: pd.DataFrame, norm: dict[str, Any]) -> Any:
    mesh = ax.pcolormesh(_edges(table.columns), np.arange(len(table) + 1), table.to_numpy(), rasterized=True, **norm)
    ax.set_yticks(np.arange(len(table)) + 0.5, table.index, fontsize=7)
    sources = [_pair(str(name))[0] for name in table.index]
    for place in range(1, len(sources)):
        if sources[place] != sources[place - 1]:
            ax.axhline(place, color="white", linewidth=2.5)
    ax.invert_yaxis()
    ax.grid(visible=False)
    label_epochs(ax)
    ax.set_ylabel("source-target")
    return mesh


def _pair(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", name))


def _edges(epochs: "pd.Index[Any]") -> "np.ndarray[Any, Any]":
    middle = np.asarray(epochs, dtype=float)
    halves = np.diff(middle) / 2 if len(middle) > 1 else np.array([0.5])
    first, last = middle[:1] - halves[0], middle[-1:] + halves[-1]
    return np.concatenate([first, middle[:-1] + halves[: len(middle) - 1], last])
