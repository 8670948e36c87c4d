"""Tables in each format: terminal, Markdown, LaTeX, CSV, HTML, JSON."""

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from analysis.results.cells import Cell, Condition, matched
from analysis.results.comparison import compare, compare_all
from analysis.results.minority import metric
from analysis.results.runs import Gap
from analysis.results.wanted import Wanted
from analysis.tables.names import samples_text
from analysis.tables.published import claims_table
from analysis.tables.render import escape_latex, print_table, to_csv, to_html, to_json, to_latex, to_markdown, to_text
from analysis.tables.table import Table, accuracy_tables, missing_table, p_text, points, signed
from analysis.tables.tests import all_pairs_table, effect_table, hypothesis_table, power_table
from l2t_ray.statistics.hypothesis import seed_list

HOSTILE = 'a|b & 50% #1 $x_y {~^\\} <b>"q"</b> αβ'
PLAIN = Table("plain", "A title", ("method", "10"), (("scratch", "1.00 ± 0.10"), ("ufm", "−2.00")), ("A note.",), (1,))


def cell(method, values, samples="10", data="cifar10", gaps=()):
    place = Condition(data, samples)
    return Cell(place, method, dict(enumerate(values)), len(values) + len(gaps), tuple(gaps), {}, sweep="s")


@pytest.fixture(scope="module")
def cells():
    return [
        cell(method, [base + step * 0.37 + (step * 7 % 5) * 0.21 for step in range(8)], samples)
        for samples, extra in (("10", 0), ("30", 9.5))
        for method, base in (("scratch", 20 + extra), ("l2t_ww", 30 + extra), ("l2t_www", 30.9 + extra))
    ]


@pytest.fixture(scope="module")
def tables(cells):
    pair = compare(matched(cells, "l2t_www", "l2t_ww"))
    return [
        *accuracy_tables(cells, pair), hypothesis_table(pair), effect_table(pair), power_table(pair),
        all_pairs_table(compare_all(cells)), claims_table(),
    ]  # fmt: skip


def test_the_first_table_has_the_thesis_layout(cells):
    (table,) = accuracy_tables(cells, compare(matched(cells, "l2t_www", "l2t_ww")))
    assert table.header == ("images a class", "10", "30")
    names = ["From scratch", "L2T-ww", "L2T-www", "L2T-www − L2T-ww", "p", "p (Holm)", "A12"]
    assert [row[0] for row in table.rows] == names
    assert table.rules == (3,)
    assert table.rows[3][1] == "+0.90"
    assert table.notes[-1] == "8 runs a cell."


def test_missing_runs_are_counted_in_the_cell_and_listed():
    gap = Gap(Wanted("s", "k", "cifar10/10/ufm", 8, "cifar10", "10", "ufm"), "diverged", "loss is nan")
    with_gap = cell("ufm", [50.0, 51.0, 52.0], gaps=[gap])
    (table,) = accuracy_tables([with_gap], [])
    assert table.rows[0][1].endswith("(3/4)")
    assert missing_table([gap]).rows == (("CIFAR-10", "10", "UFM", "diverged", "1", "8", "loss is nan"),)
    assert missing_table([]) is None


def test_a_family_is_corrected_as_a_whole(cells):
    found = compare(matched(cells, "l2t_www", "l2t_ww"))
    p = sorted(item.test.p for item in found)
    assert sorted(item.p_holm for item in found) == pytest.approx(sorted([min(1, 2 * p[0]), max(2 * p[0], p[1])]))
    assert [item.n_family for item in found] == [2, 2]


def test_the_margin_shown_is_where_equivalence_begins(cells):
    for alpha in (0.05, 0.01):
        for item in compare(matched(cells, "l2t_www", "scratch"), alpha=alpha):
            margin = item.shown_within
            below, above = (replace(item, margin=margin + off).equivalence.p for off in (-1e-6, 1e-6))
            assert below >= alpha > above
            assert item.shown_within >= abs(item.shift.value)


def test_all_against_all_counts_every_pair(cells):
    assert len(compare_all(cells)) == 2 * 3
    assert "all 6 tests" in all_pairs_table(compare_all(cells)).notes[0]


@pytest.mark.parametrize(
    ("p", "text"), [(None, "–"), (0.00005, "<0.0001"), (0.0042, "0.0042"), (0.0499, "0.0499"), (1.0, "1.000")]
)
def test_a_p_is_printed_with_three_digits_four_below_a_tenth(p, text):
    assert p_text(p) == text


def test_differences_have_a_true_minus_and_margins_their_plural():
    assert (signed(-0.4), signed(2.0), signed(None)) == ("−0.40", "+2.00", "–")
    assert (signed(2e-13, 15), signed(-1e-14, 2), signed(-2e160)) == ("+0.000000000000200", "+0.00", "−2.00e+160")
    assert (points(1.0), points(2.5)) == ("1 point", "2.5 points")
    assert seed_list([1, 2, 3, 5]) == "1-3, 5"


def test_markdown_shows_names_as_they_are():
    """`<b>` was not shown at all, `*a*` was slanted, and a note that begins with a star became a list."""
    names = ("<b>x", "*a*", "_a_", "`a`", "$a$", "a\\*b", "l2t_ww", "<0.0001")
    text = to_markdown(Table("t", "*T*", ("a",), tuple((name,) for name in names), ("* With a star.",)))
    shown = [r"\<b>x", r"\*a\*", r"\_a\_", r"\`a\`", r"\$a\$", r"a\\\*b", "l2t_ww", "<0.0001"]
    assert text.splitlines() == [r"**\*T\***", "", "| a |", "| --- |", *(f"| {name} |" for name in shown), "",
                                 r"\* With a star."]  # fmt: skip


def test_markdown_has_one_line_a_row_whatever_the_text():
    text = to_markdown(Table("t", "T", ("a", "b"), ((HOSTILE, "x\ny"),)))
    lines = text.splitlines()
    assert lines[3] == "| --- | ---: |"
    assert lines[4].replace(r"\|", "").count("|") == 3
    assert len(lines) == 5


def test_csv_comes_back_as_it_went_in():
    table = Table("t", "T", ("a", "b"), ((HOSTILE, 'x "y", z'), ("line\nbreak", "")))
    assert [tuple(row) for row in csv.reader(io.StringIO(to_csv(table)))] == [table.header, *table.rows]


def test_json_comes_back_as_it_went_in():
    found = json.loads(to_json(PLAIN))
    assert found["rows"] == [{"method": "scratch", "10": "1.00 ± 0.10"}, {"method": "ufm", "10": "−2.00"}]
    assert (found["title"], found["notes"]) == ("A title", ["A note."])


def test_text_is_what_the_terminal_shows():
    lines = to_text(PLAIN).splitlines()
    assert lines[0] == "A title"
    assert "A note." in lines


class Narrow(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


def test_a_terminal_that_is_too_narrow_for_the_table_wraps_it_and_loses_no_cell(monkeypatch):
    monkeypatch.setenv("COLUMNS", "6")
    monkeypatch.setenv("TERM", "xterm")
    stream = Narrow()
    print_table(PLAIN, stream)
    for word in ("scratc", "ufm", "1.00", "0.10", "2.00"):
        assert word in stream.getvalue()


def test_a_stream_of_ascii_gets_rows_as_wide_as_their_frame():
    stream = io.TextIOWrapper(buffer := io.BytesIO(), "ascii", errors="l2t")
    print_table(PLAIN, stream)
    stream.flush()
    rows = [line for line in buffer.getvalue().decode("ascii").splitlines() if "|" in line or "-+-" in line]
    assert any("1.00 +- 0.10" in row for row in rows)
    assert len({len(row) for row in rows}) == 1


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.cells, self.text = [], 0, []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.cells += tag in {"td", "th"}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_html_is_balanced_and_escapes_everything():
    parser = Elements()
    parser.feed(to_html(Table("t", HOSTILE, ("a", "b"), ((HOSTILE, "1"), ("x", "2")), (HOSTILE,), (1,))))
    assert parser.open == []
    assert parser.cells == 6
    assert parser.text.count(HOSTILE) == 3


def test_html_draws_a_rule_by_a_new_body():
    assert to_html(PLAIN).count("<tbody>") == 2


def test_latex_is_booktabs_with_one_column_an_ampersand(tables):
    for table in tables:
        text = to_latex(table)
        assert [text.count(f"\\{rule}rule") for rule in ("top", "bottom")] == [1, 1]
        assert text.count(r"\midrule") == 1 + len(table.rules)
        body = [line for line in text.splitlines() if line.endswith(r" \\") and " & " in line]
        assert {line.replace(r"\&", "").count("&") for line in body} == {len(table.header) - 1}
        assert text.count(r"\begin{") == text.count(r"\end{")
        assert text.isascii()


def test_latex_escapes_what_latex_would_read():
    assert escape_latex("50% & a_b #1 {x} \\ ~ ^ $") == (
        r"50\% \& a\_b \#1 \{x\} \textbackslash{} \textasciitilde{} \textasciicircum{} \$"
    )
    assert escape_latex("β") == r"\texttt{U+03B2}"


@pytest.mark.parametrize("first", ["[1, 2]", "[1pt]", "*"])
def test_latex_takes_the_begin_of_a_row_for_no_argument_of_the_line_above(first):
    lines = to_latex(Table("t", "T", ("a", "b"), ((first, "1"), (first, "2")), rules=(1,))).splitlines()
    assert [line for line in lines if line.endswith(r"1 \\") or line.endswith(r"2 \\")] == [
        rf"{{}}{first} & 1 \\", rf"{{}}{first} & 2 \\",
    ]  # fmt: skip


def test_a_table_longer_than_a_page_breaks():
    long = Table("t", "T", ("a", "b"), tuple((str(i), "1") for i in range(90)))
    assert r"\begin{longtable}" in to_latex(long)


def test_a_label_of_latex_has_nothing_that_latex_refuses_and_is_of_one_table():
    """A percent sign in a data set's name left the rest of the line, with the closing brace, as a comment."""
    names = ["accuracy_a%", "accuracy_a&", "accuracy_a#{", "accuracy_cifar10"]
    texts = [to_latex(Table(name, "T", ("a", "b"), (("1", "2"),))) for name in names]
    labels = [re.search(r"\\label\{(.*)\}$", text, re.MULTILINE)[1] for text in texts]
    assert all(re.fullmatch(r"tab:[A-Za-z0-9.=+-]+", label) for label in labels)
    assert len({*labels}) == len(names)
    assert labels[-1] == "tab:accuracy-cifar10"


def test_latex_takes_the_begin_of_the_header_for_no_argument_of_the_rule_above():
    assert "\\toprule\n{}[x] & b" in to_latex(Table("t", "T", ("[x]", "b"), (("1", "2"),)))


@pytest.mark.skipif(not (shutil.which("pdflatex") or shutil.which("tectonic")), reason="neither pdflatex nor tectonic")
def test_latex_compiles(tables, tmp_path):
    extra = [
        Table("bracket", "T", ("[a]", "b"), (("[1pt]", "1"), ("[1, 2]", "2"), ("*", "3")), rules=(1,)),
        Table("hostile", HOSTILE, (HOSTILE, "b"), ((HOSTILE, "1"),), (HOSTILE,)),
        Table("long", "T", ("a", "b"), tuple((str(i), "1") for i in range(90))),
    ]
    packages = "".join(rf"\usepackage{{{name}}}" for name in ("booktabs", "longtable"))
    body = "\n".join(to_latex(table) for table in [*tables, *extra])
    head = rf"\documentclass[a4paper]{{article}}\usepackage[margin=1cm]{{geometry}}{packages}"
    (tmp_path / "t.tex").write_text(f"{head}\\begin{{document}}\n{body}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    if not shutil.which("pdflatex"):
        command = ["tectonic", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "t.pdf").stat().st_size > 10_000


def test_a_class_metric_is_spelled_as_the_ledger_spells_it():
    assert metric("t-shirt/top") == "test_accuracy_class_t-shirt/top_percent"
    assert metric("cat(1)") == "test_accuracy_class_cat_1_.a1c8b36b_percent"  # sha256sum of the whole name


@pytest.mark.parametrize(
    ("label", "text"), [("1", "1 image a class"), ("10", "10 images a class"), ("cat=3", "cat=3 images a class")]
)
def test_a_number_of_images_is_written_in_words(label, text):
    assert samples_text(label) == text
