"""What a reader needs to repeat and cite a report: settings, origin, training time, command, paragraph, references."""

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.report.evidence import Question, gather
from analysis.report.paragraph import PLAIN, paragraph, paragraph_latex, references
from analysis.report.sections import missing_text, report_command
from analysis.stats import main
from analysis.tables.runs import cost_table, origin_table, settings_table
from tests.support.ledgers import Logged, fill
from tests.support.marks import LONG

SOURCE = {"source.sha256": "e" * 64, "transfer.beta": "0.5"}


def pair(n=6, **settings):
    """Two methods of n seeds; one of them reads a source."""
    return [
        Logged(method=m, seed=i, accuracy=50.0 + i + 2 * (m == "ufm"), params=p, **settings)
        for m, p in (("scratch", {}), ("ufm", SOURCE))
        for i in range(n)
    ]


def test_a_setting_has_a_row_for_each_value_and_names_the_methods_that_read_it(database):
    long = json.dumps([[m, n] for m in range(3) for n in range(5)])
    fill(database, "s", [*pair(), Logged(method="ufm", variant="beta=2", params={"transfer.beta": "2.0",
         "transfer.pairs": long, "data.classes": "null"})])  # fmt: skip
    rows = settings_table(gather().results).rows
    assert ("training.epochs", "200", "13", "all") in rows
    assert ("source.sha256", "e" * 12, "6", "UFM") in rows
    assert [row[1:] for row in rows if row[0] == "transfer.beta"] == [("0.5", "6", "UFM"), ("2.0", "1", "UFM")]
    assert next(row[1] for row in rows if row[0] == "transfer.pairs").endswith(f"({len(long)} characters)")
    assert not {"data.classes", "data.name", "method", "seed"} & {row[0] for row in rows}


def test_code_versions_and_data_are_counted(database):
    other = Logged(seed=9, versions=json.dumps({"python": "3.11.0", "torch": "2.15.0"}), git="")
    fill(database, "s", [*pair(), other])
    rows = {row[:2]: row[2] for row in origin_table(gather().results).rows}
    assert rows["code (git)", "a" * 40] == "12"
    assert rows["code (git)", "unknown"] == "1"
    assert (rows["torch", "2.14.1"], rows["torch", "2.15.0"], rows["python", "3.11.0"]) == ("12", "1", "13")
    assert rows["data of cifar10 (sha256)", "d" * 12] == "13"


def test_runs_of_one_cell_from_different_code_of_a_users_method_are_named(database):
    texts = [json.dumps({"torch": "2.14.1", "mine.py": digest}) for digest in ("0123456789ab", "ba9876543210")]
    fill(database, "s", [Logged(method="mine", seed=seed, versions=texts[seed > 3]) for seed in range(6)])
    results = gather().results
    (line,) = [note for note in results.notices if "different" in note]
    assert "mine.py 0123456789ab: 4 runs; mine.py ba9876543210: 2 runs" in line
    assert ("mine.py", "0123456789ab", "4") in origin_table(results).rows


def test_training_time_is_summed_by_method(database):
    fill(database, "s", pair(72))  # 12.5 s a run
    rows = cost_table(gather().results).rows
    assert rows == (
        ("From scratch", "72", "12.5", "0.25"), ("UFM", "72", "12.5", "0.25"), ("all", "144", "12.5", "0.50")
    )  # fmt: skip


def test_runs_without_a_time_have_no_table_of_it(database):
    fill(database, "s", pair())
    results = gather().results
    for runs in (results.runs.assign(wall_s=float("nan")), results.runs.drop(columns="wall_s")):
        assert cost_table(replace(results, runs=runs)) is None


@pytest.mark.parametrize(
    "options", [[], ["--compare", "ufm", "scratch", "--margin", "2.5", "--alpha", "0.01"]],
    ids=["defaults", "all options"],
)  # fmt: skip
def test_the_command_on_the_page_writes_the_same_page(database, options):
    fill(database, "my sweep", pair())
    assert main([*options, "--out", "first"]) == 0
    page = Path("first/index.html").read_text()
    command = shlex.split(re.search(r"<pre><code>(.*?)</code></pre>", page)[1].replace("&#39;", "'"))
    assert command[:3] == ["python", "-m", "analysis.stats"]
    Path("first/index.html").unlink()
    assert main(command[3:]) == 0
    assert Path("first/index.html").read_text() == page


def test_the_command_has_only_what_differs_from_the_defaults(database):
    fill(database, "s", pair())
    assert report_command(gather()) == "python -m analysis.stats s --out report"
    assert "--margin 2.0" in report_command(gather(question=Question(margin=2.0)))


def test_missing_runs_come_with_the_command_that_trains_them(database):
    fill(database, "s", pair(), wanted=[Logged(method="ufm", seed=6)])
    main(["--out", "report"])
    page = Path("report/index.html").read_text()
    assert missing_text(["s"]) in page
    assert "1 of these 13 runs have no result (1 missing)." in paragraph(gather())


def test_the_paragraph_says_what_was_done(database):
    fill(database, "s", pair())
    text = paragraph(gather(question=Question(margin=2.0)))
    for words in (
        "with 6 seeds (0-5) in each cell", "We compared UFM against From scratch in 1 cell by two-sided Mann-Whitney",
        "(Mann and Whitney 1947) at 0.05 (exact), corrected over", "within 2 points",
        "Computed with scipy ",
    ):  # fmt: skip
        assert words in text, words
    assert "design" not in text
    assert "[" not in text


def test_the_paragraph_of_a_designed_sweep_names_its_looks_and_its_error(database):
    design = {"looks": [5, 6, 8], "alpha": 0.02, "compare": ["ufm", "scratch"]}
    fill(database, "s", pair(8), further={"design": design})
    text = paragraph(gather())
    assert "after 5, 6 and 8 seeds by a group-sequential design declared in the sweep file" in text
    assert "spends 0.02 a cell" in text
    assert "(Holm 1979; Maurer and Bretz 2013)" in text


def test_one_method_alone_has_no_paragraph_and_no_file_of_it(database):
    fill(database, "s", [Logged(seed=i) for i in range(5)])
    main(["--out", "report"])
    assert paragraph(gather()) == ""
    assert not Path("report/paragraph.tex").exists()
    assert "For the paper" not in Path("report/index.html").read_text()


def test_the_paragraph_lists_the_seeds_that_have_results_and_says_where_there_was_no_test(database):
    lost = {("scratch", 2), ("ufm", 2)}
    runs = [
        replace(run, accuracy=None, outcome="diverged") if (run.method, run.seed) in lost else run for run in pair(8)
    ]
    fill(database, "s", [*runs, *pair(3, samples="30")], wanted=pair(8, samples="30"))
    text = paragraph(gather())
    assert "Each method has results of 3 to 7 seeds in each cell" in text
    assert "Of these cells, 1 had no test, as fewer than 5 runs of a method have results." in text
    fill(database, "alone", [replace(run, data="stl10", key="", run_id="") for run in runs])
    assert "has results of 7 seeds (0-1, 3-7) in each cell" in paragraph(gather(["alone"]))


def test_the_paragraph_says_which_interval_a_difference_of_means_has(database):
    fill(database, "s", [*pair(8), *pair(20, samples="30")])
    assert "differences of means with Welch's t intervals (Welch 1947), and" in paragraph(gather())


def test_every_citation_has_its_reference(database):
    runs = [*pair(8), *pair(20, samples="30")]
    hint = [
        Logged(method="hint", seed=i, accuracy=50.0 + i, samples="50") for i in range(15)
    ]  # more than twice as many
    few = [Logged(method="hint", samples=label) for label in ("10", "30")]  # three methods have ranks
    fill(database, "fixed", [*runs, *pair(7, samples="50"), *hint, *few])
    fill(database, "s", pair(8, data="stl10"), further={"design": {"looks": [5, 8], "compare": ["ufm", "scratch"]}})
    texts = [paragraph_latex(gather([name], Question(baseline="scratch"))) for name in ("fixed", "s")]
    cited = {key for text in texts for keys in re.findall(r"\\cite\{(.*?)\}", text) for key in keys.split(",")}
    assert cited == {*PLAIN}
    assert cited | {"jang2019"} == {*re.findall(r"^@\w+\{(\w+),", references(), re.MULTILINE)}
    for entry in references().splitlines():
        assert entry.count("{") == entry.count("}"), entry


@LONG
@pytest.mark.skipif(not (shutil.which("pdflatex") and shutil.which("bibtex")), reason="no pdflatex or no bibtex")
def test_the_paragraph_compiles_with_its_references(database):
    fill(database, "s", pair(8), further={"design": {"looks": [5, 8], "compare": ["ufm", "scratch"]}})
    main(["--out", "report"])
    Path("report/t.tex").write_text(
        r"\documentclass{article}\begin{document}\input{paragraph}\bibliographystyle{plain}\bibliography{references}"
        r"\end{document}"
    )
    for command in ("pdflatex", "bibtex", "pdflatex", "pdflatex"):
        words = [command, "t"] if command == "bibtex" else [command, "-interaction=nonstopmode", "-halt-on-error", "t"]
        done = subprocess.run(words, cwd="report", capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, done.stdout[-2000:]
        assert not re.search(r"[Ww]arning--", done.stdout), done.stdout
    assert "undefined" not in done.stdout
