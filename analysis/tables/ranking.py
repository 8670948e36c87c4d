"""A table of all methods by their average rank over cells."""

from analysis.results.ranking import Ranking
from analysis.results.wanted import Factors
from analysis.tables.names import arm_name, data_name, samples_text
from analysis.tables.table import NOTHING, Table, p_text
from l2t_ray.errors import count


def _place(data: str, label: str, factors: Factors) -> str:
    axis = samples_text(label, factors)
    return f"{data_name(data)}{', ' * bool(axis)}{axis}"


def ranking_table(ranking: Ranking) -> Table:
    """The methods by average rank, the best first, a row for each."""
    ranks, names = ranking.ranks, [arm_name(arm) for arm in ranking.arms]
    rows = []
    for place, (name, mean) in enumerate(zip(names, ranks.means, strict=True)):
        near = [
            other
            for n, (other, average) in enumerate(zip(names, ranks.means, strict=True))
            if n != place and abs(average - mean) <= ranks.critical_difference
        ]
        rows.append((name, f"{mean:.2f}", ", ".join(near) or NOTHING))
    end = "lowest" if ranking.is_lowest_first else "highest"
    notes = [
        f"In each of {ranks.n_cells} cells the methods' means are ranked, 1 the {end}; equal means share a rank.",
        "Ranks use the order of the means alone; with few cells they find little. The tests above use every seed.",
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
        places = "; ".join(_place(data, label, ranking.factors) for data, label in ranking.places_left_out)
        missing = count(len(ranking.places_left_out), "cell")
        notes.append(f"Left out: {missing} in which one of these methods has no result ({places}).")
    header = (ranking.factors.method, "average rank", "not significantly different from")
    return Table("ranks", "Average ranks over cells", header, tuple(rows), tuple(notes), n_text=1)
