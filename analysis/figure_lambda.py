"""Where a method transfers: lambda of every pair of layers, as 3 x 5 maps at five moments and as lines of time."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.figures import Drawing, drawing, file_name, label_epochs, save
from analysis.tables import arm_name
from analysis.traces import COLUMNS, Trace

MOST_POINTS = 100  # epochs on the line of time; of more, evenly spread ones
MOMENTS = 5
COLORS = "cividis"  # rises in brightness alone: the same in grey and to the colour-blind
UNMATCHED = "#e8e8e8"


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
    shown = [int(table.columns[place]) for place in _spread(table.shape[1], MOMENTS)]
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
        mesh = _draw_time(line, table.iloc[:, _spread(table.shape[1], MOST_POINTS)], norm)
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


def _spread(length: int, most: int) -> list[int]:
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
