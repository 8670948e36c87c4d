"""Traces over training: gamma (the thesis' Figure 35), weights under several methods (Figure 36), and lambda.

Lambda is drawn for every pair of layers, as maps at five moments and as lines over the epochs.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.figures.style import STYLES, Drawing, drawing, file_name, hide_rest, label_epochs, looks, save
from analysis.results.cells import Cell
from analysis.results.runs import Results
from analysis.results.traces import COLUMNS, Trace, read_traces
from analysis.tables.table import arm_name, arms

MOST_LINES = 8
MOST_PANELS = 6
MOST_POINTS = 100  # epochs of a line; further ones are left out evenly, the last one stays
SAME = 1e-6  # weights closer than this at the first epoch are one start
MEANING = {
    "gamma": "weight of a pixel, 1 at the start",
    "omega": "weight of a channel, all channels sum to 1",
}
MOST_MOMENTS = 100  # epochs on the line of time; of more, evenly spread ones
MOMENTS = 5
COLORS = "cividis"  # rises in brightness alone: the same in grey and to the colour-blind
UNMATCHED = "#e8e8e8"


def draw_traces(results: Results, cells: Sequence[Cell], folder: Path | None) -> list[Drawing]:
    """Figures 35 and 36 and the where-weights, as far as runs have stored traces.

    Args:
        results: of the ledger.
        cells: all.
        folder: where to.

    Returns:
        For each cell a figure of gamma, of omega and a map of lambda; for each data set and number of images one of
        the target's weights under all methods of one seed.
    """
    traces = read_traces(results, cells)
    found = []
    for trace in traces:
        for kind in trace.kinds:
            if kind == "lambda":
                found.append(draw_lambda(trace, folder))
            elif kind != "theta":
                found.append(_draw_lines(trace, kind, folder))
    places = dict.fromkeys((trace.cell.place, trace.seed) for trace in traces if "theta" in trace.kinds)
    for place, seed in places:
        here = [t for t in traces if t.cell.place == place and t.seed == seed and "theta" in t.kinds]
        found.append(_draw_weights(here, folder))
    return found


def _draw_lines(trace: Trace, kind: str, folder: Path | None) -> Drawing:
    values, cell = trace.of(kind), trace.cell
    names = [*dict.fromkeys(values["series"])]
    shown = _spread(names, MOST_LINES)
    with drawing() as (figure, axes):
        ax = axes[0, 0]
        for name, look in zip(shown, STYLES, strict=False):
            mine = _thinned(values[values["series"] == name])
            ax.plot(
                mine["epoch"], mine["value"], color=look.color, linestyle=look.line, marker=look.marker,
                markevery=max(1, len(mine) // 8), markersize=3.5, label=name,
            )  # fmt: skip
        label_epochs(ax)
        meaning = MEANING.get(kind)
        ax.set_ylabel(f"{kind} ({meaning})" if meaning else kind)
        ax.set_title(f"{cell.condition} {arm_name(cell.method)}, seed {trace.seed}", loc="left", fontsize=10)
        ax.legend(fontsize=7, title="source-target layer [entry]" if meaning else None, title_fontsize=7)
        caption = (
            f"{cell.condition}: {len(shown)} of {len(names)} traced values of {kind} over training, "
            f"{arm_name(cell.arm)}, seed {trace.seed}.{f' Of {trace.note}.' if trace.note else ''}"
        )
        return save(figure, _name(kind, cell), caption, values[[*COLUMNS]], folder)


def _draw_weights(traces: Sequence[Trace], folder: Path | None) -> Drawing:
    weights = {trace.cell: trace.of("theta") for trace in traces}
    seed, place = traces[0].seed, traces[0].cell.place
    names = [*dict.fromkeys(name for table in weights.values() for name in table["series"])]
    shown = _spread(names, MOST_PANELS)
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
                mine = _thinned(table[table["series"] == name])
                ax.plot(
                    mine["epoch"], mine["value"], color=look.color, linestyle=look.line, marker=look.marker,
                    markevery=max(1, len(mine) // 6), markersize=3.5, label=arm_name(cell.arm),
                )  # fmt: skip
                ax.set_title(name, loc="left", fontsize=8)
                label_epochs(ax)
            numbers.append(table[[*COLUMNS]].assign(method=cell.method, variant=cell.condition.variant))
        hide_rest(axes, len(shown))
        axes.flat[0].legend(fontsize=7)
        for line in axes:
            line[0].set_ylabel("weight")
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


def _spread(names: Sequence[str], most: int) -> list[str]:
    if len(names) <= most:
        return [*names]
    return [names[round(place * (len(names) - 1) / (most - 1))] for place in range(most)]


def _thinned(values: pd.DataFrame) -> pd.DataFrame:
    every = max(1, -(-len(values) // MOST_POINTS))
    return values.iloc[(len(values) - 1) % every :: every] if len(values) else values


def draw_lambda(trace: Trace, folder: Path | None) -> Drawing:
    """The where-weights of one run.

    Args:
        trace: with values of the kind lambda.
        folder: where to.

    Returns:
        Above, source by target at the first epoch, at quarters and at the last; below, every pair over the epochs.
    """
    values, cell = trace.of("lambda"), trace.cell
    table = values.assign(pair=values["name"].str.partition(".")[2]).pivot_table(
        index="pair", columns="epoch", values="value", aggfunc="mean"
    )
    table = table.loc[sorted(table.index, key=_pair)]
    shown = [int(table.columns[place]) for place in _evenly(table.shape[1], MOMENTS)]
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
        mesh = _draw_time(line, table.iloc[:, _evenly(table.shape[1], MOST_MOMENTS)], norm)
        figure.colorbar(mesh, ax=[*axes[0], line], label="lambda", pad=0.015, aspect=32)
        figure.suptitle(f"{cell.condition} {arm_name(cell.method)}, seed {trace.seed}", x=0.01, ha="left", fontsize=10)
        return save(figure, file_name("lambda", *cell.place, cell.method, cell.condition.variant),
                    _caption(trace, table), values[[*COLUMNS]], folder)  # fmt: skip


def _caption(trace: Trace, table: pd.DataFrame) -> str:
    last, cell = table.iloc[:, -1], trace.cell
    zeros = [str(pair) for pair in last.index[last < 0.005]]
    off = f"; {', '.join(zeros)} {'is' if len(zeros) == 1 else 'are'} switched off" if zeros else ""
    note = f" Of {trace.note}." if trace.note else ""
    return (
        f"{cell.condition}: lambda, how much a pair of layers (source-target) is matched, over training, "
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


def _evenly(length: int, most: int) -> list[int]:
    """Places from the first to the last, evenly."""
    return [int(place) for place in dict.fromkeys(np.linspace(0, length - 1, min(length, most)).round())]


def _pair(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", name))


def _edges(epochs: "pd.Index[Any]") -> "np.ndarray[Any, Any]":
    middle = np.asarray(epochs, dtype=float)
    gaps = np.diff(middle) / 2 if len(middle) > 1 else np.array([0.5])
    return np.concatenate([
        [middle[0] - gaps[0]],
        middle[:-1] + gaps if len(middle) > 1 else [],
        [middle[-1] + gaps[-1]],
    ])
