"""Everything that the analysis of one or several sweeps computes, once, for the terminal, the files and the page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.results.cells import Cell, choose_pair, make_cells
from analysis.results.comparison import Comparison, Family, compare, compare_all
from analysis.results.design import Spared, apply_designs, find_spared, read_designs, without_spared
from analysis.results.minority import as_published, equally_small, minority_cells
from analysis.results.published import Reproduction, reproduce
from analysis.results.runs import METRIC, Gap, Results, read_results
from analysis.results.tuned import Tunings, find_tunings
from analysis.tables.published import claims_table, reproduction_table
from analysis.tables.table import Table, accuracy_tables, missing_table
from analysis.tables.tests import all_pairs_table, design_table, effect_table, hypothesis_table, power_table
from analysis.tables.tuned import gains_table, tuned_table
from l2t_ray.statistics.sequential import Design

FAMILIES: dict[Family, str] = {
    "sweep": "all cells of the sweep for this pair of methods",
    "data": "the cells of one data set for this pair of methods",
    "all": "all cells of all sweeps for this pair of methods",
}
FIXED_N = (
    "A declared design has decided, by the test accuracy over all classes of its own pair, how many seeds were "
    "trained: n depends on its decisions, and p here is that of a fixed n."
)
UNITS = {METRIC: "test accuracy (%)", "test_ece_percent": "expected calibration error (%, lower is better)"}


@dataclass(frozen=True)
class Question:
    """What is asked of the runs.

    Attributes:
        metric: whose last value counts.
        pair: two methods, or None for those of a declared design, else the default.
        alpha: of a single test.
        margin: the smallest difference that matters, in the metric's unit.
        family: what p is corrected over.
    """

    metric: str = METRIC
    pair: tuple[str, str] | None = None
    alpha: float = 0.05
    margin: float = 1.0
    family: Family = "sweep"

    @property
    def unit(self) -> str:
        """The label of an axis that shows the metric."""
        return UNITS.get(self.metric, self.metric.replace("_percent", " (%)").replace("_", " "))

    @property
    def what(self) -> str:
        """The metric at the head of a table."""
        return "Mean test accuracy in %" if self.metric == METRIC else f"Mean {self.unit}"

    @property
    def family_text(self) -> str:
        """The family in words."""
        return FAMILIES[self.family]


@dataclass(frozen=True)
class Evidence:
    """The numbers.

    Attributes:
        question: what was asked.
        results: of the ledger.
        cells: of the results, without what a design has spared.
        comparisons: of the chosen pair; empty for a single method.
        all_pairs: of every two methods.
        designs: that were declared, by sweep.
        spared: runs that a design made unnecessary.
        gaps: wanted runs without a result, the spared ones left out.
        minority: cells of imbalanced sets, with the smallest class' accuracy.
        minority_comparisons: of the chosen pair among them.
        reproductions: ours against the thesis'.
        tunings: methods at their own settings and at the best ones of a search.
    """

    question: Question
    results: Results
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    all_pairs: tuple[Comparison, ...]
    designs: dict[str, Design]
    spared: tuple[Spared, ...]
    gaps: tuple[Gap, ...]
    minority: tuple[Cell, ...]
    minority_comparisons: tuple[Comparison, ...]
    reproductions: tuple[Reproduction, ...]
    tunings: Tunings

    def main_tables(self) -> list[Table]:
        """What the terminal shows.

        Returns:
            The thesis' layout for each data set, then what is missing.
        """
        question = self.question
        tables = accuracy_tables(self.cells, self.comparisons, what=question.what, family=question.family_text)
        found = self._with_note(tables, self.comparisons)
        found += self.tuned_tables()
        found += self.minority_tables()
        missing = missing_table(self.gaps)
        return [*found, missing] if missing else found

    def tuned_tables(self) -> list[Table]:
        """Own settings beside best ones.

        Returns:
            The methods', then what transfer adds to scratch; none where nothing was tuned.
        """
        tables = [tuned_table(self.tunings.tunings, what=self.question.what), gains_table(self.tunings.gains)]
        return [table for table in tables if table]

    def minority_tables(self) -> list[Table]:
        """The thesis' Table 4.

        Returns:
            One table a data set with imbalanced runs that stored each class' accuracy.
        """
        what = "Mean accuracy on the smallest class in %"
        found = accuracy_tables(
            self.minority, self.minority_comparisons, name="minority", what=what, family=self.question.family_text
        )
        several = equally_small(self.results, self.minority)
        found = [
            replace(table, notes=(*table.notes, *several.get(table.name.partition("_")[2], ()))) for table in found
        ]
        return self._with_note(found, self.minority_comparisons)

    def _with_note(self, tables: Sequence[Table], comparisons: Sequence[Comparison]) -> list[Table]:
        """Tells where a design decided on n, but not on these comparisons."""
        touched = {
            cell.condition.data
            for item in comparisons
            if item.decision is None
            for cell in (item.a, item.b)
            if any(sweep in cell.seeds and cell.method in design.compare for sweep, design in self.designs.items())
        }
        return [
            replace(table, notes=(*table.notes, FIXED_N)) if table.name.partition("_")[2] in touched else table
            for table in tables
        ]

    def detail_tables(self) -> dict[str, list[Table]]:
        """All further tables.

        Returns:
            By the report's section.
        """
        found: dict[str, list[Table]] = {}
        if self.comparisons:
            found["tests"] = [hypothesis_table(self.comparisons, self.question.family_text)]
            found["sizes"] = [effect_table(self.comparisons)]
            found["power"] = [power_table(self.comparisons)]
            design = design_table(self.comparisons, self.designs)
            found["design"] = [design] if design else []
        if self.all_pairs:
            found["all"] = [all_pairs_table(self.all_pairs)]
        thesis = reproduction_table(self.reproductions)
        found["thesis"] = [*([thesis] if thesis else []), claims_table()]
        return found


def gather(
    sweeps: Sequence[str] = (), question: Question | None = None, *, uri: str | None = None, folder: Path = Path()
) -> Evidence:
    """Reads the ledger and computes.

    Args:
        sweeps: their names; none for all in the ledger.
        question: what is asked.
        uri: of MLflow.
        folder: the working folder.

    Returns:
        The evidence.
    """
    asked = question or Question()
    results = read_results(sweeps, uri=uri, folder=folder, metric=asked.metric)
    designs = read_designs(results)
    cells = make_cells(results, asked.metric)
    deciding, judged = designs, cells
    if designs and asked.metric != METRIC:  # a launch decides by the accuracy, whatever is asked of its runs later
        deciding, judged = {}, make_cells(read_results(sweeps, uri=uri, folder=folder, metric=METRIC), METRIC)
    spared = find_spared(judged, designs)
    cells = without_spared(cells, spared)
    declared = next((design.compare for design in designs.values()), None)
    pair = choose_pair(cells, asked.pair or declared)

    def paired(of: Sequence[Cell]) -> list[Comparison]:
        if pair is None:
            return []
        return compare(of, *pair, alpha=asked.alpha, margin=asked.margin, family=asked.family)

    comparisons = apply_designs(paired(cells), deciding)
    all_pairs = apply_designs(compare_all(cells, alpha=asked.alpha, margin=asked.margin), deciding)
    minority = minority_cells(results, cells) if asked.metric == METRIC else []
    reproductions: list[Reproduction] = []
    if asked.metric == METRIC:
        reproductions = reproduce([*cells, *map(as_published, minority)], asked.margin, asked.alpha)
    return Evidence(
        question=asked,
        results=results,
        cells=tuple(cells),
        comparisons=tuple(comparisons),
        all_pairs=tuple(all_pairs),
        designs=designs,
        spared=tuple(spared),
        gaps=tuple(gap for cell in cells for gap in cell.gaps),
        minority=tuple(minority),
        minority_comparisons=tuple(paired(minority)),
        reproductions=tuple(reproductions),
        tunings=find_tunings(results, cells, alpha=asked.alpha, margin=asked.margin),
    )
