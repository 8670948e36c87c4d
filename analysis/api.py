"""The Python API of the analysis: two methods compared wherever both have runs, as a table and a figure."""

import html
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.figures.difference import draw_differences
from analysis.figures.style import Drawing
from analysis.report.evidence import FIXED_N, JUDGED
from analysis.results import comparison
from analysis.results.cells import Cell, Condition, choose_pairs, make_cells
from analysis.results.design import apply_designs, read_designs
from analysis.results.metrics import Declared, difference_noun, is_lower_better, unit
from analysis.results.overall import overall
from analysis.results.runs import ABOUT, METRIC, Results, read_again
from analysis.tables.names import keep_apart
from l2t_ray.errors import InputError, count
from l2t_ray.ledger.limits import safe_name
from l2t_ray.statistics.sequential import Design


@dataclass(frozen=True)
class Comparison:
    """One method against another under every condition that both have."""

    a: str  # the method that is expected to be better
    b: str
    items: tuple[comparison.Comparison, ...]  # one for each condition, their p corrected together
    metric: str = METRIC
    lower_is_better: bool | None = None  # as the sweep file of a trainer of the user's own says, or the caller
    notes: tuple[str, ...] = ()  # what a reader of the numbers should know

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
                "a12": item.a12.value if item.has_values else math.nan,
                "p": item.p,
                "p_holm": item.p_holm,
            })
        return pd.DataFrame(rows)

    def figure(self) -> Drawing:
        """Returns the forest plot of the report: the paired difference of each condition; a notebook shows it."""
        alpha = next((item.alpha for item in self.items if item.decision is None), self.items[0].alpha)
        together = overall(self.items, alpha, is_lower_better=self.items[0].is_lower_better)
        shown = unit(self.metric, is_declared_lower=self.lower_is_better)
        drawn = draw_differences(self.items, together, None, unit=shown)
        if drawn is None:
            raise InputError(f"{self.a} and {self.b}: must have a seed in common to be drawn, got none")
        return drawn

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        table: str = self.table().to_html(index=False, float_format="{:.3g}".format)
        return table + "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)


def compare(
    results: Results | pd.DataFrame,
    a: str,
    b: str,
    *,
    metric: str | None = None,
    alpha: float = 0.05,
    margin: float | None = None,
    lower_is_better: bool | None = None,
) -> Comparison:
    """Compares two methods by Mann-Whitney's test under every condition that both have; corrects p by Holm.

    A declared design decides as in the report, with p adjusted for its looks.

    Args:
        results: of `read_results`, or the table of `l2t_ray.results`, in which missing runs do not show.
        a: the method that is expected to be better.
        b: the other.
        metric: whose last value counts; by default that of the results. Runs without one are left out, as `notes` say.
        alpha: significance level of one test.
        margin: the smallest difference that matters, in the metric's unit; by default the sweep's, else 1.
        lower_is_better: of the metric; by default as the sweep says.

    Returns:
        The comparison, its p corrected over all conditions.

    Raises:
        InputError: if a method has no runs, the two have no condition in common, or a table does not know enough of
            its sweeps: a declared design, or the direction and margin of a metric but test accuracy.
    """
    if isinstance(results, Results):
        if metric and safe_name(metric) != results.metric:
            results = read_again(results, metric)  # runs that lack it are others
        metric, told = results.metric_name, results.declared
        cells, designs = make_cells(results, results.metric), read_designs(results)
    else:
        about = results.attrs.get(ABOUT, {})
        metric = metric or about.get("metric", METRIC)
        cells = _cells(results, metric)
        told = _told(about, metric, is_given=None not in {margin, lower_is_better})
        designs = {sweep: Design.from_json(values) for sweep, values in about.get("designs", {}).items()}
    pairs = choose_pairs(cells, names=(a, b), told="a and b")
    if not any(one.values and other.values for one, other in pairs):
        raise InputError(f"{a} and {b}: must have a condition in common, with runs of both, got none; train both")
    keep_apart([name for cell in cells for name in (cell.arm, cell.method)], [cell.condition.data for cell in cells])
    deciding = designs if told or metric == METRIC else {}  # by which a launch took its looks
    if not isinstance(results, Results):
        _refuse_design(pairs, deciding)
    margin = (told.margin if told else 1.0) if margin is None else margin
    lower = told.lower_is_better if told and lower_is_better is None else lower_is_better
    is_lower = is_lower_better(metric) if lower is None else lower
    more = {"is_lower_better": is_lower, "unit": difference_noun(metric)}
    items = apply_designs(comparison.compare(pairs, alpha=alpha, margin=margin, **more), deciding)
    return Comparison(a, b, tuple(items), metric, lower, tuple(_notes(items, metric, designs)))


def _told(about: Mapping[str, Any], metric: str, *, is_given: bool) -> Declared | None:
    """What the sweeps of a table say of the metric, which pandas keeps beside it; None for test accuracy."""
    if "metric" in about and safe_name(about["metric"]) == safe_name(metric):
        return Declared(**about["declared"]) if about["declared"] else None
    if metric != METRIC and not is_given:
        rule = f"{metric}: a table must know which end is better and which difference matters, got one without that"
        why = "pd.concat and files may lose it, and it is of the metric by which the table was read"
        raise InputError(f"{rule} ({why}); give margin= and lower_is_better=, or read_results(SWEEPS) in its place")
    return None


def _refuse_design(pairs: Sequence[tuple[Cell, Cell]], designs: Mapping[str, Design]) -> None:
    """Refuses a pair whose design counts wanted runs, of which a table has the finished ones alone."""
    methods = {frozenset((one.method, other.method)) for one, other in pairs}
    for sweep, design in designs.items():
        if frozenset(design.compare) in methods:
            rule = f"{sweep}: looks of the design for {' and '.join(design.compare)} must know all wanted runs"
            raise InputError(f"{rule}, got a table of finished ones; give read_results([{sweep!r}]) in its place")


def _notes(items: Sequence[comparison.Comparison], metric: str, designs: Mapping[str, Design]) -> Iterable[str]:
    """Yields what is left out, and where a design decided on n, but not on these comparisons."""
    cells = [cell for item in items for cell in (item.a, item.b)]
    lost = sum(sum(gap.outcome == "invalid" for gap in cell.gaps) for cell in cells)
    lost += sum(cell.n_wanted - len(cell.values) for cell in cells if not cell.seeds)  # of a table
    if lost:
        yield f"{count(lost, 'run')} without a finite {metric} {'is' if lost == 1 else 'are'} left out."
    open_cells = [cell for item in items if item.decision is None for cell in (item.a, item.b)]
    if any(sweep in (cell.seeds or designs) and cell.method in design.compare for cell in open_cells
           for sweep, design in designs.items()):  # fmt: skip
        yield FIXED_N.replace(JUDGED, "the sweep's own metric")


def _cells(runs: pd.DataFrame, metric: str) -> list[Cell]:
    """The cells of a table of runs, in its order; a run without a finite value is wanted and has no result."""
    column = metric if metric in runs else safe_name(metric)
    if column not in runs:
        raise InputError(f"metric must be a column of the table, got {metric!r}; name the one that counts: metric=...")
    values = pd.to_numeric(runs[column], errors="coerce").astype(float)
    if len(runs) and not values.map(math.isfinite).any():
        raise InputError(f"metric must be a column with finite numbers, got {metric!r}; name another: metric=...")
    found: dict[tuple[Condition, str], dict[int, tuple[float, str]]] = defaultdict(dict)
    texts = runs[["data", "samples_per_class", "variant", "method"]].astype(object).fillna("").astype(str)  # of a CSV
    rows = zip(texts.itertuples(index=False), runs["seed"], runs["run_id"], values, strict=True)
    for (data, samples, variant, method), seed, run_id, value in rows:
        found[Condition(data, samples, variant), method][int(seed)] = (value, run_id)
    return [
        Cell(
            condition,
            method,
            {seed: value for seed, (value, _) in sorted(of_seeds.items()) if math.isfinite(value)},
            len(of_seeds),
            (),
            {seed: run_id for seed, (_, run_id) in of_seeds.items()},
        )
        for (condition, method), of_seeds in found.items()
    ]
