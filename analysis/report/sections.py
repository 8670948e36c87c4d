"""What the page shows, in which order, and what of it is folded; and its figures."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from analysis.figures.accuracy import draw_accuracy, draw_seeds
from analysis.figures.curves import draw_curves
from analysis.figures.difference import draw_differences, draw_p, draw_power
from analysis.figures.ranks import draw_ranks
from analysis.figures.style import Drawing, drawn
from analysis.figures.traces import draw_traces
from analysis.figures.tuned import draw_tuned
from analysis.report.evidence import Asked, Evidence
from analysis.report.paragraph import computed_with, paragraph
from analysis.results.cells import Cell
from analysis.results.runs import METRIC
from analysis.results.wanted import is_number
from analysis.tables.names import arm_name, place_text
from analysis.tables.runs import cost_table, launches_tables, origin_table, settings_table
from analysis.tables.table import Table
from analysis.tables.tuned import reading

LOCAL_MLFLOW = "http://127.0.0.1:5000"  # where `l2t ui` listens
MOST_DRAWN, FEW_DRAWN = 12, 6  # data sets with figures of their own; of more than 12 the first 6
METHODS = (
    "Mann-Whitney, two-sided: exact below 50 seeds, ties included; else normal with tie and continuity correction. "
    "Brunner-Munzel by permutations below 10 seeds, else with its t approximation; it decides where spreads or numbers "
    "of seeds differ by more than 2 to 1. Wilcoxon's signed-rank test pairs equal seeds. Fewer than 5 seeds get no p.",
    "Holm's correction of the verdicts is over all comparisons of the question, whatever sweep or data set they are "
    "from. The methods over all cells, all methods against all, and the published numbers are corrected each by "
    "itself.",
    "Intervals are 95 %: Student's t for means and for paired differences, Welch's t for differences of means, the "
    "inverted Mann-Whitney test for the Hodges-Lehmann shift, Newcombe's method 5 for A12, Brunner and Munzel's where "
    "their test decides, Clopper and Pearson's for equal seeds.",
    "Every resampling has a fixed seed: the same ledger, command and library versions give this report byte for byte.",
)


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    name: str
    title: str
    texts: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Drawing] = ()
    commands: Sequence[str] = ()
    is_folded: bool = False  # shown by its title until a reader opens it


def draw_all(evidence: Evidence, folder: Path | None) -> dict[str, list[Drawing]]:
    """Draws every figure, by section of the page; with `folder` None in memory only."""
    unit, first = evidence.question.unit, drawn_data(evidence.cells)
    cells = [cell for cell in evidence.cells if cell.condition.data in first]
    comparisons = evidence.comparisons
    balanced = [cell for cell in cells if is_number(cell.condition.samples_per_class)] or cells
    name = "accuracy" if evidence.is_transfer else "means"
    of_first = [item for item in comparisons if item.condition.data in first]
    return {
        "accuracy": draw_accuracy(balanced, folder, unit=unit, name=name),
        "minority": draw_accuracy(
            evidence.minority, folder, unit="accuracy on the smallest class (%)", name="minority"
        ),
        "tuned": drawn("tuned", draw_tuned, evidence.tunings, folder, unit=unit),
        "seeds": draw_seeds(cells, folder, unit=unit),
        "claims": drawn("difference", draw_differences, comparisons, evidence.overall, folder, unit=unit),
        "ranks": drawn("ranks", draw_ranks, evidence.ranking, folder),
        "design": drawn("p_by_seeds", draw_p, comparisons, folder),
        "power": drawn("power", draw_power, of_first, folder),
        "curves": draw_curves(
            evidence.results, cells, folder, None if evidence.is_transfer else {evidence.results.metric: unit}
        ),
        "traces": draw_traces(evidence.results, evidence.cells, folder),
    }


def drawn_data(cells: Sequence[Cell]) -> list[str]:
    """The data sets that have figures of their own: all, or the first few of more than `MOST_DRAWN`."""
    every = [*dict.fromkeys(cell.condition.data for cell in cells)]
    return every if len(every) <= MOST_DRAWN else every[:FEW_DRAWN]


def make_sections(
    evidence: Evidence, figures: dict[str, list[Drawing]], mlflow_url: str | None, out: str
) -> list[Section]:
    """The sections that have something to show, in the order of the page.

    Args:
        evidence: of `gather`.
        figures: of `draw_all`.
        mlflow_url: where MLflow's pages are; by default the ledger's server, or where `l2t ui` listens.
        out: the report's folder as the command line named it.

    Returns:
        First what answers the question, then what stands folded behind it.
    """
    tables = evidence.detail_tables()
    claims = evidence.claim_tables()
    ranked = [table for table in claims if table.name == "ranks"]
    claims = [table for table in claims if table.name != "ranks"]
    missing = [table for table in evidence.main_tables() if table.name == "missing"]
    spared = [
        f"{len(item.seeds)} runs of {arm_name(item.cell.arm)} on {place_text(item.cell.condition)} were not trained: "
        "the cell had stopped."
        for item in evidence.spared
    ]
    run_tables = (make(evidence.results) for make in (settings_table, origin_table, cost_table))
    missing_texts = [missing_text(gap.wanted.sweep for gap in evidence.gaps)] if evidence.gaps else []
    base = _base(evidence, mlflow_url)
    accuracy = evidence.accuracy_tables(lambda cell: _runs_url(evidence, cell, base))
    sections = [
        Section("claims", "Who is better", tables=claims[:1], figures=figures["claims"]),
        Section(
            "results", "Results", [_links_text(evidence, base), *_left_out(evidence)], accuracy, figures["accuracy"]
        ),
        Section("verdicts", "Cell by cell", tables=claims[1:]),
        Section("ranks", "Average ranks", tables=ranked, figures=figures["ranks"]),
        Section(
            "tuned",
            "At their own settings and at their best ones",
            reading(evidence.tunings.gains),
            evidence.tuned_tables(),
            figures["tuned"],
        ),
        Section("design", "The declared design", spared, tables.get("design", ()), figures["design"]),
        Section("minority", "The imbalanced class", (), evidence.minority_tables(), figures["minority"]),
        Section("missing", "Runs without a result", missing_texts, missing),
    ]
    folded = [
        Section("tests", "All tests", tables=tables.get("tests", ())),
        Section("sizes", "Sizes of the differences", tables=tables.get("sizes", ())),
        Section("power", "Power and equivalence", (), tables.get("power", ()), figures["power"]),
        Section("all", "All methods against all", tables=tables.get("all", ())),
        Section("thesis", "Against the published numbers", tables=tables["thesis"]),
        Section("seeds", "Every seed", figures=figures["seeds"]),
        Section("curves", "Learning curves", figures=figures["curves"]),
        Section("traces", "Traces: lambda, gamma and weights over training", figures=figures["traces"]),
        Section("launches", "What the launches took", tables=launches_tables(evidence.results.launches)),
        Section("runs", "The runs: settings, origin, cost", tables=[table for table in run_tables if table]),
        Section("paper", "For the paper", texts=_paper_texts(evidence)),
        Section(
            "methods",
            "How it was computed",
            texts=[*_methods(evidence), f"Computed with {computed_with()}. This report again:"],
            commands=[report_command(evidence, out)],
        ),
    ]
    sections += [replace(section, is_folded=True) for section in folded]
    return [s for s in sections if s.tables or s.figures or s.texts]


def _methods(evidence: Evidence) -> list[str]:
    published = "over all cells, all methods against all, and the published numbers are"
    without = "over all cells and all methods against all are"
    return [text if evidence.is_transfer else text.replace(published, without) for text in METHODS]


def _left_out(evidence: Evidence) -> list[str]:
    n = len({cell.condition.data for cell in evidence.cells})
    if n <= MOST_DRAWN:
        return []
    return [
        f"Figures show the first {FEW_DRAWN} of {n} data sets, tables all. A report of fewer sweeps shows the others."
    ]


def _runs_url(evidence: Evidence, cell: Cell, base: str) -> str:
    """MLflow's table of a cell's runs."""
    run_ids = [*cell.run_ids.values()]
    experiment = evidence.results.entries[run_ids[0]].experiment_id
    rows = evidence.results.runs
    name = str(rows.loc[rows["run_id"] == run_ids[0], "cell"].iloc[0])
    quote_mark = "'" if '"' in name else '"'
    wanted = f"tags.`l2t.cell` = {quote_mark}{name}{quote_mark}"
    return f"{base}/#/experiments/{quote(experiment)}/runs?searchFilter={quote(wanted)}"


def _base(evidence: Evidence, mlflow_url: str | None) -> str:
    uri = evidence.results.uri
    served = uri.replace("***@", "") if uri.startswith("http") else LOCAL_MLFLOW
    return (mlflow_url or served).rstrip("/")


def _links_text(evidence: Evidence, base: str) -> str:
    text = f"Every mean is linked to its runs in MLflow at {base}"
    if not evidence.results.uri.startswith("http") and base == LOCAL_MLFLOW:
        return f"{text}: start it with the command l2t ui in the folder of mlflow.db."
    return f"{text}."


def _paper_texts(evidence: Evidence) -> list[str]:
    if not evidence.comparisons:
        return []
    files = "With \\cite in paragraph.tex, its references in references.bib; the tables as LaTeX in tables/."
    return [paragraph(evidence), files]


def report_command(evidence: Evidence, out: str = "report") -> str:
    """The command that writes this report again, for a shell in the folder of the ledger."""
    asked, declared = evidence.question, evidence.results.declared
    usual = Asked(margin=declared.margin if declared else 1.0)
    words = ["python", "-m", "analysis.stats", *evidence.results.sweeps]
    if asked.pair:
        words += ["--compare", *asked.pair]
    if asked.baseline:
        words += ["--baseline", asked.baseline]
    for name in ("alpha", "margin"):
        if (value := getattr(asked, name)) != getattr(usual, name):
            words += [f"--{name}", str(value)]
    if asked.metric != (declared.name if declared else METRIC):
        words += ["--metric", asked.metric]
    return shlex.join([*words, "--out", out])


def missing_text(sweeps: Iterable[str]) -> str:
    """How to train the runs without a result that these sweeps want."""
    names = " or ".join(f"sweep: {name}" for name in dict.fromkeys(sweeps))
    return (
        f"python -m l2t_ray.sweep FILE, with the file that says {names}, trains the missing ones; with --retry-failed "
        "those that failed or diverged too."
    )
