"""The critical-difference diagram (Demsar 2006): average ranks on a line, bars over methods not told apart."""

from pathlib import Path

import pandas as pd

from analysis.figures.style import Drawing, drawing, looks, save
from analysis.results.ranking import Ranking
from analysis.tables.names import arm_name
from analysis.tables.table import p_text

BAR = 0.22  # height of one bar over the line, in rows of labels


def draw_ranks(ranking: Ranking | None, folder: Path | None) -> Drawing | None:
    """The average rank of every method, and which of them Nemenyi's test does not tell apart; None without ranks."""
    if ranking is None:
        return None
    ranks, arms = ranking.ranks, ranking.arms
    n, style = len(arms), looks(ranking.arms)
    groups = ranks.groups
    n_left = -(-n // 2)  # the better half is labelled on the left, the rest on the right
    top = 0.9 + BAR * len(groups)
    with drawing(width=5.6, height=1.1 + 0.28 * (n_left + top)) as (figure, axes):
        ax = axes[0, 0]
        for place, (arm, mean) in enumerate(zip(arms, ranks.means, strict=True)):
            is_left = place < n_left
            depth = -1.0 - (place if is_left else n - 1 - place)
            edge, side = (0.85, "right") if is_left else (n + 0.15, "left")
            color = style[arm].color
            ax.plot([mean, mean, edge], [0, depth, depth], color=color, linewidth=1.0)
            ax.plot([mean], [0], color=color, marker=style[arm].marker, linestyle="none", zorder=3)
            pad = -0.06 if is_left else 0.06
            ax.text(edge + pad, depth, f"{arm_name(arm)} ({mean:.2f})", ha=side, va="center", fontsize=8)
        for level, group in enumerate(groups, start=1):
            ends = [ranks.means[group[0]] - 0.04, ranks.means[group[-1]] + 0.04]
            ax.plot(ends, [0.15 + BAR * level] * 2, color="black", linewidth=3.5, solid_capstyle="butt")
        height = top + 0.1
        ax.errorbar([1 + ranks.critical_difference / 2], [height], xerr=[ranks.critical_difference / 2], color="black",
                    capsize=3, linewidth=1.0)  # fmt: skip
        ax.text(1, height + 0.25, f"critical difference {ranks.critical_difference:.2f}", ha="left", va="bottom",
                fontsize=8)  # fmt: skip
        ax.plot([1, n], [0, 0], color="black", linewidth=0.9, zorder=1)
        ax.set_xlim(1 - 0.45 * (n - 1), max(n + 0.45 * (n - 1), 1 + ranks.critical_difference))
        ax.set_ylim(-0.6 - n_left, height + 1.0)
        ax.set_xticks(range(1, n + 1))
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.spines["bottom"].set_bounds(1, n)
        ax.grid(visible=False)
        ax.set_xlabel(f"average rank, 1 is the {'lowest' if ranking.is_lowest_first else 'highest'} mean")
        caption = (
            f"Average ranks of {n} methods over {ranks.n_cells} cells; a bar joins methods whose ranks lie within "
            f"Nemenyi's critical difference at {ranking.alpha:g} ({ranks.critical_difference:.2f}). Friedman's test: "
            f"p {p_text(ranks.p)}."
        )
        numbers = pd.DataFrame({
            "method": arms, "average_rank": ranks.means, "n_cells": ranks.n_cells, "friedman_p": ranks.p,
            "critical_difference": ranks.critical_difference,
        })  # fmt: skip
        return save(figure, "ranks", caption, numbers, folder)
