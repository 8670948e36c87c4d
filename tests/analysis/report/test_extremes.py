"""Reports of hostile names and of numbers near the ends of float64 are written, and say what they lack."""

import json

import pytest
from scipy import stats

from analysis.report.evidence import gather
from analysis.report.numbers import summary_json
from analysis.report.page import write_report
from analysis.report.paragraph import paragraph, paragraph_latex
from analysis.stats import main
from l2t_ray.ledger.limits import safe_name
from tests.support.ledgers import Logged, fill


def fill_own(database, values, metric="score", margin=1.0):
    runs = [
        Logged(data="wine", samples="-", method=method, seed=seed, accuracy=None, params={"trainer.file": "t.py"},
               curves={safe_name(metric): [(3, value)]})
        for method, found in values.items() for seed, value in enumerate(found)
    ]  # fmt: skip
    told = {"metric": {"name": metric, "lower_is_better": False, "margin": margin},
            "factors": {"data": "set[1]", "axis": "", "method": "net[v2]"}}  # fmt: skip
    fill(database, "mine", runs, further=told)


PLAIN = [1.0 + seed / 7 for seed in range(8)]


@pytest.mark.parametrize("name", ["net[v2]", "[welch1947]", "hidden [64, 64]", "[holm1979,lan1983]"])
def test_a_bracket_of_the_users_is_no_citation(database, tmp_path, name):
    fill_own(database, {"base": PLAIN, name: [value + 3 for value in PLAIN]}, metric="loss[mann1947]")
    evidence = gather()
    assert f"We compared {name} against base in 1 cell" in paragraph(evidence)
    assert "Mann-Whitney tests (Mann and Whitney 1947) at 0.05" in paragraph(evidence)
    latex = paragraph_latex(evidence)
    assert f"We compared {name} against base" in latex
    assert r"Each net[v2] was trained" in latex
    assert "(set[1])" in latex
    assert latex.count(r"\cite{mann1947}") == 1
    assert latex.count(r"\cite{welch1947}") == 1
    assert "1 loss[mann1947] was tested" in latex
    assert write_report(evidence, tmp_path / "report").is_file()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("huge", [[1e160], [9.9e307, -9.9e307], [-1e300, 1e300]], ids=["one", "both", "far"])
def test_numbers_near_the_largest_have_a_report_that_says_which_figures_it_lacks(database, capsys, huge):
    fill_own(database, {"a": PLAIN, "b": [*huge, *(value + 2 for value in PLAIN[len(huge) :])]})
    assert main(["mine", "--out", "report"]) == 0
    told = capsys.readouterr().out.splitlines()
    lacking = [line for line in told if line.startswith("figure ") and "cannot be drawn: " in line]
    assert any(line.startswith("figure power cannot be drawn: ") for line in lacking)
    page = (database.parent / "report" / "index.html").read_text()
    assert all(line.split(":")[0] in page for line in lacking)
    assert 'base64,"' not in page
    assert not (database.parent / "report" / "figures" / "power.svg").exists()
    json.loads((database.parent / "report" / "results.json").read_text(), parse_constant=pytest.fail)
    assert main(["mine", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    row = found["comparisons"][0]
    assert row["needed_seeds"] is None
    assert 0 < row["brunner_munzel"]["p"] < 0.05


def test_what_is_not_finite_is_null(database):
    fill_own(database, {"a": [9.9e307] * 5, "b": [-9.9e307] * 5})
    row = summary_json(gather())["comparisons"][0]
    assert row["hodges_lehmann"]["value"] is None
    assert row["mean_difference"]["value"] is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("margin", ["1e300", "1e-300", "1e308", "5e-324"])
def test_a_margin_near_the_ends_has_a_report(database, capsys, margin):
    fill_own(database, {"a": PLAIN, "b": [value + 2 + value * value / 50 for value in PLAIN]})
    assert main(["mine", "--margin", margin, "--out", "report"]) == 0
    assert main(["mine", "--margin", margin, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))
    assert found["comparisons"][0]["needed_seeds"] == (5 if float(margin) > 1 else None)


def test_small_values_are_shown_with_the_digits_of_their_margin(database):
    fill_own(database, {"a": [v * 1e-12 for v in PLAIN], "b": [(v + 3) * 1e-12 for v in PLAIN]}, margin=1e-12)
    evidence = gather()
    x, y = PLAIN, [v + 3 for v in PLAIN]
    assert evidence.comparisons[0].p == stats.mannwhitneyu(x, y, method="exact").pvalue < 0.05
    (table,) = [table for table in evidence.claim_tables() if table.name == "verdicts"]
    assert any("+0.00000000000300" in text for text in table.rows[0])
