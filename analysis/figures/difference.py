"""One pair of methods: the difference in each cell with its interval, p against seeds, and power against seeds."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures.style import STYLES, Drawing, Look, drawing, hide_rest, looks, save
from analysis.results.comparison import Comparison, are_unlike
from analysis.results.overall import Overall
from analysis.tables.names import arm_name, data_name, one_pair
from analysis.tables.table import points
from analysis.tables.tests import alpha_text, alphas, pair_name
from l2t_ray.statistics.effect import Estimate
from l2t_ray.statistics.hypothesis import MIN_SEEDS, mann_whitney
from l2t_ray.statistics.power import brunner_munzel_power, mann_whitney_power

MOST_ROWS = 60  # comparisons that a forest plot shows one by one
GAP = 0.6  # between two cells, in lines
POWER_AT = (5, 10, 15, 20, 30, 40, 60, 100)  # seeds per method


def draw_differences(
    comparisons: Sequence[Comparison], together: Sequence[Overall], folder: Path | None, *, unit: str
) -> Drawing | None:
    """A forest plot: the paired difference of each comparison, then each method over all cells; None without results.

    Args:
        comparisons: of one or several methods.
        together: the same methods over all cells.
        folder: of the files; None draws in memory alone.
        unit: of the metric.

    Returns:
        The figure; with more than 60 comparisons it shows the methods over all cells alone.
    """
    shown = [item for item in comparisons if item.a.values.keys() & item.b.values.keys()]
    together = [item for item in together if len(item.comparisons) > 1]
    if not shown:
        return None
    margin, unit_of, rows = shown[0].margin, shown[0].unit, [_row(item) for item in shown]
    is_short = len(shown) > MOST_ROWS and bool(together)
    by_place: dict[str, list[Comparison]] = defaultdict(list)
    for item in () if is_short else shown:
        by_place[_label(item, shown)].append(item)
    styles = looks(dict.fromkeys(item.a.arm for item in shown))
    n_lines = sum(len(items) + GAP for items in by_place.values()) + len(together)
    with drawing(width=5.4, height=1.3 + 0.19 * n_lines) as (figure, axes):
        ax, place, ticks = axes[0, 0], 0.0, {}
        ax.axvline(0, color="black", linewidth=0.8)
        ax.axvspan(-margin, margin, color="#999999", alpha=0.15, linewidth=0)
        for label, items in by_place.items():
            ticks[place + (len(items) - 1) / 2] = label
            for item in items:
                _bar(ax, place, item.paired_difference, styles[item.a.arm], is_solid=item.is_significant_in_family)
                place += 1
            place += GAP
        if by_place and together:
            ax.axhline(place - GAP / 2 - 0.5, color="#999999", linewidth=0.8)
        if together:
            ticks[place + (len(together) - 1) / 2] = "mean over cells"
        for found in together:
            look = styles[found.arm]
            _bar(ax, place, found.difference, look, is_solid=found.is_significant, size=8)
            rows.append({
                "data": "all", "images_per_class": "all", "variant": "", "method": found.arm, "base": found.base,
                "n_cells": len(found.comparisons), "difference": found.difference.value,
                "low_95": found.difference.low, "high_95": found.difference.high, "p": found.test.p,
                "p_holm": found.p_holm,
            })  # fmt: skip
            place += 1
        ax.set_yticks([*ticks], [*ticks.values()])
        ax.set_ylim(place - 0.3, -0.7)
        ax.grid(visible=False, axis="y")
        ax.set_xlabel(f"difference of {unit.replace('(%)', '(percentage points)')}")
        if len(styles) > 1:
            handles = [
                ax.plot([], [], color=look.color, marker=look.marker, linestyle="none", label=arm_name(arm))[0]
                for arm, look in styles.items()
            ]
            figure.legend(handles=handles, loc="outside upper left", ncols=3, fontsize=8)
        else:
            ax.set_title(pair_name(shown), loc="left", fontsize=10)
        cells = "" if is_short else (
            "the mean over the seeds that both methods have, with the 95 % t interval of paired differences"
        )  # fmt: skip
        means = "the mean over cells with its 95 % interval" if together else ""
        also = "below, " if cells and means else ""
        caption = (
            f"{pair_name(shown)}: {cells}{'; ' if cells and means else ''}{also}{means}. Filled: significant after "
            f"Holm's correction at {alpha_text(shown)}; open: not. The grey band is the margin of "
            f"{points(margin, unit_of)}."
        )
        return save(figure, "difference", caption, pd.DataFrame(rows), folder)


def _label(item: Comparison, shown: Sequence[Comparison]) -> str:
    variant = item.condition.variant if one_pair(shown) else ""
    label = item.condition.samples_per_class
    return f"{data_name(item.condition.data)} {variant}".strip() + (f", {label}" if label else "")


def _bar(ax: Any, place: float, estimate: Estimate, look: Look, *, is_solid: bool, size: float = 5) -> None:
    if estimate.low is not None and estimate.high is not None:
        ax.plot([estimate.low, estimate.high], [place, place], color=look.color, linewidth=1.3)
    ax.plot(
        [estimate.value], [place], marker=look.marker, color=look.color, linestyle="none", markersize=size,
        markerfacecolor=look.color if is_solid else "white",
    )  # fmt: skip


def _row(item: Comparison) -> dict[str, Any]:
    estimate = item.paired_difference
    return {
        "data": item.condition.data, "images_per_class": item.condition.samples_per_class,
        "variant": item.condition.variant, "method": item.a.arm, "base": item.b.arm, "n_cells": 1,
        "difference": estimate.value, "low_95": estimate.low, "high_95": estimate.high, "p": item.p,
        "p_holm": item.p_holm,
    }  # fmt: skip


def draw_p(comparisons: Sequence[Comparison], folder: Path | None) -> Drawing | None:
    """Mann-Whitney's p with the first n seeds, where a design was declared; None where none was."""
    shown = [item for item in comparisons if item.test.p is not None and item.decision is not None]
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
            ax.set_title(data_name(data), loc="left", fontsize=10)
            title = here[0].condition.factors.axis
            if title or len(here) > 1:
                ax.legend(title=title or None, fontsize=7, title_fontsize=7, frameon=True, edgecolor="none")
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
    tests: list[str] = []
    columns = min(len(panels), 3)
    n_rows = -(-len(panels) // columns)
    layout = {"width": max(5.2, 3.4 * columns), "height": 0.4 + 2.8 * n_rows, "sharex": True, "sharey": True}
    with drawing(columns, n_rows, **layout) as (figure, axes):
        for ax, data in zip(axes.flat, panels, strict=False):
            here = [item for item in shown if item.condition.data == data]
            pairs, alpha = [item.sds for item in here if item.sds], alphas(here)[0]
            sds = tuple((sum(pair[side] ** 2 for pair in pairs) / len(pairs)) ** 0.5 for side in (0, 1))
            is_unlike = are_unlike(*sds)
            tests.append("Brunner and Munzel's test" if is_unlike else "Mann-Whitney")
            chance = brunner_munzel_power if is_unlike else mann_whitney_power
            for times, look in zip((1, 2, 3), STYLES[1:], strict=False):
                power = [chance(times * margin, (sds[0], sds[1]), n, alpha=alpha) for n in POWER_AT]
                ax.plot(POWER_AT, power, **look.stroke, markersize=4, label=points(times * margin, shown[0].unit))
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
            ax.set_title(f"{data_name(data)} (sd {_sd(sds[0])}, {_sd(sds[1])}{at})", loc="left", fontsize=9)
            ax.legend(fontsize=8)
        hide_rest(axes, len(panels))
        for row in axes:
            row[0].set_ylabel("power" if differ else f"power at {alpha:g}")
        caption = (
            f"{pair_name(shown)}: the chance that {' or '.join(dict.fromkeys(tests))} finds a true difference of "
            f"{margin:g}, {2 * margin:g} or {points(3 * margin, shown[0].unit)}, from 2,000 simulated experiments a "
            "point with each data set's root mean square standard deviations; the dashed line is 80 %."
            f"{' The alpha of a panel is the smallest of its cells.' if differ else ''}"
        )
        return save(figure, "power", caption, pd.DataFrame(rows), folder)


def _sd(value: float) -> str:
    return f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"


def _p_of_first(item: Comparison, seeds: Sequence[int]) -> float:
    found = mann_whitney([item.a.values[s] for s in seeds], [item.b.values[s] for s in seeds])
    return float("nan") if found.p is None else max(found.p, 1e-6)
