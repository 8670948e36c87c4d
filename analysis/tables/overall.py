"""Tables over all cells: one pair of methods together, and all methods by their average rank."""

from analysis.results.overall import Overall
from analysis.results.ranking import Ranking
from analysis.tables.table import NOTHING, Table, arm_name, estimate_text, p_text, signed
from analysis.tables.tests import pair_name
from l2t_ray.errors import count
from l2t_ray.statistics.effect import MIN_VALUES


def overall_table(overall: Overall) -> Table:
    """One row: the pair's mean difference, mean A12 and van Elteren's test over its cells."""
    test, items = overall.test, overall.comparisons
    row = (
        pair_name(items), str(len(items)), f"{test.n[0]}, {test.n[1]}", estimate_text(overall.difference, sign=True),
        estimate_text(overall.a12), signed(test.statistic), p_text(test.p),
    )  # fmt: skip
    header = ("methods", "cells", "runs", "mean difference", "mean A12", "van Elteren z", "p")
    notes = [
        "Each cell counts the same in the means over cells. Van Elteren's test, two-sided, ranks the runs of each cell "
        "apart; p is that of one test, the only one of this table.",
        "Intervals are 95 %: Student's t with the cells' Welch errors for the difference; for A12 a bootstrap of the "
        "seeds within each cell and method, which is too short below 10 seeds.",
        "The answer is about these cells; other data sets may differ.",
    ]
    if overall.left_out:
        names = ", ".join(str(item.condition) for item in overall.left_out)
        notes.append(f"Left out, because a method has fewer than {MIN_VALUES} results: {names}.")
    if any(item.decision for item in items):
        notes.append("A declared design decided on n, but p and intervals here are computed as if n had been fixed.")
    return Table("overall", f"{pair_name(items)} over all cells", header, (row,), tuple(notes), n_text=1)


def ranking_table(ranking: Ranking) -> Table:
    """The methods by average rank, the best first, a row for each."""
    ranks, names = ranking.ranks, [arm_name(arm) for arm in ranking.arms]
    rows = []
    for name, mean in zip(names, ranks.means, strict=True):
        near = [
            other
            for other, average in zip(names, ranks.means, strict=True)
            if other != name and abs(average - mean) <= ranks.critical_difference
        ]
        rows.append((name, f"{mean:.2f}", ", ".join(near) or NOTHING))
    end = "lowest" if ranking.is_lowest_first else "highest"
    notes = [
        f"In each of {ranks.n_cells} cells the methods' means are ranked, 1 the {end}; equal means share a rank.",
        f"Friedman's test that all methods have the same ranks: chi-squared {ranks.statistic:.2f} with "
        f"{len(names) - 1} degrees of freedom, p {p_text(ranks.p)}. Nemenyi's critical difference at "
        f"{ranking.alpha:g} for all pairs together: {ranks.critical_difference:.2f}.",
        "Cells of one data set resemble each other, so p and the critical difference are about these cells, not about "
        "other data sets.",
    ]
    if ranking.arms_left_out:
        left = ", ".join(arm_name(arm) for arm in ranking.arms_left_out)
        notes.append(f"Not ranked, because they lack a result in one of these cells: {left}.")
    if ranking.places_left_out:
        places = ", ".join("/".join(place) for place in ranking.places_left_out)
        missing = count(len(ranking.places_left_out), "cell")
        notes.append(f"Left out: {missing} in which one of these methods has no result ({places}).")
    header = ("method", "average rank", "not told apart from")
    return Table("ranks", "Average ranks over cells", header, tuple(rows), tuple(notes), n_text=1)
