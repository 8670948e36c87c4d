"""Single values over training: gamma (the thesis' Figure 35), weights under several methods (Figure 36), lambda."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.cells import Cell
from analysis.figure_lambda import draw_lambda
from analysis.figures import STYLES, Drawing, drawing, file_name, hide_rest, label_epochs, looks, save
from analysis.results import Results
from analysis.tables import arm_name, arms
from analysis.traces import COLUMNS, Trace, read_traces

MOST_LINES = 8
MOST_PANELS = 6
MOST_POINTS = 100  # epochs of a line; further ones are left out evenly, the last one stays
SAME = 1e-6  # weights closer than this at the first epoch are one start
MEANING = {
    "gamma": "weight of a pixel, 1 at the start",
    "omega": "weight of a channel, all channels sum to 1",
}


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
