"""Tables on the terminal and as Markdown, LaTeX, CSV, HTML and JSON."""

import csv
import html
import io
from typing import TextIO

from analysis.tables import Table

WIDE = 160  # characters of a line that goes to a file
LATEX = {
    **{letter: f"\\{letter}" for letter in "&%_#${}"},
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
    "\N{PLUS-MINUS SIGN}": r"$\pm$", "\N{MINUS SIGN}": r"$-$", "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{EN DASH}": "--", "\N{GREEK SMALL LETTER ALPHA}": r"$\alpha$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$", "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
}  # fmt: skip


def print_table(table: Table, stream: TextIO) -> None:
    """A table on a terminal, or plain in a file.

    Args:
        table: to print.
        stream: where to.
    """
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table as Rich

    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDE
    drawn = Rich(box=SIMPLE, pad_edge=False, title=table.title, title_justify="left", title_style="bold")
    for index, title in enumerate(table.header):
        drawn.add_column(title, justify="right" if index in table.numeric else "left", overflow="fold")
    for index, row in enumerate(table.rows):
        drawn.add_row(*row, end_section=index + 1 in table.rules)
    console.print(drawn)
    for note in table.notes:
        console.print(note)
    console.print()


def to_markdown(table: Table) -> str:
    """A table in GitHub's Markdown.

    Args:
        table: any.

    Returns:
        Title, table, notes.
    """

    def line(texts: tuple[str, ...]) -> str:
        return "| " + " | ".join(text.replace("|", r"\|").replace("\n", " ") for text in texts) + " |"

    rule = "| " + " | ".join("---:" if index in table.numeric else "---" for index in range(len(table.header))) + " |"
    parts = [f"**{table.title}**", "", line(table.header), rule, *map(line, table.rows)]
    if table.notes:
        parts += ["", *table.notes]
    return "\n".join(parts) + "\n"


def to_latex(table: Table) -> str:
    """A table for a paper; needs the package booktabs.

    Args:
        table: any.

    Returns:
        A `table` environment.
    """
    columns = "".join("r" if index in table.numeric else "l" for index in range(len(table.header)))
    caption = escape_latex(". ".join([table.title, " ".join(table.notes)]).strip())
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{caption}}}",
        rf"\label{{tab:{table.name.replace('_', '-')}}}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule",
        " & ".join(map(escape_latex, table.header)) + r" \\", r"\midrule",
    ]  # fmt: skip
    for index, row in enumerate(table.rows):
        if index in table.rules:
            lines.append(r"\midrule")
        lines.append(" & ".join(map(escape_latex, row)) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def to_csv(table: Table) -> str:
    """A table's texts as CSV.

    Args:
        table: any.

    Returns:
        A header line and a line a row.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.header)
    writer.writerows(table.rows)
    return buffer.getvalue()


def to_html(table: Table, *, notes: bool = True) -> str:
    """A table for the report page.

    Args:
        table: any.
        notes: whether they follow as paragraphs.

    Returns:
        A `table` element with its caption.
    """

    def line(texts: tuple[str, ...], kind: str) -> str:
        classes = [' class="number"' if index in table.numeric else "" for index in range(len(texts))]
        return "".join(f"<{kind}{name}>{html.escape(text)}</{kind}>" for name, text in zip(classes, texts, strict=True))

    caption, head = html.escape(table.title), line(table.header, "th")
    parts = [f"<table>\n<caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>"]
    for index, row in enumerate(table.rows):
        if index in table.rules:  # each body is sorted by itself
            parts.append("</tbody>\n<tbody>")
        parts.append(f"<tr>{line(row, 'td')}</tr>")
    parts.append("</tbody>\n</table>")
    parts.extend(f'<p class="note">{html.escape(note)}</p>' for note in table.notes if notes)
    return "\n".join(parts) + "\n"


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is.

    Args:
        text: plain.

    Returns:
        The text with LaTeX's own characters escaped.
    """
    return "".join(LATEX.get(letter, letter) for letter in text)
