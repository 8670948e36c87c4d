"""The driver's memory over time, as a small drawing."""

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

MIB = 2**20


def draw_memory(samples, lost_at_s, path):
    """Draws resident memory with a mark for every lost node.

    Args:
        samples: (seconds, bytes).
        lost_at_s: when a node was lost.
        path: of an SVG or PNG.

    Returns:
        MiB a minute by which it grew in the second half (Theil and Sen: a process that ends is no trend).
    """
    seconds, size = np.array(samples, dtype=float).T
    minutes, size = seconds / 60, size / MIB
    late = minutes > minutes[-1] / 2
    slope = float(stats.theilslopes(size[late], minutes[late]).slope)
    figure = Figure(figsize=(5.2, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.vlines(np.array(lost_at_s) / 60, 0, size.max() * 1.1, color="0.85", linewidth=0.8, label="a node is lost")
    axes.plot(minutes, size, color="black", linewidth=1.0, label="resident memory of the driver")
    axes.set(xlabel="minutes", ylabel="MiB", xlim=(0, minutes[-1]), ylim=(0, size.max() * 1.25))
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return slope
