"""Turns what `bench_packing` measured into a Markdown table and a plot for people, and figures for the planner."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.launch.placement.estimate import ARCH, n_images
from l2t_ray.launch.placement.measurements import Crowd, Figure, Speed
from l2t_ray.training.run_training import EVALUATION_BATCH

Row = dict[str, Any]


def markdown(content: Mapping[str, Any]) -> str:
    """Runs per hour, a table for each method, B and use of MPS, each also as a multiple of one process with one run."""
    head = f"{content['device']}, torch {content['torch']}, {content['cores']} cores, load before"
    lines = [f"{head} {content['load_before']:.1f}, n = 1 for each case. Runs of 200 epochs of one step per hour."]
    rows: list[Row] = content["rows"]
    for method, batch, served in _panels(rows):
        here = {(r["processes"], r["pack"]): r for r in rows if _panel(r) == (method, batch, served)}
        base = next((r["runs_per_hour"] for r in rows if _single(r) and _panel(r)[:2] == (method, batch)), None)
        packs = sorted({pack for _, pack in here})
        best = max((r["runs_per_hour"] or 0.0 for r in here.values()), default=0.0)
        lines += ["", f"{method}, B = {batch}, {'with' if served else 'without'} MPS", ""]
        lines += [
            "| processes | " + " | ".join(f"K = {pack}" for pack in packs) + " |",
            "| --- " * (len(packs) + 1) + "|",
        ]
        for processes in sorted({processes for processes, _ in here}):
            cells = [_cell(here.get((processes, pack)), base, best) for pack in packs]
            lines.append(f"| {processes} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(content: Mapping[str, Any], out: Path) -> bool:
    """Draws runs per hour over K k, a line for each k; False if matplotlib is missing or nothing was measured."""
    rows = [row for row in content["rows"] if row["runs_per_hour"]]
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        return False
    if not rows:
        return False
    mpl.use("agg")
    from matplotlib import pyplot as plt

    panels = _panels(rows)
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 3.2), squeeze=False, sharey=True)
    for axis, panel in zip(axes[0], panels, strict=True):
        here = [row for row in rows if _panel(row) == panel]
        for k in sorted({row["processes"] for row in here}):
            line = sorted((k * row["pack"], row["runs_per_hour"]) for row in here if row["processes"] == k)
            axis.plot(*zip(*line, strict=True), marker="o", label=f"{k} process{'es' if k > 1 else ''}")
        method, batch, served = panel
        axis.set(title=f"{method}, B = {batch}, {'with' if served else 'without'} MPS", xlabel="runs at once")
        axis.set_xscale("log", base=2)
        axis.legend()
    axes[0][0].set_ylabel("runs per hour")
    figure.suptitle(f"{content['device']}, torch {content['torch']}")
    figure.savefig(out, bbox_inches="tight")
    plt.close(figure)
    return True


def figure_of(content: Mapping[str, Any], run: Run) -> Figure | None:
    """The planner's figure of a run's shape, computed from the measured steps of other numbers of images.

    The time of a step is interpolated linearly between two measured B, is constant below the smallest, and grows in
    proportion to B above the largest.

    Args:
        content: of `packing.json`.
        run: of the shape.

    Returns:
        Speeds of one process, and how k processes slow each other down (with MPS, where that was measured); None if the
        network, method, width or precision was not measured, or the images are in a folder and so cannot be counted.
    """
    asked = (run.method, run.target.width, run.training.precision)
    rows = [r for r in content["rows"] if (r["method"], r["width"], r["precision"]) == asked and not r["problem"]]
    alone: dict[int, dict[int, Row]] = {}
    for row in rows:
        if row["processes"] == 1 and not row["mps"]:
            alone.setdefault(row["pack"], {})[row["batch"]] = row
    images = n_images(run)
    if not alone or images is None or run.target.arch != ARCH:
        return None
    whole, rest = divmod(images, run.training.batch_size)
    n_evaluations = math.ceil(registry.DATA_SETS[run.data.name].n_test / EVALUATION_BATCH)
    speeds = []
    for pack, by_batch in sorted(alone.items()):
        times = {batch: row["epoch_s"] for batch, row in by_batch.items()}
        epoch_s = whole * _step_s(times, run.training.batch_size) + (_step_s(times, rest) if rest else 0.0)
        most = by_batch[max(by_batch)]
        peak = int(most["reserved_bytes"] * max(1.0, min(images, run.training.batch_size) / most["batch"]))
        speeds.append(Speed(pack, epoch_s, most["evaluation_s"] * n_evaluations, peak))
    crowds = []
    for k in sorted({row["processes"] for row in rows} - {1}):
        beside = [r for r in rows if r["processes"] == k and r["batch"] in alone.get(r["pack"], {})]
        beside = [r for r in beside if r["mps"]] or beside
        if beside:
            best = max(beside, key=lambda r: (r["batch"], r["runs_per_hour"]))
            slower = best["epoch_s"] / alone[best["pack"]][best["batch"]]["epoch_s"]
            crowds.append(Crowd(k, best["pack"], max(1.0, slower)))
    measured = ", ".join(str(batch) for batch in sorted({row["batch"] for row in rows}))
    note = f"{content['device']}, torch {content['torch']}, n = 1, from steps of {measured} images (bench_packing)"
    context_bytes = max(row["context_bytes"] for by_batch in alone.values() for row in by_batch.values())
    return Figure(tuple(speeds), tuple(crowds), context_bytes=context_bytes, basis="shipped", note=note)


def _step_s(times: Mapping[int, float], batch: int) -> float:
    known = sorted(times.items())
    for (low, low_s), (high, high_s) in itertools.pairwise(known):
        if low <= batch <= high:
            return low_s + (high_s - low_s) * (batch - low) / (high - low)
    if batch <= known[0][0]:
        return known[0][1]
    return known[-1][1] * batch / known[-1][0]


def _panel(row: Row) -> tuple[str, int, bool]:
    return row["method"], row["batch"], row["mps"]


def _panels(rows: list[Row]) -> list[tuple[str, int, bool]]:
    return sorted({_panel(row) for row in rows})


def _single(row: Row) -> bool:
    return bool(row["processes"] == row["pack"] == 1 and row["runs_per_hour"] and not row["mps"])


def _cell(row: Row | None, base: float | None, best: float) -> str:
    if row is None:
        return ""
    if row["runs_per_hour"] is None:
        return str(row["problem"])
    text = f"{row['runs_per_hour']:.1f}" + (f" ({row['runs_per_hour'] / base:.2f} x)" if base else "")
    return f"**{text}**" if row["runs_per_hour"] == best else text
