"""The command line `python -m analysis.stats`."""

import contextlib
import errno
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analysis.stats import main
from l2t_ray.ledger.client import connect
from tests.support.ledgers import Logged, fill


@pytest.fixture
def sweep(database):
    draws = np.random.default_rng(1)
    runs = []
    for samples in ("10", "30"):
        for method, mean in (("scratch", 20), ("l2t_ww", 30), ("l2t_www", 33)):
            values = draws.normal(mean + float(samples), 2, 10).round(2).tolist()
            runs += [Logged(method=method, samples=samples, seed=i, accuracy=value) for i, value in enumerate(values)]
    fill(database, "small", runs[:-1], wanted=runs[-1:])
    return runs


def test_tables_come_first_and_the_last_lines_say_where_the_figure_and_mlflows_pages_are(sweep, capsys):
    assert main(["small"]) == 1  # one run is missing
    out = capsys.readouterr().out
    assert "CIFAR-10: mean test accuracy in % by images a class" in out
    assert "(9/10)" in out
    assert "Methods against From scratch over all cells" in out
    assert re.search(r"CIFAR-10 +30 +L2T-www +missing +1 +9", out)
    figure, pages = out.splitlines()[-2:]
    assert figure == "figure: report/small/accuracy_cifar10.svg"
    assert pages == "pages: l2t ui small"  # as a launch says
    assert {path.name for path in Path("report/small").iterdir()} == {
        f"accuracy_cifar10.{kind}" for kind in ("svg", "csv")
    }


def test_json_holds_every_number_and_nothing_else_is_on_stdout(sweep, capsys):
    main(["small", "--compare", "l2t_www", "l2t_ww", "--json"])
    found = json.loads(capsys.readouterr().out)
    cell = next(c for c in found["cells"] if (c["method"], c["samples_per_class"]) == ("scratch", "10"))
    values = [run.accuracy for run in sweep if (run.method, run.samples) == ("scratch", "10")]
    assert cell["values"] == {str(seed): value for seed, value in enumerate(values)}
    assert cell["mean"] == pytest.approx(sum(values) / 10)
    assert (found["n_wanted"], found["n_finished"]) == (60, 59)
    first = found["comparisons"][0]
    assert (first["a"], first["b"], first["verdict"]) == ("l2t_www", "l2t_ww", "higher")
    assert 0 < first["mann_whitney"]["p"] < 0.05  # 3 points against a spread of 2
    assert found["missing"] == [
        {"key": sweep[-1].key, "cell": "cifar10/30/l2t_www", "seed": 9, "state": "missing", "reason": ""}
    ]


def test_two_methods_may_be_chosen_and_a_wrong_name_is_refused(sweep, capsys):
    main(["--compare", "l2t_ww", "scratch", "--json"])
    assert json.loads(capsys.readouterr().out)["comparisons"][0]["b"] == "scratch"
    assert main(["--compare", "l2t_wwww", "scratch"]) == 2
    assert "did you mean l2t_www" in capsys.readouterr().err


def test_missing_lists_the_gaps_alone(sweep, capsys):
    assert main(["--missing"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"CIFAR-10 +30 +L2T-www +missing +1 +9", out)
    assert "accuracy" not in out


def test_one_method_alone_has_a_table_and_no_test(database, capsys):
    fill(database, "alone", [Logged(seed=seed, accuracy=50.0 + seed) for seed in range(5)])
    assert main([]) == 0
    out = capsys.readouterr().out
    assert "52.00 ± 1.96" in out  # t_4 sd / sqrt(5) = 2.776 * 1.5811 / 2.236
    assert "Mann-Whitney" not in out


def test_a_sweep_that_has_just_begun_is_all_missing(database, capsys):
    fill(database, "begun", [], wanted=[Logged(seed=seed) for seed in range(3)])
    assert main(["begun"]) == 1
    out = capsys.readouterr().out
    assert "missing (0/3)" in out
    assert out.splitlines()[-2] == "no figure: no run has finished yet"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smal"], "no sweep 'smal'; did you mean small?"),
        (["--metric", "test_acuracy_percent"], "did you mean test_accuracy_percent"),
        (["--tracking-uri", "sqlite:///nowhere.db"], "nowhere.db: no ledger here"),
        (["--tracking-uri", "./mlruns"], "must be a database or a server"),
    ],
)
def test_bad_input_is_refused_and_exits_with_2(sweep, capsys, arguments, message):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--margin", "abc"], "--margin: must be > 0, got abc"),
        (["--margin", "nan"], "--margin: must be > 0, got nan"),
        (["--alpha", "1"], "--alpha: must be between 0 and 1, got 1"),
        (["--out", ""], "--out: must not be empty; is a variable of the shell not set?"),
        (["--out", "s3://bucket/report"], "--out: must be on this machine, got 's3://bucket/report'"),
        (["--mlflow-url", "localhost"], "--mlflow-url: must be an address such as http://127.0.0.1:5000, got"),
    ],
)
def test_an_option_that_is_no_number_or_out_of_range_is_refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_the_module_runs_as_a_command(sweep):
    done = subprocess.run(
        [sys.executable, "-m", "analysis.stats", "--missing"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert re.search(r"CIFAR-10 +30 +L2T-www +missing +1 +9", done.stdout)


def test_missing_runs_are_json_where_json_is_asked_for(sweep, capsys):
    assert main(["small", "--missing", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["sweeps"], found["n_wanted"], found["n_finished"]) == (["small"], 60, 59)
    assert [(item["cell"], item["seed"], item["state"]) for item in found["missing"]] == [
        ("cifar10/30/l2t_www", 9, "missing")
    ]


def test_no_missing_run_is_an_empty_list(database, capsys):
    fill(database, "whole", [Logged()])
    assert main(["--missing", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == []


@pytest.mark.parametrize("uri", ["mlruns", "http://a host/"])
def test_a_wrong_address_is_refused_under_the_name_of_its_option_or_variable(folder, monkeypatch, capsys, uri):
    assert main(["--tracking-uri", uri]) == 2
    assert capsys.readouterr().err.startswith("--tracking-uri must")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("MLFLOW_TRACKING_URI must")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_where_no_figure_can_be_written_the_tables_are_there_and_a_line(sweep, capsys, monkeypatch, form):
    def closed(path, content):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("analysis.figures.style.write_atomic", closed)
    assert main(["small", *form]) == 1
    told = capsys.readouterr()
    assert re.search(r"l2t.www", told.out, re.IGNORECASE)
    assert "figure:" not in told.out + told.err
    assert told.err.splitlines()[-1].startswith(
        "report/small/accuracy_cifar10.svg: must be open to you, got 'Permission"
    )


@pytest.fixture
def mlflows(tmp_path, template, monkeypatch):
    """A database that MLflow itself has made."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(template, tmp_path))


def test_an_attached_report_is_the_page_in_mlflow_and_the_sweeps_page_links_to_it(mlflows, capsys):
    fill(mlflows, "small", [Logged(method=method, seed=seed) for method in ("scratch", "ufm") for seed in range(3)])
    assert main(["small", "--out", "here", "--attach"]) == 0
    assert "attached in MLflow to small" in capsys.readouterr().out
    client = connect(f"sqlite:///{Path('mlflow.db').resolve()}")
    experiment = client.get_experiment_by_name("small")
    (manifest,) = client.search_runs([experiment.experiment_id], "tags.`l2t.kind` = 'manifest'")
    kept = Path(client.download_artifacts(manifest.info.run_id, "report.html", "."))
    assert kept.read_bytes() == Path("here/index.html").read_bytes()
    link = f"[Report](#/experiments/{experiment.experiment_id}/runs/{manifest.info.run_id}/artifacts/report.html)."
    assert experiment.tags["mlflow.note.content"].startswith(link)


def test_a_report_is_attached_at_the_ledgers_address_with_its_password(mlflows, monkeypatch, capsys):
    monkeypatch.setattr("l2t_ray.ledger.reader.mask", lambda uri: "postgresql://***@127.0.0.1/ledger")  # as is shown
    fill(mlflows, "small", [Logged(method="scratch", seed=seed) for seed in range(3)])
    assert main(["small", "--out", "here", "--attach"]) == 0
    assert "attached in MLflow to small" in capsys.readouterr().out


def test_a_report_into_a_folder_whose_name_is_no_utf_8_is_written(sweep, tmp_path):
    folder = tmp_path / "caf\udce9"  # as Latin-1 has it
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["--out", str(folder)]) == 1
    assert r"caf\xe9" in (folder / "index.html").read_text()


def test_attaching_without_a_folder_or_to_a_sweep_that_was_never_launched_is_refused(mlflows, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["small", "--attach"])
    assert "--attach stands with --out DIR" in capsys.readouterr().err
    fill(mlflows, "bare", [Logged(method="scratch", seed=seed) for seed in range(3)], manifest=False)
    assert main(["bare", "--out", "here", "--attach"]) == 2
    assert "--attach: bare must have been launched into this ledger" in capsys.readouterr().err
    assert Path("here/index.html").exists()


def test_without_a_manifest_nothing_is_said_of_runs_that_never_started(mlflows, capsys):
    fill(mlflows, "bare", [Logged(method="scratch", seed=seed) for seed in range(3)], manifest=False)
    assert main(["bare", "--missing"]) == 0
    assert capsys.readouterr().out == "every run in the ledger has a result\n"
    assert main(["bare"]) == 0
    out = capsys.readouterr().out
    assert "very run in the ledger has a result." in out
    assert "bare: the ledger has no manifest, so runs that never started are not counted" in out
