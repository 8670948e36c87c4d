"""Writes a table on the terminal and as Markdown, LaTeX, CSV, HTML and JSON."""

import csv
import hashlib
import html
import io
import json
import re
from collections.abc import Sequence
from functools import partial
from typing import TextIO

from analysis.tables.table import Table
from l2t_ray.errors import as_shown

WIDE = 160  # characters of a line in a file
PAGE_ROWS = 40  # of a floating table; a longer one breaks over pages
MARKDOWN = re.compile(r"[\\*`$~]|<(?=[A-Za-z/!?])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")  # what GitHub would read
LATIN = 0x180  # code points below this are in the default fonts of pdflatex
LATEX = {
    **{letter: f"\\{letter}" for letter in "&%_#${}"},
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
    "\N{PLUS-MINUS SIGN}": r"$\pm$", "\N{MINUS SIGN}": r"$-$", "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{EN DASH}": "--", "\N{GREEK SMALL LETTER ALPHA}": r"$\alpha$",
    "\N{SQUARE ROOT}": r"$\surd$", "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$", "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
}  # fmt: skip


def print_table(table: Table, stream: TextIO) -> None:
    """Prints a table: as wide as the terminal and in its style, or plain and 160 characters wide in a file."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table as Rich

    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    shown = partial(as_shown, stream=stream)
    drawn = Rich(box=SIMPLE, pad_edge=False, title=shown(table.title), title_justify="left", title_style="bold")
    for index, title in enumerate(table.header):
        drawn.add_column(shown(title), justify="right" if index in table.numeric else "left", overflow="fold")
    for index, row in enumerate(table.rows):
        drawn.add_row(*map(shown, row), end_section=index + 1 in table.rules)
    least = console.measure(drawn, options=console.options.update_width(WIDE)).minimum
    console.width = max(console.width, least) if console.is_terminal else WIDE  # below that, cells would be left empty
    console.print(drawn)
    for note in table.notes:
        console.print(shown(note))
    console.print()


def to_markdown(table: Table) -> str:
    """A table in GitHub's Markdown: title, table, notes."""

    def plain(text: str) -> str:
        return MARKDOWN.sub(r"\\\g<0>", text).replace("\n", " ")

    def line(texts: tuple[str, ...]) -> str:
        return "| " + " | ".join(plain(text).replace("|", r"\|") for text in texts) + " |"

    rule = "| " + " | ".join("---:" if index in table.numeric else "---" for index in range(len(table.header))) + " |"
    parts = [f"**{plain(table.title)}**", "", line(table.header), rule, *map(line, table.rows)]
    if table.notes:
        parts += ["", *map(plain, table.notes)]
    return "\n".join(parts) + "\n"


def to_latex(table: Table) -> str:
    """A `table` or, beyond 40 rows, a `longtable` with its notes below; needs the packages booktabs and longtable."""
    columns = "".join("r" if index in table.numeric else "l" for index in range(len(table.header)))
    is_long = len(table.rows) > PAGE_ROWS
    size = r"\scriptsize" if len(columns) > 6 else r"\small"
    caption = rf"\caption{{{escape_latex(table.title)}}}\label{{tab:{_label(table.name)}}}"
    head = _latex_row(table.header)
    if is_long:
        lines = [r"\begingroup", size, rf"\begin{{longtable}}{{{columns}}}", caption + r" \\", r"\toprule", head,
                 r"\midrule", r"\endhead"]  # fmt: skip
    else:
        lines = [r"\begin{table}", r"\centering", size, caption, rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head,
                 r"\midrule"]  # fmt: skip
    for index, row in enumerate(table.rows):
        if index in table.rules:
            lines.append(r"\midrule")
        lines.append(_latex_row(row))
    lines += [r"\bottomrule", r"\end{longtable}" if is_long else r"\end{tabular}"]
    if table.notes:
        lines.append(rf"\par\medskip\footnotesize {' '.join(map(escape_latex, table.notes))}\par")
    return "\n".join([*lines, r"\endgroup" if is_long else r"\end{table}"]) + "\n"


def _latex_row(texts: Sequence[str]) -> str:
    text = " & ".join(map(escape_latex, texts))
    guard = "{}" if text.startswith(("[", "*")) else ""  # else LaTeX reads an argument of the line above
    return rf"{guard}{text} \\"


def _label(name: str) -> str:
    """Returns a table's name as a label of LaTeX; a hash keeps names apart that would become one label."""
    plain = re.sub("[^A-Za-z0-9.=+-]", "-", name)
    if plain == name.replace("_", "-"):
        return plain
    return f"{plain}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"


def to_csv(table: Table) -> str:
    """A table's texts as CSV: a header line and a line for each row, no notes."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.header)
    writer.writerows(table.rows)
    return buffer.getvalue()


def to_json(table: Table) -> str:
    """A table's texts as JSON: title, notes, and for each row a map from column to text."""
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    return json.dumps({"title": table.title, "notes": table.notes, "rows": rows}, indent=2, ensure_ascii=False) + "\n"


def to_text(table: Table) -> str:
    """A table as plain text, laid out as on a terminal."""
    buffer = io.StringIO()
    print_table(table, buffer)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def to_html(table: Table, *, bare: bool = False, most: int | None = None) -> str:
    """A `table` element for the report page.

    Args:
        table: the table.
        bare: leaves out the caption, and the notes as paragraphs below.
        most: rows that are shown; by default all.

    Returns:
        HTML, in which all texts are escaped.
    """

    def line(texts: tuple[str, ...], scopes: Sequence[str], row: int = -1) -> str:
        cells = []
        for index, (text, scope) in enumerate(zip(texts, scopes, strict=True)):
            element, attributes = ("th", f' scope="{scope}"') if scope else ("td", "")
            attributes += ' class="number"' if index in table.numeric else ""
            content = html.escape(text)
            if (row, index) in table.links:
                content = f'<a href="{html.escape(table.links[row, index])}">{content}</a>'
            cells.append(f"<{element}{attributes}>{content}</{element}>")
        return "".join(cells)

    caption = "" if bare else f"<caption>{html.escape(table.title)}</caption>\n"
    parts = [f"<table>\n{caption}<thead><tr>{line(table.header, ['col'] * len(table.header))}</tr></thead>\n<tbody>"]
    for index, row in enumerate(table.rows[:most]):
        if index in table.rules:  # the page sorts each body by itself
            parts.append("</tbody>\n<tbody>")
        parts.append(f"<tr>{line(row, ['row', *[''] * (len(row) - 1)], index)}</tr>")
    parts.append("</tbody>\n</table>")
    parts.extend(f'<p class="note">{html.escape(note)}</p>' for note in table.notes if not bare)
    return "\n".join(parts) + "\n"


def escape_latex(text: str) -> str:
    """A text whose characters LaTeX prints as they are."""

    def escaped(letter: str) -> str:
        # pdflatex stops at a character that it lacks, so print its code point instead
        return letter if ord(letter) < LATIN else rf"\texttt{{U+{ord(letter):04X}}}"

    return "".join(LATEX.get(letter) or escaped(letter) for letter in text)
