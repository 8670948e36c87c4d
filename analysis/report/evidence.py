"""Computes everything that the terminal, the files and the page show about one or several sweeps, once for all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.results.cells import Cell, choose_pairs, make_cells
from analysis.results.comparison import Comparison, compare, compare_all
from analysis.results.design import Spared, apply_designs, find_spared, read_designs, without_spared
from analysis.results.metrics import UNITS, difference_noun, is_lower_better, target, unit
from analysis.results.minority import as_published, equally_small, minority_cells
from analysis.results.overall import Overall, overall
from analysis.results.published import Reproduction, reproduce
from analysis.results.ranking import Ranking, rank_arms
from analysis.results.runs import METRIC, Gap, Results, read_results
from analysis.results.tuned import Tunings, find_tunings
from analysis.results.wanted import TRANSFER
from analysis.tables.claims import overall_table, verdict_table
from analysis.tables.names import keep_apart
from analysis.tables.published import claims_table, reproduction_table, thesis_pairs
from analysis.tables.ranking import ranking_table
from analysis.tables.table import Table, accuracy_tables, missing_table
from analysis.tables.tests import all_pairs_table, design_table, effect_table, hypothesis_table, power_table
from analysis.tables.tuned import gains_table, tuned_table
from l2t_ray.statistics.sequential import Design

JUDGED = "the test accuracy over all classes"
FIXED_N = (
    f"A declared design decided how many seeds were trained, by {JUDGED} of the pair that it "
    "compares: n depends on its decisions, but p here is computed as if n had been fixed."
)


@dataclass(frozen=True)
class Question:
    """What the user asks of the runs."""

    metric: str | None = None  # a run counts with its last value; by default what the sweep files say
    pair: tuple[str, str] | None = None  # two methods to compare, and nothing else
    baseline: str | None = None  # every other method is compared with it; without either, `choose_pairs` decides
    alpha: float = 0.05  # threshold of one test
    margin: float | None = None  # smallest difference that matters, in the metric's unit; likewise, else 1


@dataclass(frozen=True)
class Asked:
    """The question with its metric, and what is known of that."""

    metric: str = METRIC
    pair: tuple[str, str] | None = None
    baseline: str | None = None
    alpha: float = 0.05
    margin: float = 1.0
    lower_is_better: bool | None = None  # as a sweep file of a trainer of the user's own says

    @property
    def is_lower_better(self) -> bool:
        """Whether a lower value is the better one, as the sweep file says, or by the metric's name."""
        return is_lower_better(self.metric) if self.lower_is_better is None else self.lower_is_better

    @property
    def unit(self) -> str:
        """The label of an axis that shows the metric."""
        return unit(self.metric, is_declared_lower=self.lower_is_better)

    @property
    def more(self) -> dict[str, Any]:
        """What a comparison has to know of the metric."""
        return {"is_lower_better": self.is_lower_better, "unit": difference_noun(self.metric)}

    @property
    def words(self) -> tuple[str, str]:
        """What a higher and a lower value are: better and worse, where the metric's direction is known."""
        if self.lower_is_better is not None:
            return ("worse", "better") if self.lower_is_better else ("better", "worse")
        if self.metric in UNITS or target(self.metric) is not None or "accuracy" in self.metric:
            return ("worse", "better") if is_lower_better(self.metric) else ("better", "worse")
        return "higher", "lower"

    @property
    def difference_unit(self) -> str:
        """The unit of a difference: points of a percentage, or epochs."""
        if target(self.metric) is not None:
            return "epochs"
        noun = "the metric's unit" if self.lower_is_better is None else self.metric
        return "points" if self.metric.endswith("_percent") else noun

    @property
    def what(self) -> str:
        """What a table's numbers are, for its title."""
        return "Mean test accuracy in %" if self.metric == METRIC else f"Mean {self.unit}"


@dataclass(frozen=True)
class Evidence:
    """Everything that was computed."""

    question: Asked
    results: Results
    cells: tuple[Cell, ...]  # without the runs that a design has spared
    comparisons: tuple[Comparison, ...]  # the question's; empty where there is only one method
    overall: tuple[Overall, ...]  # each method of the comparisons over all cells, the best first
    ranking: Ranking | None  # all methods over the cells that they share
    all_pairs: tuple[Comparison, ...]  # of every two arms
    designs: dict[str, Design]  # as declared, by sweep
    spared: tuple[Spared, ...]  # runs that a design made unnecessary
    gaps: tuple[Gap, ...]  # wanted runs without a result, the spared ones left out
    minority: tuple[Cell, ...]  # imbalanced cells, with the smallest class' accuracy
    minority_comparisons: tuple[Comparison, ...]  # the question's among them
    reproductions: tuple[Reproduction, ...]  # our cells against the thesis'
    tunings: Tunings

    @property
    def is_transfer(self) -> bool:
        """Whether the runs are all of the built-in trainer."""
        return all(cell.condition.factors == TRANSFER for cell in self.cells)

    def main_tables(self) -> list[Table]:
        """The tables of the terminal: accuracies, claims, tuning, the smallest class, and missing runs."""
        missing = missing_table(self.gaps)
        return [
            *self.accuracy_tables(),
            *self.claim_tables(),
            *self.tuned_tables(),
            *self.minority_tables(),
            *([missing] if missing else []),
        ]

    def accuracy_tables(self, link: Callable[[Cell], str] | None = None) -> list[Table]:
        """A table for each data set; `link` gives the address of a cell's runs, for the page."""
        name = "accuracy" if self.is_transfer else "means"
        tables = accuracy_tables(self.cells, self.comparisons, name=name, what=self.question.what, link=link)
        return self._restricted(self._with_note(tables, self.comparisons))

    def claim_tables(self) -> list[Table]:
        """The methods over all cells, and every comparison; none without a comparison."""
        if not self.comparisons:
            return []
        together = overall_table(self.overall, self.comparisons, self.question.words)
        return [
            *self._restricted([together] if together else []),
            verdict_table(self.comparisons, self.question.words),
            *([ranking_table(self.ranking)] if self.ranking else []),
        ]

    def _restricted(self, tables: Sequence[Table]) -> list[Table]:
        """The tables; that their means are restricted ones joins the notes where they are."""
        text = self.results.restricted
        return [replace(table, notes=(*table.notes, f"{text}.")) if text else table for table in tables]

    def tuned_tables(self) -> list[Table]:
        """Methods at own and at best settings, then what transfer adds to scratch; none where nothing was tuned."""
        tables = [tuned_table(self.tunings.tunings, what=self.question.what), gains_table(self.tunings.gains)]
        return [table for table in tables if table]

    def minority_tables(self) -> list[Table]:
        """The thesis' Table 4, for each data set with imbalanced runs that stored each class' accuracy."""
        what = "Mean accuracy on the smallest class in %"
        tables = accuracy_tables(self.minority, self.minority_comparisons, name="minority", what=what)
        notes = equally_small(self.results, self.minority)
        tables = [
            replace(table, notes=(*table.notes, *notes.get(table.name.partition("_")[2], ()))) for table in tables
        ]
        return self._with_note(tables, self.minority_comparisons)

    def _with_note(self, tables: Sequence[Table], comparisons: Sequence[Comparison]) -> list[Table]:
        """The tables; `FIXED_N` joins the notes where a design decided on n, but not on these comparisons."""
        touched = {
            cell.condition.data
            for item in comparisons
            if item.decision is None
            for cell in (item.a, item.b)
            if any(sweep in cell.seeds and cell.method in design.compare for sweep, design in self.designs.items())
        }
        fixed_n = FIXED_N if self.is_transfer else FIXED_N.replace(JUDGED, self.question.metric)
        return [
            replace(table, notes=(*table.notes, fixed_n)) if table.name.partition("_")[2] in touched else table
            for table in tables
        ]

    def detail_tables(self) -> dict[str, list[Table]]:
        """All further tables, by section of the page."""
        tables: dict[str, list[Table]] = {}
        if self.comparisons:
            tables["tests"] = [hypothesis_table(self.comparisons)]
            tables["sizes"] = [effect_table(self.comparisons)]
            tables["power"] = [power_table(self.comparisons)]
            design = design_table(self.comparisons, self.designs)
            tables["design"] = [design] if design else []
        if len({(item.a.arm, item.b.arm) for item in self.all_pairs}) > 1:
            tables["all"] = [all_pairs_table(self.all_pairs)]
        thesis = reproduction_table(self.reproductions)
        claims = [claims_table(self.all_pairs)] if self.is_transfer and thesis_pairs(self.all_pairs) else []
        tables["thesis"] = [thesis, *claims] if thesis else []
        return tables


def gather(
    sweeps: Sequence[str] = (), question: Question | None = None, *, uri: str | None = None, folder: Path = Path()
) -> Evidence:
    """Reads the sweeps (none means all) from the ledger and computes everything that the question asks."""
    question = question or Question()
    results = read_results(sweeps, uri=uri, folder=folder, metric=question.metric)
    told = results.declared
    margin = (told.margin if told else 1.0) if question.margin is None else question.margin
    lower = told.lower_is_better if told else None
    asked = Asked(results.metric_name, question.pair, question.baseline, question.alpha, margin, lower)
    designs = read_designs(results)
    cells = make_cells(results, results.metric)
    deciding, judged = designs, cells
    if designs and told is None and question.metric not in {None, METRIC}:
        judging = read_results(sweeps, uri=uri, folder=folder)  # a launch decides by the sweep's own metric
        deciding, judged = {}, make_cells(judging, judging.metric)
    keep_apart(
        [name for cell in cells for name in (cell.arm, cell.method)], [cell.condition.data for cell in cells]
    )  # fmt: skip
    spared = find_spared(judged, designs)
    cells = without_spared(cells, spared)
    declared = next((design.compare for design in designs.values()), None)
    chosen = choose_pairs(cells, names=asked.pair, baseline=asked.baseline, declared=declared)
    comparisons = apply_designs(compare(chosen, alpha=asked.alpha, margin=asked.margin, **asked.more), deciding)
    all_pairs = apply_designs(compare_all(cells, alpha=asked.alpha, margin=asked.margin, **asked.more), deciding)
    minority: list[Cell] = []
    ours = [cell for cell in cells if cell.condition.factors == TRANSFER]
    if asked.metric == METRIC:
        minority, unread = minority_cells(results, ours)
        results = replace(results, notices=(*results.notices, *unread))
    reproductions: list[Reproduction] = []
    if asked.metric == METRIC:
        reproductions = reproduce([*ours, *map(as_published, minority)], asked.margin, asked.alpha)
    return Evidence(
        question=asked,
        results=results,
        cells=tuple(cells),
        comparisons=tuple(comparisons),
        overall=tuple(overall(comparisons, asked.alpha, is_lower_better=asked.is_lower_better)),
        ranking=rank_arms(cells, metric=asked.metric, alpha=asked.alpha, is_lowest_first=asked.is_lower_better),
        all_pairs=tuple(all_pairs),
        designs=designs,
        spared=tuple(spared),
        gaps=tuple(gap for cell in cells for gap in cell.gaps),
        minority=tuple(minority),
        minority_comparisons=tuple(compare(_among(minority, chosen), alpha=asked.alpha, margin=asked.margin)),
        reproductions=tuple(reproductions),
        tunings=find_tunings(results, cells, alpha=asked.alpha, margin=asked.margin, **asked.more),
    )


def _among(minority: Sequence[Cell], pairs: Sequence[tuple[Cell, Cell]]) -> list[tuple[Cell, Cell]]:
    """The same pairs with the smallest class' accuracies, as far as both cells have them."""
    found = {(cell.condition, cell.method): cell for cell in minority}
    keys = [((a.condition, a.method), (b.condition, b.method)) for a, b in pairs]
    return [(found[a], found[b]) for a, b in keys if a in found and b in found]
