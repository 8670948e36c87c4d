"""One pair of methods: the difference in each cell with its interval, p against seeds, and power against seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures.style import STYLES, Drawing, drawing, save
from analysis.results.comparison import Comparison
from analysis.tables.table import points
from analysis.tables.tests import alpha_text, alphas, pair_name
from l2t_ray.statistics.effect import WELCH
from l2t_ray.statistics.hypothesis import MIN_SEEDS, mann_whitney
from l2t_ray.statistics.power import mann_whitney_power

POWER_AT = (5, 10, 15, 20, 30, 40, 60, 100)  # seeds per method


def draw_differences(comparisons: Sequence[Comparison], folder: Path | None, *, unit: str) -> Drawing | None:
    """The difference of means in each cell, with its interval; None without results."""
    shown = [item for item in comparisons if item.has_values]
    if not shown:
        return None
    rows: list[dict[str, Any]] = []
    with drawing(height=0.9 + 0.24 * len(shown)) as (figure, axes):
        ax = axes[0, 0]
        ax.axvline(0, color="black", linewidth=0.8)
        margin = shown[0].margin
        ax.axvspan(-margin, margin, color="#999999", alpha=0.15, linewidth=0)
        for place, item in enumerate(shown):
            estimate = item.mean_difference
            solid = item.is_significant_in_family
            face = "#0072B2" if solid else "white"
            if estimate.low is not None and estimate.high is not None:
                ax.plot([estimate.low, estimate.high], [place, place], color="#0072B2", linewidth=1.3)
            marker = "D" if solid else "o"
            ax.plot([estimate.value], [place], marker=marker, color="#0072B2", markerfacecolor=face, linestyle="none")
            rows.append({
                "data": item.condition.data, "images_per_class": item.condition.samples_per_class,
                "variant": item.condition.variant, "difference": estimate.value, "low_95": estimate.low,
                "high_95": estimate.high, "p": item.test.p, "p_holm": item.p_holm,
            })  # fmt: skip
        ax.set_yticks(range(len(shown)), [str(item.condition) for item in shown])
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.grid(visible=False, axis="y")
        ax.set_xlabel(f"difference of mean {unit.replace('(%)', '(percentage points)')}")
        ax.set_title(pair_name(shown), loc="left", fontsize=10)
        caption = (
            f"{pair_name(shown)}: difference of means with 95 % intervals ({WELCH}); filled diamonds are significant "
            f"after Holm's correction at {alpha_text(shown)}, open circles are not; the grey band is the margin of "
            f"{points(margin)}."
        )
        return save(figure, "difference", caption, pd.DataFrame(rows), folder)


def draw_p(comparisons: Sequence[Comparison], folder: Path | None) -> Drawing | None:
    """Mann-Whitney's p with the first n seeds: what stopping early would have said; None without enough seeds."""
    shown = [item for item in comparisons if item.test.p is not None]
    if not shown:
        return None
    panels = [*dict.fromkeys(item.condition.data for item in shown)]
    rows: list[dict[str, Any]] = []
    with drawing(len(panels), width=max(5.2, 3.4 * len(panels)), height=3.4, sharey=True) as (figure, axes):
        for ax, data in zip(axes[0], panels, strict=True):
            here = [item for item in shown if item.condition.data == data]
            for item, look in zip(here, STYLES * 9, strict=False):
                seeds = sorted(item.a.values.keys() & item.b.values.keys())
                counts = [*range(MIN_SEEDS, len(seeds) + 1)]
                p = [_p_of_first(item, seeds[:n]) for n in counts]
                label = f"{item.condition.samples_per_class} {item.condition.variant}".strip()
                ax.plot(counts, p, **look.stroke, markersize=3, label=label)
                rows.extend(
                    {
                        "data": data, "images_per_class": item.condition.samples_per_class,
                        "variant": item.condition.variant, "n": n, "p": value,
                    }
                    for n, value in zip(counts, p, strict=True)
                )  # fmt: skip
            for alpha in alphas(here):
                ax.axhline(alpha, color="black", linewidth=0.9, linestyle="--")
            ax.set_yscale("log")
            ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)  # else a single n has ticks at tenths
            ax.set_xlabel("seeds a method")
            ax.set_title(data, loc="left", fontsize=10)
            ax.legend(title="images a class", fontsize=7, title_fontsize=7, frameon=True, edgecolor="none")
        axes[0, 0].set_ylabel("two-sided p (Mann-Whitney)")
        caption = (
            f"{pair_name(shown)}: p with the first n seeds of both methods, uncorrected; the dashed line is "
            f"{alpha_text(shown)}. Reading off the first crossing would be a test at every seed: a declared design "
            "spends its error over its looks instead."
        )
        return save(figure, "p_by_seeds", caption, pd.DataFrame(rows), folder)


def draw_power(comparisons: Sequence[Comparison], folder: Path | None) -> Drawing | None:
    """The chance to find a difference that matters, against seeds, from each data set's typical spread; or None."""
    shown = [item for item in comparisons if item.sds is not None and max(item.sds) > 0]
    if not shown:
        return None
    panels = [*dict.fromkeys(item.condition.data for item in shown)]
    rows: list[dict[str, Any]] = []
    margin, differ = shown[0].margin, len(alphas(shown)) > 1
    with drawing(len(panels), width=max(5.2, 3.4 * len(panels)), height=3.2, sharey=True) as (figure, axes):
        for ax, data in zip(axes[0], panels, strict=True):
            here = [item for item in shown if item.condition.data == data]
            pairs, alpha = [item.sds for item in here if item.sds], alphas(here)[0]
            sds = tuple((sum(pair[side] ** 2 for pair in pairs) / len(pairs)) ** 0.5 for side in (0, 1))
            for times, look in zip((1, 2, 3), STYLES[1:], strict=False):
                power = [mann_whitney_power(times * margin, (sds[0], sds[1]), n, alpha=alpha) for n in POWER_AT]
                ax.plot(POWER_AT, power, **look.stroke, markersize=4, label=points(times * margin))
                rows.extend(
                    {
                        "data": data, "difference": times * margin, "n": n, "power": value, "sd_a": sds[0],
                        "sd_b": sds[1], "alpha": alpha,
                    }
                    for n, value in zip(POWER_AT, power, strict=True)
                )  # fmt: skip
            ax.axhline(0.8, color="black", linewidth=0.9, linestyle="--")
            ax.set_ylim(0, 1.02)
            ax.set_xlabel("seeds a method")
            at = f"; at {alpha:g}" if differ else ""
            ax.set_title(f"{data} (spread {sds[0]:.1f}, {sds[1]:.1f}{at})", loc="left", fontsize=9)
            ax.legend(fontsize=8)
        axes[0, 0].set_ylabel("power" if differ else f"power at {alpha:g}")
        caption = (
            f"{pair_name(shown)}: the chance that Mann-Whitney finds a true difference of {margin:g}, {2 * margin:g} "
            f"or {3 * margin:g} points, from 2,000 simulated experiments a point with each data set's root mean square "
            "spread; the dashed line is 80 %."
            f"{' The alpha of a panel is the smallest of its cells.' if differ else ''}"
        )
        return save(figure, "power", caption, pd.DataFrame(rows), folder)


def _p_of_first(item: Comparison, seeds: Sequence[int]) -> float:
    found = mann_whitney([item.a.values[s] for s in seeds], [item.b.values[s] for s in seeds])
    return float("nan") if found.p is None else max(found.p, 1e-6)
