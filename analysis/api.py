"""The Python API of the analysis: two methods compared wherever both have runs, as a table and a figure."""

from collections import defaultdict
from dataclasses import dataclass

import pandas as pd

from analysis.figures.style import Drawing, drawing, save
from analysis.results import comparison
from analysis.results.cells import Cell, Condition, choose_pairs, make_cells
from analysis.results.runs import METRIC, Results
from analysis.tables.names import arm_name
from l2t_ray.errors import InputError
from l2t_ray.statistics.hypothesis import mann_whitney

UNIT = "points"


@dataclass(frozen=True)
class Comparison:
    """One method against another under every condition that both have."""

    a: str  # the method that is expected to be better
    b: str
    items: tuple[comparison.Comparison, ...]  # one for each condition, their p corrected together

    def table(self) -> pd.DataFrame:
        """Returns a row for each condition: n, means, difference with 95 % interval, A12, p, and p after Holm."""
        rows = []
        for item in self.items:
            found = item.mean_difference
            rows.append({
                "condition": str(item.condition),
                f"n {self.a}": item.a.mean.n,
                f"n {self.b}": item.b.mean.n,
                f"mean {self.a}": item.a.mean.mean,
                f"mean {self.b}": item.b.mean.mean,
                "difference": found.value,
                "low": found.low,
                "high": found.high,
                "a12": item.a12.value,
                "p": item.p,
                "p_holm": item.p_holm,
            })
        return pd.DataFrame(rows)

    def figure(self) -> Drawing:
        """Returns the differences with their intervals, a line for each condition; a notebook shows it."""
        table = self.table()
        with drawing(height=1.2 + 0.3 * len(table)) as (figure, axes):
            ax = axes[0, 0]
            places = range(len(table))[::-1]  # the first condition at the top
            for place, (_, row) in zip(places, table.iterrows(), strict=True):
                if pd.notna(row["low"]):
                    ax.plot([row["low"], row["high"]], [place, place], color="black")
            ax.plot(table["difference"], places, "o", color="black")
            ax.axvline(0.0, color="#999999", linewidth=0.8)
            ax.set_yticks([*places], table["condition"])
            ax.set_xlabel(f"{arm_name(self.a)} minus {arm_name(self.b)} ({UNIT}, 95 % interval)")
            caption = f"Mean {arm_name(self.a)} minus mean {arm_name(self.b)} with Welch's 95 % interval."
            return save(figure, "comparison", caption, table, None)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        html: str = self.table().to_html(index=False, float_format="{:.3g}".format)
        return html


def compare(
    results: Results | pd.DataFrame,
    a: str,
    b: str,
    *,
    metric: str = METRIC,
    alpha: float = 0.05,
    margin: float = 1.0,
) -> Comparison:
    """Compares two methods by Mann-Whitney's test under every condition that both have; corrects p by Holm.

    Args:
        results: of `read_results`, or the table of `l2t_ray.results`, in which missing runs do not show.
        a: the method that is expected to be better.
        b: the other.
        metric: whose last value counts.
        alpha: significance level of one test.
        margin: the smallest difference that matters, in the metric's unit.

    Returns:
        The comparison, its p corrected over all conditions.

    Raises:
        InputError: if a method has no runs, or the two have no condition in common.
    """
    cells = make_cells(results, metric) if isinstance(results, Results) else _cells(results, metric)
    pairs = [(one, other) for one, other in choose_pairs(cells, names=(a, b)) if one.values and other.values]
    if not pairs:
        raise InputError(f"{a} and {b}: must have a condition in common, with runs of both, got none; train both")
    items = [
        comparison.Comparison(one, other, mann_whitney([*one.values.values()], [*other.values.values()]), alpha, margin)
        for one, other in pairs
    ]
    return Comparison(a, b, tuple(comparison.corrected(items)))


def _cells(runs: pd.DataFrame, metric: str) -> list[Cell]:
    """The cells of a table of runs, in its order."""
    found: dict[tuple[Condition, str], dict[int, tuple[float, str]]] = defaultdict(dict)
    names = ["data", "samples_per_class", "variant", "method", "seed", metric, "run_id"]
    for data, samples, variant, method, seed, value, run_id in runs[names].itertuples(index=False):
        found[Condition(data, samples, variant), method][int(seed)] = (float(value), run_id)
    return [
        Cell(
            condition,
            method,
            {seed: value for seed, (value, _) in sorted(of_seeds.items())},
            len(of_seeds),
            (),
            {seed: run_id for seed, (_, run_id) in of_seeds.items()},
        )
        for (condition, method), of_seeds in found.items()
    ]
