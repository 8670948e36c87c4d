"""Benchmarks in a small form: what they write, and that a planner can use it."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import bench_precision, bench_small_maps, bench_step, decision_table, draw_result, ship_figures
from benchmarks.packing_table import figure_of, markdown, plot
from benchmarks.steps import Case, operations
from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.launch.placement import measurements
from l2t_ray.launch.placement.packing import speed_shape
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.spool import Ended
from tests.support.marks import LONG
from tests.support.places import ROOT

registry.load()


def make_run(samples, method="scratch", batch=128, **settings):
    data = {"name": "cifar10", "samples_per_class": samples}
    return Run.model_validate({
        "data": data,
        "method": method,
        "seed": 0,
        "training": {"batch_size": batch},
        **settings,
    })


def row(processes, pack, batch, epoch_s, *, mps=False, problem="", method="scratch"):
    kept = {"method": method, "batch": batch, "processes": processes, "pack": pack, "mps": mps}
    kept |= {"width": 1.0, "precision": "float32", "problem": problem, "runs_per_hour": None}
    if problem:
        return kept
    rate = 18.0 * processes * pack / epoch_s  # 3,600 s / 200 epochs
    memory = {"evaluation_s": 0.5, "reserved_bytes": pack * batch * 10**6, "context_bytes": 300}
    return kept | memory | {"epoch_s": epoch_s, "runs_per_hour": rate}


CONTENT = {
    "device": "A card", "torch": "2.14.1", "cores": 16, "load_before": 0.0,
    "rows": [
        row(1, 1, 50, 0.10), row(1, 1, 128, 0.20), row(1, 4, 50, 0.20), row(1, 4, 128, 0.60),
        row(2, 1, 50, 0.11), row(2, 4, 128, 1.10), row(2, 4, 50, 0.38, mps=True), row(2, 4, 128, 0.90, mps=True),
        row(2, 8, 128, None, problem="out of memory"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("method", ["l2t_ww", "l2t_www"])
def test_operations_of_a_step_are_those_of_its_arithmetic(method):
    """Of docs/measurements.md, padding included, whatever this machine leaves out; they do not depend on the batch."""
    counts = [operations(Case(batch, method, "sgd")) / batch for batch in (2, 128)]
    assert counts == pytest.approx([9.43e9] * 2, rel=1e-3)


def test_the_decision_table_measures_packs_and_counts_kernels_without_a_card(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(decision_table, "REPEAT", 1)
    way = decision_table.Way(2, "float32", 2, graph=True, compiled=False)
    found = decision_table.measure(way, torch.device("cpu"), rate=1e12)
    assert found["way"] == "B = 2, float32, K = 2, replayed"
    assert found["share_of_rate"] == pytest.approx(2 * 9.43e9 / (found["ms_a_run"] / 1e3) / 1e12, rel=1e-3)
    monkeypatch.setattr(decision_table, "METHODS", ("scratch", "l2t_www"))
    monkeypatch.setattr(sys, "argv", ["decision_table", "--out", str(tmp_path / "table")])
    decision_table.main()
    rows = [json.loads(line) for line in (tmp_path / "table.jsonl").read_text().splitlines()]
    assert [row["method"] for row in rows] == ["scratch", "l2t_www"]
    assert all(row["True"] < row["False"] for row in rows)
    assert "kernels of a step on a pretended one" in capsys.readouterr().out


def test_a_table_shows_every_case_against_one_process_of_one_run():
    text = markdown(CONTENT)
    assert "| 1 | 90.0 (1.00 x) | 120.0 (1.33 x) |  |" in text  # 18 / 0.2, 72 / 0.6
    assert "| 2 |  | **130.9 (1.45 x)** | out of memory |" in text  # 144 / 1.1
    assert "scratch, B = 128, with MPS" in text
    assert "A card, torch 2.14.1, 16 cores" in text


def test_figures_of_a_shape_follow_from_steps_of_other_numbers_of_images():
    figure = figure_of(CONTENT, make_run(10))  # 100 images: one step between 50 and 128
    assert [speed.pack for speed in figure.speeds] == [1, 4]
    assert figure.speeds[0].epoch_s == pytest.approx(0.10 + 0.10 * 50 / 78)
    assert figure.speeds[0].evaluation_s == 0.5 * 20  # 10,000 images in batches of 500
    assert [(crowd.processes, crowd.pack, crowd.slowdown) for crowd in figure.crowds] == [(2, 4, pytest.approx(1.5))]
    assert figure.context_bytes == 300
    few, many = figure_of(CONTENT, make_run(1)), figure_of(CONTENT, make_run(50))
    assert few.speeds[0].epoch_s == 0.10  # 10 images take no less than 50
    assert many.speeds[0].epoch_s == pytest.approx(3 * 0.20 + 0.10 + 0.10 * (116 - 50) / 78)  # 128 + 128 + 128 + 116
    assert figure_of(CONTENT, make_run(10, batch=256)).speeds[1].epoch_s == pytest.approx(0.20 + 0.40 * 50 / 78)
    assert figure_of(CONTENT, make_run(30, batch=256)).speeds[0].epoch_s == pytest.approx(0.20 * 256 / 128 + 0.10)


FOLDER = {"name": "image_folder", "path": "x", "samples_per_class": {"*": 2}, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "run",
    [
        make_run(10, "ufm"),
        make_run(10, target={"width": 0.5}),
        make_run(10, data=FOLDER),
        make_run(10, target={"arch": "resnet20"}),
    ],
    ids=["method", "width", "images", "network"],
)
def test_what_was_not_measured_has_no_figure(run):
    assert figure_of(CONTENT, run) is None


def test_nothing_measured_is_no_plot(tmp_path):
    assert plot(CONTENT, tmp_path / "packing.svg")
    assert (tmp_path / "packing.svg").stat().st_size > 1000
    assert not plot({**CONTENT, "rows": [row(1, 1, 50, None, problem="out of memory")]}, tmp_path / "none.svg")


@LONG
def test_packing_is_measured_without_ray_and_mlflow_and_can_be_shipped(tmp_path, monkeypatch):
    absent = tmp_path / "absent"
    absent.mkdir()
    for name in ("ray", "mlflow", "optuna"):
        (absent / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name} here', name='{name}')")
    words = ["--processes", "1", "2", "--pack", "2", "--batch", "12", "--method", "scratch", "--width", "0.1"]
    words += ["--seconds", "0.2", "--warm-up", "1", "--mps", "off", "--out", str(tmp_path / "packing")]
    environment = {**os.environ, "PYTHONPATH": f"{absent}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_packing", *words],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "packing/packing.json").read_text())
    assert [(found["processes"], found["pack"], found["problem"]) for found in content["rows"]] == [
        (1, 2, ""),
        (2, 2, ""),
    ]
    assert all(found["runs_per_hour"] > 0 and found["epoch_s"] > 0 for found in content["rows"])
    assert "| 2 | " in (tmp_path / "packing/packing.md").read_text()
    assert (tmp_path / "packing/packing.svg").is_file()

    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(
        "sweep: small\ngrid:\n  - {data: {name: cifar10, samples_per_class: 10}, method: [scratch], seed: [0],"
        " target: {width: 0.1}}\n"
    )
    ship_figures.main(["small.yaml", "--packing", "packing/packing.json", "--out", "shipped.json"])
    ((name, values),) = json.loads(Path("shipped.json").read_text()).items()
    run = make_run(10, target={"width": 0.1})
    assert name == f"{speed_shape(run)}|{content['device']}"
    assert measurements.Figure.from_json(values).basis == "shipped"
    assert "bench_packing" in values["note"]


def test_tf32_is_emulated_as_a_card_rounds():
    x = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-11, -1 - 2**-11, 1 + 2**-12, 3e38, -0.0])
    expected = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-10, -1 - 2**-10, 1.0, 3e38, -0.0])
    assert torch.equal(bench_precision.rounded(x)[:5], expected[:5])
    assert torch.allclose(bench_precision.rounded(x), expected, rtol=2**-11)
    wide = x.double() + 2**-40
    assert torch.equal(bench_precision.rounded(wide), wide)
    a, b = torch.rand(4, 5), torch.rand(5, 3)
    written, added = torch.empty(4, 3), torch.zeros(4, 3)
    with bench_precision.RoundedOperands() as rounding:
        found = a @ b
        torch.mm(a, b, out=written)
        added.addmm_(a, b)
    assert rounding.n_products == 3
    assert torch.equal(found, bench_precision.rounded(a) @ bench_precision.rounded(b))
    assert torch.equal(found, written)
    torch.testing.assert_close(found, added, rtol=1e-6, atol=0)
    assert not torch.equal(found, a @ b)


def test_what_a_precision_does_to_accuracies_is_measured(tmp_path, monkeypatch, capsys):
    registry.load()
    monkeypatch.chdir(tmp_path)
    words = ["--weights", "none", "--methods", "scratch", "--seeds", "2", "--epochs", "1", "--width", "0.125"]
    monkeypatch.setattr(sys, "argv", ["bench_precision", *words, "--out", "precision"])
    bench_precision.main()
    found = json.loads(Path("precision.json").read_text())["by_method"]["scratch"]
    assert [*found] == ["float32", "tf32", "bf16"]
    assert all(sorted(values) == ["0", "1"] for values in found.values())
    assert found["float32"] != found["bf16"]
    assert "| scratch | " in capsys.readouterr().out


def test_both_ways_of_a_small_map_are_the_same_pass():
    for library, ours in bench_small_maps.passes(4, 6, 5, batch=3).values():
        torch.testing.assert_close(library(), ours().view_as(library()), rtol=1e-4, atol=1e-4)
        assert bench_small_maps.milliseconds(ours, repeat=2) > 0


@pytest.mark.parametrize("content", [None, "no JSON", "[]"], ids=["missing", "no JSON", "other JSON"])
def test_a_picture_of_what_is_no_file_of_figures_is_an_error_of_usage(content, tmp_path, monkeypatch, capsys):
    file = tmp_path / "figures.json"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr(sys, "argv", ["bench_step", "--plot", str(file)])
    with pytest.raises(SystemExit) as caught:
        bench_step.main()
    assert caught.value.code == 2
    assert f"--plot must be a file that this command has written, got {file}" in capsys.readouterr().err


def test_the_figure_of_a_spool_shows_its_runs_on_light_and_on_dark_pages(tmp_path):
    ledger = Ledger("small", f"sqlite:///{tmp_path}/none.db", folder=tmp_path)
    accuracies = {"scratch": [50.25, 51.5, 49.75], "ufm": [60.5, 62.25, 61.0]}
    for method, values in accuracies.items():
        for seed, value in enumerate(values):
            run = make_run(10, method).model_copy(update={"seed": seed})
            ended = Ended(run.key, "finished", metrics={"test_accuracy_percent": [(1, value)]}, wall_s=1.0)
            ledger.record(run, ended, f"cifar10/10/{method}", data_sha="d" * 64)
    with tarfile.open(tmp_path / "spool.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / ".l2t", ".l2t")
    draw_result.main([str(tmp_path / "spool.tar.gz"), "--out", str(tmp_path / "result")])
    drawn = pd.read_csv(tmp_path / "result.csv")
    assert {name: [*rows["value"]] for name, rows in drawn.groupby("method")} == accuracies
    light, dark = ((tmp_path / f"result_{kind}.svg").read_text() for kind in ("light", "dark"))
    assert "#ffffff" not in light + dark  # no ground of its own
    assert "#000000" in light
    assert "#000000" not in dark
