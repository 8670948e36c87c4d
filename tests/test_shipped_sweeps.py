"""The sweep files that come with the project: each plans as it lies there, with the runs that it promises."""

import collections
import shutil
from pathlib import Path

import pytest
import yaml

from l2t_ray import sweep
from l2t_ray.config import reads_source
from l2t_ray.registry import resolve_pairs
from l2t_ray.sweepfile.read import read_sweep
from l2t_ray.sweepfile.source_file import read_pretraining
from tests.support.places import ROOT

PUBLISHED = "weights/l2t-ww-tinyimagenet.pth.tar"
REPLICATE = (ROOT / "docs" / "howto" / "replicate.md").read_text()
GOLDEN = ROOT / "tests" / "fixtures" / "golden_plan.txt"
ALL = sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml") if "\nsweep: " in path.read_text())
OF_PHOTOS = {"l2t_ww_imagenet", "first_real"}  # read folders of photos that nobody may hand on
FILES = [name for name in ALL if name not in OF_PHOTOS]
COUNTS = {  # runs and cells; paper_grid: 15 conditions of 4 methods with 30 seeds (thesis 5.4), imbalanced: 3 with 30
    "paper_grid": (1800, 60),
    "imbalanced": (90, 3),
    "ablation": (30, 3),
    "gamma": (6, 2),
    "digits_grid": (160, 16),
    "digits_imbalanced": (30, 3),
    "digits_ablation": (30, 3),
    "quickstart": (64, 8),
    "cifar10_small": (120, 4),
    "inner_rules": (210, 7),
}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """A working folder with the files and nothing else: no data set, no weights, no ledger."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "sweeps", "sweeps")


def read(name):
    return read_sweep(Path("sweeps", f"{name}.yaml"))


@pytest.mark.parametrize("name", FILES)
def test_every_file_plans_where_nothing_is_there_yet(name, capsys):
    assert sweep.main([f"sweeps/{name}.yaml", "--plan", "--fleet", "cpu:2"]) == 0
    told = capsys.readouterr()
    assert "runs wanted, 0 finished" in told.err or "studies" in told.err
    found = read(name)
    assert told.err.count("is not there: ") == len(found.sources)
    fetched = {run.source.weights for run in found.runs.values() if reads_source(run)} & {PUBLISHED}
    assert found.sources or fetched
    assert ("the ResNet-32 of L2T-ww" in told.out) is bool(fetched)
    assert not [path for path in Path().iterdir() if path.name not in {"sweeps", "weights", "data"}]  # starts nothing


@pytest.mark.parametrize("name", COUNTS)
def test_a_file_has_the_runs_that_it_promises(name):
    found = read(name)
    cells = collections.Counter(found.cells.values())
    assert (len(found.runs), len(cells)) == COUNTS[name]
    assert len(set(cells.values())) == 1  # as many seeds everywhere
    assert {key: run.key for key, run in found.runs.items()} == {key: key for key in found.runs}
    assert f"| {len(found.runs):,} |" in REPLICATE or name not in {"paper_grid", "imbalanced"}


def test_the_papers_grid_is_tables_1_to_3_at_the_thesis_settings():
    """method.md, sections 5 and 7."""
    grid = collections.defaultdict(set)
    for run in read("paper_grid").runs.values():
        grid[run.data.name].add(run.data.samples_per_class)
        assert (run.training.epochs, run.training.batch_size, run.training.lr) == (200, 128, 0.1)
        assert (run.training.momentum, run.training.weight_decay) == (0.9, 1e-4)
        assert (run.transfer.beta, run.transfer.look_ahead_steps, run.transfer.meta_lr) == (0.5, 2, 1e-4)
        assert (run.source.arch, run.target.arch, run.source.width, run.target.width) == ("resnet32", "vgg9", 1, 1)
    assert grid == {
        "stl10": {5, 10, 30, 50, 100},
        "cifar10": {10, 30, 50, 100, 150},
        "cifar100": {5, 10, 20, 30, 50},
    }
    assert {run.method for run in read("paper_grid").runs.values()} == {"scratch", "ufm", "l2t_ww", "l2t_www"}


def test_table_4_has_one_small_class_and_measures_it():
    runs = [*read("imbalanced").runs.values()]
    assert {run.method for run in runs} == {"scratch", "l2t_ww", "l2t_www"}
    assert all(run.data.samples_per_class == {"*": 100, "airplane": 10} and run.record.per_class for run in runs)


def test_the_ablation_traces_the_same_weights_under_three_methods_and_figure_35_its_gammas():
    traced = {run.method: run.traced for run in read("ablation").runs.values()}
    assert len(traced["scratch"]) == 6
    assert set(traced["l2t_ww"]) == set(traced["l2t_www"]) == {*traced["scratch"], "lambda"}
    (gamma,) = {run.traced for run in read("gamma").runs.values()}
    assert sum(name.startswith("gamma.") for name in gamma) == 8
    assert set(read("gamma").runs) < set(read("paper_grid").runs)  # the same runs: nothing is trained for two results


@pytest.mark.parametrize("name", FILES)
def test_every_source_that_a_file_trains_is_the_one_it_reads(name):
    sources = read(name).sources
    assert {read_pretraining(file).out: file for file in sources.values()} == sources
    assert {run.source.weights for run in read(name).runs.values() if reads_source(run)} <= {*sources, PUBLISHED}


def test_a_plan_is_what_it_was(monkeypatch, capsys):
    """In tests/fixtures/golden_plan.txt; `python -m tests.test_shipped_sweeps` writes it anew after a wanted change.

    Times are estimates: figures that are measured one day and shipped do not change this file.
    """
    monkeypatch.setattr("l2t_ray.launch.placement.measurements.shipped", dict)
    assert sweep.main(["sweeps/paper_grid.yaml", "--plan", "--fleet", "h200:8", "--price-per-hour", "25"]) == 0
    assert capsys.readouterr().out == GOLDEN.read_text()


def test_the_papers_second_experiment_has_the_published_codes_settings(capsys):
    """The defaults of alinlab/L2T-ww's train_l2t_ww.py; 16 pairs of four stages."""
    for number, name in enumerate(("cub200", "mit67", "stanford40", "dogs")):
        for split, n_images in (("train", 100), ("test", 1)):
            for label in ("a", "b"):
                folder = Path("data", name, split, label)
                folder.mkdir(parents=True)
                for image in range(n_images):
                    (folder / f"{image}.jpg").write_bytes(bytes([number, image]))
    assert sweep.main(["sweeps/l2t_ww_imagenet.yaml", "--plan", "--fleet", "h100:8"]) == 0
    assert "torchvision's resnet34 IMAGENET1K_V1 (83 MiB)" in capsys.readouterr().out
    found = read("l2t_ww_imagenet")
    assert len(found.runs) == 4 * 4 * 10 + 10
    runs = [run for run in found.runs.values() if run.target.weights is None]
    assert {(run.source.arch, run.target.arch, run.data.image_size) for run in runs} == {("resnet34", "resnet18", 224)}
    for run in runs:
        training, transfer = run.training, run.transfer
        assert (training.epochs, training.batch_size, training.lr) == (200, 64, 0.1)
        assert (training.momentum, training.weight_decay) == (0.9, 1e-4)
        assert (transfer.beta, transfer.look_ahead_steps, transfer.meta_lr, transfer.inner) == (
            0.5,
            2,
            1e-4,
            "published",
        )
        sizes = (56, 28, 14, 7)
        assert len(resolve_pairs(transfer.pairs, sizes, sizes)) == 16


def test_the_quick_starts_source_is_the_one_its_sweep_names():
    source = read_pretraining(Path("sweeps/quickstart_source.yaml"))
    run = yaml.safe_load(Path("sweeps/quickstart.yaml").read_text())["run"]
    assert (run["source"]["weights"], run["source"]["arch"]) == (source.out, source.source.arch)
    assert run["data"]["name"] == source.data.name == "digits"


if __name__ == "__main__":
    import contextlib
    import io

    from l2t_ray.launch.placement import measurements

    measurements.shipped = dict
    with contextlib.redirect_stdout(io.StringIO()) as written:
        sweep.main([str(ROOT / "sweeps/paper_grid.yaml"), "--plan", "--fleet", "h200:8", "--price-per-hour", "25"])
    GOLDEN.write_text(written.getvalue())
