"""The Python API of the analysis: two methods compared wherever both have runs, as a table and a figure."""

from collections import defaultdict
from dataclasses import dataclass

import pandas as pd

from analysis.figures.difference import draw_differences
from analysis.figures.style import Drawing
from analysis.results import comparison
from analysis.results.cells import Cell, Condition, choose_pairs, make_cells
from analysis.results.metrics import difference_noun, unit
from analysis.results.overall import overall
from analysis.results.runs import METRIC, Results
from analysis.tables.names import keep_apart
from l2t_ray.errors import InputError
from l2t_ray.ledger.limits import safe_name


@dataclass(frozen=True)
class Comparison:
    """One method against another under every condition that both have."""

    a: str  # the method that is expected to be better
    b: str
    items: tuple[comparison.Comparison, ...]  # one for each condition, their p corrected together
    metric: str = METRIC
    lower_is_better: bool | None = None  # as the sweep file of a trainer of the user's own says

    def table(self) -> pd.DataFrame:
        """Returns a row for each condition: verdict, n, means, paired difference with 95 % interval, A12, p, Holm p."""
        rows = []
        for item, verdict in zip(self.items, comparison.verdicts(self.items), strict=True):
            found = item.paired_difference
            rows.append({
                "condition": str(item.condition),
                "verdict": verdict,
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
        """Returns the forest plot of the report: the paired difference of each condition; a notebook shows it."""
        together = overall(self.items, self.items[0].alpha, is_lower_better=self.items[0].is_lower_better)
        shown = unit(self.metric, is_declared_lower=self.lower_is_better)
        drawn = draw_differences(self.items, together, None, unit=shown)
        if drawn is None:
            raise InputError(f"{self.a} and {self.b}: must have a seed in common to be drawn, got none")
        return drawn

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        html: str = self.table().to_html(index=False, float_format="{:.3g}".format)
        return html


def compare(
    results: Results | pd.DataFrame,
    a: str,
    b: str,
    *,
    metric: str | None = None,
    alpha: float = 0.05,
    margin: float | None = None,
) -> Comparison:
    """Compares two methods by Mann-Whitney's test under every condition that both have; corrects p by Holm.

    Args:
        results: of `read_results`, or the table of `l2t_ray.results`, in which missing runs do not show.
        a: the method that is expected to be better.
        b: the other.
        metric: whose last value counts; by default the sweep's, else test accuracy.
        alpha: significance level of one test.
        margin: the smallest difference that matters, in the metric's unit; by default the sweep's, else 1.

    Returns:
        The comparison, its p corrected over all conditions.

    Raises:
        InputError: if a method has no runs, or the two have no condition in common.
    """
    told = None
    if isinstance(results, Results):
        told = results.declared if metric in {None, results.metric, results.metric_name} else None
        metric = told.name if told else metric or results.metric_name
        cells = make_cells(results, safe_name(metric))
    else:
        metric = metric or METRIC
        cells = _cells(results, metric)
    chosen = choose_pairs(cells, names=(a, b), told="a and b")
    pairs = [(one, other) for one, other in chosen if one.values and other.values]
    if not pairs:
        raise InputError(f"{a} and {b}: must have a condition in common, with runs of both, got none; train both")
    keep_apart([name for cell in cells for name in (cell.arm, cell.method)], [cell.condition.data for cell in cells])
    lower = told.lower_is_better if told else None
    margin = (told.margin if told else 1.0) if margin is None else margin
    more = {"is_lower_better": bool(lower), "unit": difference_noun(metric)}
    return Comparison(a, b, tuple(comparison.compare(pairs, alpha=alpha, margin=margin, **more)), metric, lower)


def _cells(runs: pd.DataFrame, metric: str) -> list[Cell]:
    """The cells of a table of runs, in its order."""
    column = metric if metric in runs else safe_name(metric)
    if column not in runs:
        raise InputError(f"metric must be a column of the table, got {metric!r}; name the one that counts: metric=...")
    found: dict[tuple[Condition, str], dict[int, tuple[float, str]]] = defaultdict(dict)
    names = ["data", "samples_per_class", "variant", "method", "seed", column, "run_id"]
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
