"""The report: one page that opens from disk without a network, with every table and figure as files beside it.

The same ledger and command give the same bytes: every resampling has a fixed seed, and the only times and machines in
a report are those of the launches.
"""

import base64
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from analysis.figures.style import Drawing, file_name
from analysis.report.answer import answer
from analysis.report.evidence import Evidence
from analysis.report.files import keep_list
from analysis.report.numbers import cell_rows, comparison_rows, summary_json
from analysis.report.paragraph import paragraph_latex, references
from analysis.report.sections import Section, draw_all, make_sections
from analysis.results.launches import usage_rows
from analysis.tables.render import to_csv, to_html, to_json, to_latex, to_markdown, to_text
from analysis.tables.table import Table
from l2t_ray.files import write_atomic
from l2t_ray.style import style_sheet

PAGE, FIGURES = "index.html", "figures"
REM_AN_INCH = 8.0  # of a figure: one scale, so that the letters of all figures have the same size
RENDERINGS: dict[str, Callable[[Table], str]] = {
    "txt": to_text, "md": to_markdown, "tex": to_latex, "csv": to_csv, "html": to_html, "json": to_json,
}  # fmt: skip
MOST_ROWS = 100  # of a table on the page; its CSV has all


def write_report(
    evidence: Evidence,
    folder: Path,
    *,
    mlflow_url: str | None = None,
    out: str = "report",
    figures: dict[str, list[Drawing]] | None = None,
) -> Path:
    """Writes the page and all files.

    Args:
        evidence: of `gather`.
        folder: created if it is missing.
        mlflow_url: where MLflow's pages are; by default the ledger's server, or where `l2t ui` listens.
        out: the folder as the command line named it, for the page's command that writes the report again.
        figures: of `draw_all`, if they are already in the folder's `figures`; by default they are drawn now.

    Returns:
        The path of the page.
    """
    figures = draw_all(evidence, folder / FIGURES) if figures is None else figures
    sections = make_sections(evidence, figures, mlflow_url, out)
    files = {
        f"tables/{file_name(table.name)}.{kind}": render(table).encode()
        for section in sections
        for table in section.tables
        for kind, render in RENDERINGS.items()
    }
    files |= _numbers(evidence)
    if evidence.comparisons:
        files["paragraph.tex"] = paragraph_latex(evidence).encode()
        files["references.bib"] = references().encode()
    files[PAGE] = _page(evidence, sections).encode()
    for name, content in files.items():
        write_atomic(folder / name, content)
    drawn = [f"{FIGURES}/{name}" for group in figures.values() for figure in group for name in figure.files]
    keep_list(folder, [*files, *drawn])
    return folder / PAGE


def _numbers(evidence: Evidence) -> dict[str, bytes]:
    runs = evidence.results.runs
    buffer = io.BytesIO()
    runs.to_parquet(buffer, index=False)
    files = {"runs.parquet": buffer.getvalue()}
    for name, frame in (
        ("runs", runs),
        ("cells", pd.DataFrame(cell_rows(evidence.cells))),
        ("comparisons", pd.DataFrame(comparison_rows(evidence.comparisons))),
    ):
        files[f"{name}.csv"] = frame.to_csv(index=False, lineterminator="\n").encode()
    if samples := usage_rows(evidence.results.launches):
        frame = pd.DataFrame(samples)
        files["usage.csv"] = frame.to_csv(index=False, lineterminator="\n").encode()
    files["results.json"] = (json.dumps(summary_json(evidence), indent=2, allow_nan=False) + "\n").encode()
    return files


def _inches(figure: Drawing) -> float:
    width = re.search(r'width="([\d.]+)pt"', figure.svg)
    return float(width[1]) / 72 if width else 6.4


def _page(evidence: Evidence, sections: Sequence[Section]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(loader=PackageLoader("analysis.report"), autoescape=True, undefined=StrictUndefined)
    script = environment.loader.get_source(environment, "report.js")[0]  # type: ignore[union-attr]
    shown = [
        {
            "name": section.name,
            "title": section.title,
            "texts": section.texts,
            "is_folded": section.is_folded,
            "commands": section.commands,
            "tables": [
                {
                    "title": table.title,
                    "html": Markup(to_html(table, bare=True, most=MOST_ROWS)),
                    "notes": table.notes,
                    "csv": f"tables/{file_name(table.name)}.csv",
                    "n_left_out": max(0, len(table.rows) - MOST_ROWS),
                }
                for table in section.tables
            ],
            "figures": [
                {
                    "name": f.name,
                    "caption": f.caption,
                    "width_rem": f"{_inches(f) * REM_AN_INCH:.1f}",
                    "base64": base64.b64encode(f.svg.encode()).decode(),
                }
                for f in section.figures
            ],
        }
        for section in sections
    ]
    page: str = environment.get_template("report.html.j2").render(
        title=f"Report: {', '.join(evidence.results.sweeps)}",
        answer=answer(evidence),
        notices=evidence.results.notices,
        sections=shown,
        css=Markup(style_sheet()),
        js=Markup(script),
    )
    return page
