"""Each method at its own settings and at its best ones: accuracies, and what transfer adds to scratch."""

from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures.style import Drawing, drawing, looks, save
from analysis.results.tuned import Tunings
from analysis.results.wanted import TRANSFER
from analysis.tables.names import arm_name, place_text
from l2t_ray.statistics.effect import WELCH, Estimate

APART = 0.16  # from the middle of a row to either of its two points


def draw_tuned(found: Tunings, folder: Path | None, *, unit: str = "test accuracy (%)") -> Drawing | None:
    """Accuracy and gain, a row per method and condition: circles for own settings, diamonds for best ones; or None."""
    shown = [item for item in found.tunings if item.own.values and item.tuned.values]
    if not shown:
        return None
    shown.sort(key=lambda item: (item.own.place, item.own.condition.variant))
    style = looks(dict.fromkeys(item.own.method for item in shown))
    gains = {(item.own.condition, item.own.a.method): item for item in found.gains}
    rows: list[dict[str, Any]] = []
    with drawing(2, width=8.6, height=1.3 + 0.32 * len(shown), sharey=True) as (figure, axes):
        left, right = axes[0]
        right.axvline(0, color="black", linewidth=0.8)
        for place, item in enumerate(shown):
            color = style[item.own.method].color
            for cell, shift, marker, face in (
                (item.own, -APART, "o", "white"),
                (item.tuned, APART, "D", color),
            ):
                half = cell.mean.half_width or 0.0
                left.errorbar(
                    [cell.mean.mean], [place + shift], xerr=[half], color=color, marker=marker, markerfacecolor=face,
                    linestyle="none", linewidth=1.2,
                )  # fmt: skip
            row = {
                "data": item.own.condition.data, "images_per_class": item.own.condition.samples_per_class,
                "variant": item.own.condition.variant, "method": item.own.method,
                "own": item.own.mean.mean, "tuned": item.tuned.mean.mean,
                "own_half_width": item.own.mean.half_width, "tuned_half_width": item.tuned.mean.half_width,
            }  # fmt: skip
            gain = gains.get((item.own.condition, item.own.method))
            if gain is not None:
                for name, comparison, shift, marker, face in (
                    ("own", gain.own, -APART, "o", "white"),
                    ("tuned", gain.tuned, APART, "D", color),
                ):
                    if not comparison.has_values:  # scratch under these settings has no result
                        continue
                    estimate = comparison.mean_difference
                    _interval(right, estimate, place + shift, color, marker, face)
                    row |= {
                        f"gain_{name}": estimate.value, f"gain_{name}_low_95": estimate.low,
                        f"gain_{name}_high_95": estimate.high,
                    }  # fmt: skip
            rows.append(row)
        labels = [f"{place_text(item.own.condition)}, {arm_name(item.own.method)}" for item in shown]
        left.set_yticks(range(len(shown)), labels)
        left.invert_yaxis()
        gained = "gain over scratch (points)" if "(%" in unit else "gain over scratch"
        for ax, label in ((left, unit), (right, gained)):
            ax.grid(visible=False, axis="y")
            ax.set_xlabel(label)
        held_out = " on held-out training images" if shown[0].own.condition.factors == TRANSFER else ""
        caption = (
            f"Each method at its own settings (open circles) and at the best ones of a search{held_out} (filled "
            "diamonds). Left: means with 95 % t intervals. Right: the difference to scratch under the same kind of "
            f"settings, with 95 % intervals ({WELCH})."
        )
        return save(figure, "tuned", caption, pd.DataFrame(rows), folder)


def _interval(ax: Any, estimate: Estimate, height: float, color: str, marker: str, face: str) -> None:
    if estimate.low is not None and estimate.high is not None:
        ax.plot([estimate.low, estimate.high], [height, height], color=color, linewidth=1.2)
    ax.plot([estimate.value], [height], marker=marker, color=color, markerfacecolor=face, linestyle="none")
