"""Draws what `bench_step` measured: contenders in units of forward + backward."""

import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

from benchmarks.steps import RIVALS

GREYS = ("#1f4e79", "#8fa9c4", "#c9c9c9")


def plot(figures: dict[str, Any], out: Path) -> None:
    """Draws the content of `bench_step`'s JSON file into a PNG file."""
    compared = [row for row in figures["rows"] if "unit_s" in row and row["name"] in {"ours", *RIVALS}]
    picture, axis = plt.subplots(figsize=(7, 4))
    cases = list(dict.fromkeys((row["batch"], row["method"], row["inner"]) for row in compared))
    for position, name in enumerate(["ours", *RIVALS]):
        units = [
            statistics.median(row["seconds"]) / row["unit_s"]
            for case in cases
            for row in compared
            if (row["batch"], row["method"], row["inner"]) == case and row["name"] == name
        ]
        places = [index + (position - 1) * 0.27 for index in range(len(cases))]
        bars = axis.barh(places, units, 0.25, label=name, color=GREYS[position])
        axis.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axis.set(yticks=range(len(cases)), xlabel="forward + backward of VGG-9")
    axis.set_yticklabels([f"{method}, {inner}\nB = {batch}" for batch, method, inner in cases], fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.legend(fontsize=8)
    picture.suptitle(figures["hardware"], fontsize=9)
    picture.savefig(out, bbox_inches="tight", dpi=150)
