"""What single values did during training: gamma (the thesis' Figure 35), and weights under several methods (Figure 36).

Runs store traces as the artifact `traces.parquet`: columns `kind` (gamma, weight), `name` (which one), `epoch` (epochs
done, fractions allowed) and `value`.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from analysis.cells import Cell
from analysis.figures import FURTHER, LOOKS, Drawing, drawing, file_name, looks, save
from analysis.results import Results
from analysis.tables import arm_name, arms
from l2t_ray.errors import InputError

ARTIFACT = "traces.parquet"
COLUMNS = ("kind", "name", "epoch", "value")
SEEDS_ASKED = 3  # of a cell: a server is asked for each
MOST_LINES = 8
MOST_PANELS = 6
STYLES = (*LOOKS.values(), *FURTHER)


def draw_traces(results: Results, cells: Sequence[Cell], folder: Path | None) -> list[Drawing]:
    """Figures 35 and 36, as far as runs have stored traces; of each cell, the lowest seed that has them.

    Args:
        results: of the ledger.
        cells: all.
        folder: where to.

    Returns:
        A gamma figure for each cell that has it, a weights figure for each data set and number of images.
    """
    traces: dict[tuple[Cell, str], pd.DataFrame] = {}
    for cell in cells:
        for run_id in [cell.run_ids[seed] for seed in sorted(cell.run_ids)][:SEEDS_ASKED]:
            found = _read(results, run_id)
            if found is not None:
                traces[cell, run_id] = found
                break
    drawings = []
    for (cell, run_id), trace in traces.items():
        gamma = trace[trace["kind"] == "gamma"]
        if len(gamma):
            drawings.append(_draw_gamma(cell, _seed(cell, run_id), gamma, folder))
    for place in dict.fromkeys(cell.place for cell, _ in traces):
        here = {c: (_seed(c, r), t[t["kind"] == "weight"]) for (c, r), t in traces.items() if c.place == place}
        seeds = {seed for seed, weights in here.values() if len(weights)}
        for seed in sorted(seeds):
            together = {c: weights for c, (s, weights) in here.items() if s == seed and len(weights)}
            drawings.append(_draw_weights(place, seed, together, folder))
    return drawings


def _read(results: Results, run_id: str) -> pd.DataFrame | None:
    content = results.reader.artifact(results.entries[run_id], ARTIFACT)
    if content is None:
        return None
    try:
        trace = pd.read_parquet(io.BytesIO(content))
    except (OSError, ValueError) as error:
        raise InputError(f"run {run_id}: {ARTIFACT} must be Parquet: {error}; remove the artifact") from error
    absent = [name for name in COLUMNS if name not in trace]
    if absent:
        raise InputError(f"run {run_id}: {ARTIFACT} must have {', '.join(COLUMNS)}, lacks {', '.join(absent)}")
    return trace.sort_values(["kind", "name", "epoch"], kind="stable")


def _seed(cell: Cell, run_id: str) -> int:
    return next(seed for seed, known in cell.run_ids.items() if known == run_id)


def _draw_gamma(cell: Cell, seed: int, gamma: pd.DataFrame, folder: Path | None) -> Drawing:
    names = [*dict.fromkeys(gamma["name"])][:MOST_LINES]
    with drawing() as (figure, axes):
        ax = axes[0, 0]
        for name, look in zip(names, STYLES, strict=False):
            mine = gamma[gamma["name"] == name]
            ax.plot(
                mine["epoch"], mine["value"], color=look.color, linestyle=look.line, marker=look.marker,
                markevery=max(1, len(mine) // 8), markersize=3.5, label=name,
            )  # fmt: skip
        ax.set_xlabel("epoch")
        ax.set_ylabel("gamma (weight of a pixel, 1 at the start)")
        ax.set_title(f"{cell.condition} {arm_name(cell.method)}, seed {seed}", loc="left", fontsize=10)
        ax.legend(fontsize=7)
        caption = f"{cell.condition}: some values of gamma over training, {arm_name(cell.arm)}, seed {seed}."
        name = file_name("gamma", *cell.place, cell.method, cell.condition.variant)
        return save(figure, name, caption, gamma[[*COLUMNS]], folder)


def _draw_weights(
    place: tuple[str, str], seed: int, traces: Mapping[Cell, pd.DataFrame], folder: Path | None
) -> Drawing:
    names = [*dict.fromkeys(name for trace in traces.values() for name in trace["name"])][:MOST_PANELS]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    starts = pd.DataFrame({
        cell.arm: trace.groupby("name")["value"].first() for cell, trace in traces.items()
    })  # fmt: skip
    same = bool((starts.max(axis=1) - starts.min(axis=1) < 1e-6).all())
    numbers = []
    with drawing(columns, rows, width=max(4.6, 3.0 * columns), height=0.4 + 2.4 * rows, sharex=True) as (figure, axes):
        for ax in axes.flat[len(names) :]:
            ax.set_visible(False)
        styles = looks(arms([*traces]))
        for cell, trace in traces.items():
            look = styles[cell.arm]
            for ax, name in zip(axes.flat, names, strict=False):
                mine = trace[trace["name"] == name]
                ax.plot(
                    mine["epoch"], mine["value"], color=look.color, linestyle=look.line, marker=look.marker,
                    markevery=max(1, len(mine) // 6), markersize=3.5, label=arm_name(cell.arm),
                )  # fmt: skip
                ax.set_title(name, loc="left", fontsize=8)
                ax.set_xlabel("epoch")
            numbers.append(trace[[*COLUMNS]].assign(method=cell.method, variant=cell.condition.variant))
        axes.flat[0].legend(fontsize=7)
        axes.flat[0].set_ylabel("weight")
        start = "from the same initial weights" if same else "whose initial weights DIFFER"
        caption = f"{' '.join(place)}: paths of some weights of the target, seed {seed}, methods {start}."
        return save(figure, file_name("weights", *place, f"seed{seed}"), caption, pd.concat(numbers), folder)
