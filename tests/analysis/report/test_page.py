"""The report: golden bytes, a page that a browser opens without a network, figures and traces, hostile names."""

import base64
import contextlib
import csv
import html
import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from analysis.figures.curves import draw_curves
from analysis.report.evidence import Question, gather
from analysis.report.page import write_report
from analysis.stats import main
from l2t_ray.errors import InputError
from l2t_ray.ledger.sql import Database
from l2t_ray.style import style_sheet
from tests.support.browser import CHROMIUM, DRIVER, chromium
from tests.support.golden import FIXTURES, REPORT, fill_golden, text_of
from tests.support.ledgers import Logged, fill
from tests.support.places import ROOT


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """The folder of the golden ledger's report; of a module, so before the fixture that leaves formats out."""
    folder = tmp_path_factory.mktemp("golden")
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        connection.executescript((FIXTURES / "ledger_schema.sql").read_text())
    fill_golden(folder / "mlflow.db")
    write_report(gather(uri=f"sqlite:///{folder}/mlflow.db"), folder / "report")
    return folder / "report"


def test_the_stored_ledger_gives_the_stored_report(golden):
    # after an intended change of a number or a word: python -m tests.support.golden
    assert text_of(golden) == REPORT.read_text(encoding="utf-8")


def test_the_same_ledger_gives_the_same_bytes_figures_included(golden, tmp_path):
    code = "import sys; from analysis.stats import main; sys.exit(main(sys.argv[1:]))"
    uri = f"sqlite:///{golden.parent}/mlflow.db"
    command = [sys.executable, "-c", code, "--tracking-uri", uri, "--out", "report"]
    environment = {"PYTHONHASHSEED": "7", "PATH": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 1, done.stderr.decode()  # two runs have no result
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (golden, tmp_path / "report")
    )
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_the_page_opens_with_four_sentences_written_from_the_numbers(golden):
    page = (golden / "index.html").read_text()
    answer = re.findall(r"<p>(.*?)</p>", page.split('id="answer">')[1].split("</div>")[0])
    assert len(answer) == 4
    assert answer[0].startswith("Over 2 cells L2T-www (+")
    assert answer[1].startswith("Of 4 comparisons with From scratch: better in ")
    assert answer[2].startswith("Not compared: STL-10 with 100,cat=10 images a class, ")  # it has no scratch
    assert "2 wanted runs have no result" in answer[3]
    assert json.loads((golden / "results.json").read_text())["answer"][1] == answer[1]


def test_every_comparison_has_its_verdict_n_and_tests(golden):
    with (golden / "tables/verdicts.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header == [
        "data set",
        "images a class",
        "methods",
        "verdict",
        "n",
        "difference",
        "p",
        "Holm p",
        "A12",
        "equal seeds",
    ]
    assert len(rows) == 4
    assert {row[3].rstrip("*") for row in rows} <= {"better", "worse", "equivalent", "undecided", "no test"}


def test_every_mean_is_linked_to_its_runs(golden):
    page = html.unescape((golden / "index.html").read_text())
    links = re.findall(r'href="(http://127.0.0.1:5000/#/experiments/\d+/runs\?searchFilter=[^"]+)"', page)
    cells = {unquote(link).partition("searchFilter=")[2] for link in links}
    assert 'tags.`l2t.cell` = "stl10/10/l2t_www"' in cells
    assert len(cells) == len(links) == 8


def test_figures_are_svg_and_what_else_is_asked_for_with_their_numbers(golden, database):
    figures = golden / "figures"
    names = {path.stem for path in figures.iterdir()}
    assert {"accuracy_stl10", "seeds_stl10", "difference", "power", "minority_stl10"} < names
    assert {"gamma_stl10_10_l2t_www", "lambda_stl10_10_l2t_ww", "weights_stl10_10_seed0"} < names
    assert {path.suffix for path in figures.iterdir()} == {".svg", ".csv"}
    assert all(len(pd.read_csv(figures / f"{name}.csv")) > 0 for name in names)
    fill(database, "s", [Logged(method=m, seed=i, accuracy=50 + i) for m in ("ufm", "scratch") for i in range(5)])
    assert main(["--out", "report", "--formats", "pdf,png"]) == 0
    for kind, start in (("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")):
        assert Path(f"report/figures/difference.{kind}").read_bytes().startswith(start)
    with pytest.raises(SystemExit):
        main(["--formats", "gif"])


def test_tables_come_in_six_forms(golden):
    names = {path.stem for path in (golden / "tables").iterdir()}
    for name in names:
        assert {path.suffix for path in (golden / "tables").glob(f"{name}.*")} == {
            ".txt", ".md", ".tex", ".csv", ".html", ".json",
        }  # fmt: skip


def test_runs_come_back_from_parquet_with_their_bits(golden):
    frame = pd.read_parquet(golden / "runs.parquet")
    stored = json.loads((FIXTURES / "golden_ledger.json").read_text())["runs"]
    assert sorted(frame["test_accuracy_percent"]) == sorted(run["accuracy"] for run in stored if run["accuracy"])


def test_row_and_column_titles_are_headers_and_what_scrolls_has_the_keyboard(golden):
    page = (golden / "index.html").read_text()
    for table in re.findall(r"<table>.*?</table>", page, re.DOTALL):
        head, *rows = re.findall(r"<tr>(.*?)</tr>", table)
        assert head.count('<th scope="col"') == head.count("<th")
        assert all(row.startswith('<th scope="row"') and row.count("<th") == 1 for row in rows)
    boxes = re.findall(r'<div class="scroll"[^>]*>', page)
    assert len(boxes) == page.count("<table>")
    assert all('tabindex="0" role="region" aria-label=' in box for box in boxes)


def test_a_title_is_never_alone_at_the_end_of_a_printed_page():
    css = style_sheet()
    assert "h2, h3 { break-after: avoid; }" in css.partition("@media print")[2]


def test_no_time_and_no_place_is_in_a_report(golden):
    for path in golden.rglob("*"):
        if path.is_file():
            assert str(golden.parent).encode() not in path.read_bytes(), path


def test_the_page_asks_for_nothing_from_outside(golden):
    page = re.sub(r'base64,[^"]+', "", (golden / "index.html").read_text())
    assert "default-src 'none'" in page
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=\"(?!data:)", page)


browsing = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed")


@browsing
@pytest.mark.parametrize("width", [1280, 360], ids=["desk", "phone"])
def test_a_browser_opens_the_page_without_an_error_or_a_request(golden, tmp_path, width):
    with chromium(tmp_path / "profile", width) as browser:
        browser.open((golden / "index.html").as_uri())
        asked = [address for address in browser.requests() if not address.startswith(("data:", "chrome:"))]  # its own
        assert asked == [(golden / "index.html").as_uri()]
        assert browser.console() == []
        assert browser.run("return innerWidth") == width
        assert browser.run("return document.documentElement.scrollWidth") <= width  # a wide table scrolls alone
        loaded = browser.run("return [...document.images].map((image) => image.complete && image.naturalWidth > 0)")
        assert loaded
        assert all(loaded)
        targets = browser.run(
            "return [...document.querySelectorAll('nav a')].every((a) => document.querySelector(a.hash))"
        )
        assert targets


@browsing
def test_the_page_prints_on_at_most_five_sheets_folded_sections_left_out(golden, tmp_path):
    with chromium(tmp_path / "profile", 1280) as browser:
        browser.open((golden / "index.html").as_uri())
        printed = browser.ask("/goog/cdp/execute", cmd="Page.printToPDF", params={})
    pdf = base64.b64decode(printed["data"])
    assert pdf.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type /Page\b", pdf)) <= 5


@browsing
def test_a_link_opens_the_folded_section(golden, tmp_path):
    opened = "return document.querySelector('#power details').open"
    with chromium(tmp_path / "profile", 1280) as browser:
        browser.open((golden / "index.html").as_uri())
        assert browser.run(opened) is False
        browser.run("document.querySelector('nav a[href=\"#power\"]').click()")
        assert browser.run(f"return new Promise((done) => setTimeout(() => done({opened[7:]}), 200))") is True
        assert browser.run("return document.documentElement.scrollHeight") < 6000


@browsing
def test_tables_are_sorted_by_a_click_on_a_title(golden, tmp_path):
    table = "document.querySelector('#all table')"
    click = f"{table}.querySelectorAll('thead button')[4].click();"
    read = f"return [...{table}.tBodies[0].rows].map((r) => r.cells[4].textContent)"
    with chromium(tmp_path / "profile", 1280) as browser:
        browser.open((golden / "index.html").as_uri())
        before = browser.run(read)
        rising, falling = browser.run(click + read), browser.run(click + read)
        assert browser.run(f"return {table}.querySelectorAll('th')[4].ariaSort") == "descending"
    numbers = [float(text.replace("−", "-")) for text in rising]
    assert numbers == sorted(numbers)
    assert falling == rising[::-1]
    assert sorted(before) == sorted(rising) != before


def traced(values, **columns):
    buffer = io.BytesIO()
    pd.DataFrame({"epoch": range(len(values)), "name": "theta.conv3.weight", "index": "17", "value": values} | columns
                 ).astype({"value": "float32"}).to_parquet(buffer, index=False)  # fmt: skip
    return {"traces.parquet": buffer.getvalue()}


def report_of(database, runs, **question):
    fill(database, "s", runs)
    return write_report(gather(question=Question(**question)), Path("report"))


def test_paths_of_weights_say_whether_methods_start_alike(database):
    runs = [Logged(method=m, artifacts=traced([0.1 + off, 0.2, 0.3])) for m, off in (("scratch", 0), ("l2t_ww", 0.01))]
    page = report_of(database, runs).read_text()
    assert "whose first stored weights DIFFER" in page


def test_the_common_start_of_weights_is_drawn_for_200_epochs(database):
    # 201 values: epoch 0, where all methods are alike, and 200 epochs at which the weight is 8 to 9
    runs = [Logged(method=m, artifacts=traced([0.5, *[8 + i / 200 for i in range(200)]])) for m in ("scratch", "ufm")]
    report_of(database, runs)
    (figure,) = Path("report/figures").glob("weights_*.svg")
    assert {"2", "4", "6", "8"} <= {*re.findall(r"<!-- (\S+) -->", figure.read_text())}  # ticks of the weight's axis


def test_lambda_of_a_pair_is_averaged_and_ordered_by_layer(database):
    table = {"name": ["lambda.0-10", "lambda.0-2", "lambda.0-10", "lambda.0-2"], "epoch": [0, 0, 1, 1], "index": ""}
    run = Logged(method="l2t_ww", artifacts=traced([1.0, 1.0, 0.5, 2.0], **table))
    page = report_of(database, [run]).read_text()
    assert "At the end 0-2 has the largest, 2, 0-10 the smallest, 0.5." in page
    assert len(pd.read_csv("report/figures/lambda_cifar10_10_l2t_ww.csv")) == 4


def test_a_trace_of_a_later_seed_is_drawn_and_no_other_runs_files_are_asked_for(database, monkeypatch):
    asked = []
    monkeypatch.setattr(Database, "artifact", lambda self, entry, name, read=Database.artifact: (
        asked.append(name), read(self, entry, name))[1])  # fmt: skip
    table = {"name": ["lambda.0-2"] * 2, "index": ""}
    runs = [Logged(method="l2t_ww", seed=seed, artifacts=traced([seed, 1.0], **table) if seed > 5 else {})
            for seed in range(9)]  # fmt: skip
    page = report_of(database, runs).read_text()
    assert "seed 6" in page.partition('id="traces"')[2].partition("</section>")[0]
    assert asked.count("traces.parquet") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not parquet", "traces.parquet must be Parquet"),
        (traced([1.0])["traces.parquet"][:-20], "traces.parquet must be Parquet"),
        (traced([1.0], name=np.array(["x"]))["traces.parquet"].replace(b"index", b"xndex"), "traces.parquet must"),
    ],
    ids=["text", "cut off", "another column"],
)
def test_a_damaged_trace_is_refused_with_its_run(database, content, message):
    run = Logged(artifacts={"traces.parquet": content})
    with pytest.raises(InputError, match=message) as error:
        report_of(database, [run])
    assert run.run_id in str(error.value)


def test_learning_curves_have_the_mean_and_the_interval_of_each_epoch(database):
    runs = [Logged(seed=i, curves={"train_loss": [(1, 2.0 + i), (2, 1.0)]}) for i in range(3)]
    report_of(database, runs)
    frame = pd.read_csv("report/figures/curves_train_loss_cifar10.csv")
    assert frame["mean"].tolist() == [3.0, 1.0]
    assert frame["half_width_95"][0] == pytest.approx(4.302652729911275 / 3**0.5)  # R: qt(.975, 2), sd of 2, 3, 4 is 1


def test_a_panel_is_drawn_where_there_is_a_curve_and_names_every_method(database):
    curve = {"train_loss": [(1, 2.0), (2, 1.0)]}
    fill(database, "s", [Logged(curves=curve), Logged(samples="30", method="ufm", curves=curve), Logged(samples="50")])
    evidence = gather()
    (loss,) = draw_curves(evidence.results, evidence.cells, None)
    words = re.findall(r"<!-- (.*?) -->", loss.svg)
    assert {"CIFAR-10, 10 images a class", "CIFAR-10, 30 images a class", "From scratch", "UFM"} <= {*words}
    assert "CIFAR-10, 50 images a class" not in words
    assert words.count("epoch") == 2


def test_hostile_names_stay_text_and_files_stay_in_the_folder(database):
    variant = '<script>alert(1)</script>/../../x & "y"'
    runs = [Logged(method=m, seed=i, variant=variant, accuracy=50 + i) for m in ("l2t_ww", "l2t_www") for i in range(5)]
    page = report_of(database, runs).read_text()
    assert "<script>alert" not in page
    assert {path.name for path in Path().iterdir()} == {"mlflow.db", "mlartifacts", "report"}
    assert all(".." not in path.name for path in Path("report").rglob("*"))


@pytest.mark.parametrize("value", [50.0, None], ids=["all seeds equal", "nothing finished"])
def test_a_report_of_almost_nothing_is_written(database, value):
    outcome = "finished" if value else "failed"
    runs = [Logged(method=m, seed=i, accuracy=value, outcome=outcome) for m in ("l2t_ww", "l2t_www") for i in range(6)]
    page = report_of(database, runs).read_text()
    assert ("p = 1.000" in page) == bool(value)
    assert ("No run has finished yet" in page) == (not value)


def test_ties_everywhere_are_corrected_for(database):
    runs = [Logged(method=m, seed=i, accuracy=50.0 + i % 2 + (m == "l2t_www")) for m in ("l2t_ww", "l2t_www")
            for i in range(10)]  # fmt: skip
    page = report_of(database, runs).read_text()
    # R, coin: wilcox_test of rep(c(50, 51), 5) against that plus 1, distribution = "exact": p-value = 0.002727922
    assert "0.0027" in page


def test_one_method_or_one_run_has_a_report_too(database):
    page = report_of(database, [Logged()]).read_text()
    assert "Nothing is compared" in page


def test_another_metric_has_no_counterpart_in_the_thesis(database, capsys):
    runs = [Logged(data="stl10", seed=i, curves={"train_loss": [(1, 0.5 + i)]}) for i in range(6)]
    fill(database, "s", runs)
    assert main(["--metric", "train_loss", "--out", "report"]) == 0
    assert "thesis" not in Path("report/index.html").read_text()
    assert "Mean train loss" in capsys.readouterr().out


def test_the_calibration_error_is_called_by_its_name(database, capsys):
    curves = [{"test_ece_percent": [(200, error)]} for error in (12.0, 9.0)]
    fill(database, "ece", [Logged(seed=seed, curves=curve) for seed, curve in enumerate(curves)])
    assert main(["ece", "--metric", "test_ece_percent"]) == 0
    out = capsys.readouterr().out
    assert "mean expected calibration error (%, lower is better) by images a class" in " ".join(out.split())
    assert "10.50" in out


def test_of_another_metric_it_is_not_said_which_is_the_better(database):
    runs = [
        Logged(method=m, seed=i, curves={"train_loss": [(1, 0.5 + i / 9 + 5 * (m == "ufm"))]})
        for m in ("scratch", "ufm")
        for i in range(8)
    ]
    page = report_of(database, runs, metric="train_loss").read_text()
    assert re.search(r"On CIFAR-10 with 10 images a class UFM \(.*?\) is higher than From scratch", page)
    assert "better" not in page.split('id="answer"')[1].split("</div>")[0]


def test_a_sweep_that_is_still_running_has_a_report_that_lists_what_is_to_come(database):
    runs = [Logged(method=m, seed=i, accuracy=50.0 + i) for m in ("l2t_ww", "l2t_www") for i in range(6)]
    going = Logged(method="l2t_www", seed=6, outcome="running", accuracy=None)
    fill(database, "s", [*runs, going], wanted=[Logged(method="l2t_www", seed=7)])
    page = write_report(gather(), Path("report")).read_text()
    assert "2 wanted runs have no result and are listed" in page
    assert "is RUNNING" in page


def test_links_go_to_the_mlflow_that_is_named(database):
    fill(database, "s", [Logged(method=m, seed=i, accuracy=50 + i) for m in ("ufm", "scratch") for i in range(5)])
    main(["--out", "report", "--mlflow-url", "https://mlflow.example/"])
    assert 'href="https://mlflow.example/#/experiments/1/runs?searchFilter=' in Path("report/index.html").read_text()


@pytest.mark.parametrize(("package", "n_files"), [("analysis", 6), ("l2t_ray", 4)])
def test_package_data_is_declared(package, n_files):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][package]
    data = [path for path in (ROOT / package).rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}]
    assert len(data) == n_files
    for path in data:
        assert any(path.relative_to(ROOT / package).match(pattern) for pattern in declared), path


@pytest.mark.slow
def test_an_installed_package_has_templates_and_tables(tmp_path):
    source = tmp_path / "source"  # because a build writes files beside the code
    for name in ("analysis", "l2t_ray"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = ["pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path), str(source)]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    if done.returncode and "setuptools" in done.stderr:
        pytest.skip("setuptools is not installed here")
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"analysis/report/templates/report.{kind}" for kind in ("html.j2", "js")} < names
    assert {"l2t_ray/style.css", "l2t_ray/launch/live/live.html.j2"} < names
    assert {f"analysis/results/published_{what}.csv" for what in ("accuracy", "tests")} < names
