"""Measuring before a sweep: real steps on the CPU, on Ray's pretended cards, with errors put in."""

import ast
import json
import time

import pytest
import torch

from l2t_ray import registry
from l2t_ray.config import Execution, Run
from l2t_ray.launch.cluster.probe import probe
from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import Group
from l2t_ray.launch.placement.estimate import estimate, n_images
from l2t_ray.launch.placement.measurements import CORE, Crowd, Figure, Figures, Speed, code_version, shipped
from l2t_ray.launch.placement.packing import shape, speed_shape
from l2t_ray.launch.worker import probe as worker_probe
from l2t_ray.launch.worker.job import Work, encode
from l2t_ray.launch.worker.probe import Prober
from l2t_ray.models import compiling
from tests.support.launches import OF_RAY
from tests.support.marks import LONG
from tests.support.places import ROOT

pytestmark = OF_RAY
GIB = 2**30


def make_run(seed=0, method="scratch", samples=4, **settings):
    registry.load()
    values = {
        "data": {"name": "digits", "samples_per_class": samples},
        "method": method,
        "seed": seed,
        "source": {"arch": "resnet20", "width": 0.25},
        "target": {"width": 0.1},
        "training": {"epochs": 200, "batch_size": 16},
    }
    return Run.model_validate(values | settings)


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Work(str(tmp_path), str(tmp_path / "checkpoints"), str(tmp_path / "data"))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(worker_probe, "ENOUGH_S", 0.1)


def make_prober(work, run, n_runs=4):
    runs = [run.model_copy(update={"seed": seed}) for seed in range(n_runs)]
    return Prober(work.to_json(), encode(runs), time.time())


def test_real_steps_of_a_pack_are_measured(work, quick):
    measured = make_prober(work, make_run())
    begun = time.perf_counter()
    one, four = (Speed(**measured.speed(pack)) for pack in (1, 4))
    passed_s = time.perf_counter() - begun
    assert (one.pack, four.pack) == (1, 4)
    assert 0 < one.epoch_s < passed_s
    assert 0 < four.epoch_s < passed_s
    assert four.peak_bytes >= one.peak_bytes > 50 * 2**20  # of the process
    assert measured.ready()["context_bytes"] == 0  # on a CPU it is in the resident set
    assert measured.pace(2, 0.01) > 0


def test_a_long_epoch_is_told_from_a_few_of_its_steps(work, quick, monkeypatch):
    measured = make_prober(work, make_run(samples=40, training={"epochs": 1, "batch_size": 16}))
    assert (measured.n_images, measured.n_probed) == (400, 30)
    monkeypatch.setattr(measured, "_train", lambda pack, n_epochs: [9.0, *[0.5] * (n_epochs - 2), 0.75])
    speed = Speed(**measured.speed(2))
    assert speed.epoch_s == 0.5 * 25 / 2  # 25 steps, of which 2 were taken
    assert speed.prepare_s == 8.5  # what came before the first epoch
    assert speed.evaluation_s == pytest.approx(0.25 * -(-measured.n_test // 500))
    assert speed.peak_bytes > 370 * 3072 * 2


@pytest.mark.slow
@LONG
def test_compiled_steps_are_measured_too_and_none_where_no_compiler_works(work, quick, monkeypatch):
    """Inductor's C++ on this machine."""
    measured = make_prober(work, make_run(), n_runs=1)
    called, compiled = (Speed(**measured.speed(1, compiled=way)) for way in (False, True))
    assert (called.compiled, compiled.compiled) == (False, True)
    assert compiled.prepare_s > called.prepare_s
    monkeypatch.setattr("torch.compile", _without_compiler)
    compiling._process.compiled.clear()
    assert measured.speed(1, compiled=True) is None


def _without_compiler(piece, **_):
    def fail(*arguments, **settings):
        raise torch._dynamo.exc.InternalTorchDynamoError("no compiler")

    return fail


def test_a_pack_that_does_not_fit_is_no_speed_and_any_other_error_is_raised(work, quick, monkeypatch):
    measured = make_prober(work, make_run())

    def raising(error):
        def train(*arguments, **settings):
            raise error

        return train

    monkeypatch.setattr(worker_probe, "train", raising(MemoryError()))
    assert measured.speed(4) is None
    monkeypatch.setattr(worker_probe, "train", raising(ValueError("boom")))
    with pytest.raises(ValueError, match="boom"):
        measured.speed(4)


def test_a_figure_comes_back_until_torch_or_the_code_changes(tmp_path, monkeypatch):
    figure = Figure((Speed(1, 0.5, 0.1, GIB),), (Crowd(2, 1, 1.5),), 7, 2.0, most_pack=3)
    Figures(tmp_path / "f.json").put("s", "H200", figure)
    assert Figures(tmp_path / "f.json").get("s", "H200") == figure
    assert Figures(tmp_path / "f.json").get("s", "H100") is None
    method = tmp_path / "mine.py"
    method.write_text("pass")
    assert Figures(tmp_path / "f.json", [method]).get("s", "H200") is None
    before = code_version([method])
    method.write_text("pass  # faster")
    assert code_version([method]) != before
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99")
    assert Figures(tmp_path / "f.json").get("s", "H200") is None


def test_the_codes_version_covers_whatever_the_training_imports():
    package = ROOT / "l2t_ray"

    def imported(file):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("l2t_ray"):
                for name in [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]:
                    place = ROOT / name.replace(".", "/")
                    yield from (f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file())

    found, wanted = {package / "__init__.py"}, [package / "training" / "pack.py"]  # it hands on names of all rooms
    while wanted:
        file = wanted.pop()
        found.add(file)
        wanted += {*imported(file)} - found
    uncovered = {f.relative_to(package).as_posix() for f in found if f.relative_to(package).parts[0] not in CORE}
    assert uncovered <= {
        "__init__.py",
        "config/__init__.py",
        "config/execution.py",
        "config/run.py",
        "config/sections.py",
        "run.py",
        "errors.py",
        "files.py",
        "published.py",
        "hubs/__init__.py",
        "hubs/hub.py",
        "hubs/of_timm.py",
        "hubs/of_transformers.py",
    }  # they cost a step nothing
    assert all((package / name).exists() for name in CORE)


def test_what_runs_out_of_memory_leaves_a_shipped_figure_a_shipped_one(tmp_path):
    (shape_name, device), before = next(iter(shipped().items()))
    Figures(tmp_path / "f.json").learn(shape_name, device, pack=1)
    found = Figures(tmp_path / "f.json").get(shape_name, device)
    assert (found.basis, found.most_pack, found.speeds) == ("shipped", 1, before.speeds)


def test_figures_with_and_without_nvidias_service_are_kept_apart(tmp_path):
    figure = Figure((Speed(1, 0.5, 0.1, GIB),))
    Figures(tmp_path / "f.json", served=True).put("s", "H200", figure)
    assert Figures(tmp_path / "f.json").get("s", "H200") is None
    assert Figures(tmp_path / "f.json", served=True).get("s", "H200") == figure


@pytest.mark.parametrize("content", [b"", b"[1]", b"{nonsense"], ids=["empty", "a list", "cut off"])
def test_a_damaged_cache_is_measured_anew(tmp_path, content):
    (tmp_path / "f.json").write_bytes(content)
    figures = Figures(tmp_path / "f.json")
    assert figures.get("s", "d") is None
    figures.put("s", "d", Figure((Speed(1, 0.5, 0.1, GIB),)))
    assert len(json.loads((tmp_path / "f.json").read_bytes())) == 1


def test_two_launches_keep_each_others_figures(tmp_path):
    one, two = Figures(tmp_path / "f.json"), Figures(tmp_path / "f.json")
    one.put("a", "d", Figure((Speed(1, 0.5, 0.1, GIB),)))
    two.put("b", "d", Figure((Speed(1, 0.5, 0.1, GIB),)))
    assert all(Figures(tmp_path / "f.json").get(name, "d") for name in "ab")


def test_shipped_figures_say_where_they_were_measured():
    assert shipped()
    assert all(figure.basis == "shipped" and "torch" in figure.note for figure in shipped().values())


def test_an_estimate_is_marked_as_one_and_grows_with_the_work():
    h200 = Group("NVIDIA H200", 8, int(141e9), 8.0, is_gpu=True)
    few, many = (make_run(samples=samples, target={"width": 1.0}) for samples in (10, 500))
    assert (n_images(few), n_images(many)) == (100, 5000)
    one, other = estimate(few, h200), estimate(many, h200)
    assert one.basis == other.basis == "estimate"
    assert one.speeds[0].epoch_s < other.speeds[0].epoch_s
    assert estimate(few, Group("a card nobody knows", 1, 0, 1.0, is_gpu=True)) is None
    assert estimate(make_run(target={"arch": "resnet20", "width": 1.0}), h200) is None  # of unknown operations


@pytest.mark.slow
@LONG
def test_a_shape_is_measured_once_with_packs_and_processes(work, pretended_card, tmp_path, monkeypatch):
    monkeypatch.setattr("l2t_ray.launch.cluster.probe.LEAST_WORK_S", 0.0)
    monkeypatch.setattr("l2t_ray.launch.cluster.probe.BUDGET_S", (20.0, 20.0))
    monkeypatch.setattr("l2t_ray.launch.cluster.probe.COMPILE_S", 0.0)
    monkeypatch.setattr("l2t_ray.launch.cluster.probe.MOST_PACK", 4)
    monkeypatch.setattr("l2t_ray.launch.cluster.probe.PACE_S", 0.5)
    runs = [make_run(seed) for seed in range(32)]
    cells = {run.key: "cell" for run in runs}
    said, card = [], Group("cpu", 1, 16 * GIB, 2.0, is_gpu=True)

    def lanes():
        figures = Figures(tmp_path / "f.json")
        return Lanes(Execution(), [card], figures, runs, cells, known={})

    first, counts = lanes(), {shape(runs[0]): 32}
    assert probe(first, counts, first.figures, work, said.append) == 1
    assert said[0].startswith("measuring digits, 4 images a class, scratch on cpu, for about 20 s")
    figure = Figures(tmp_path / "f.json").get(speed_shape(runs[0]), "cpu")
    assert [speed.pack for speed in figure.speeds][:2] == [1, 2]
    assert len({speed.compiled for speed in figure.speeds}) == 1  # all packs the way in which one run is faster
    assert first.share(shape(runs[0]), card).compiled is figure.speeds[0].compiled
    assert figure.crowds[0].processes == 2
    assert figure.crowds[0].slowdown >= 1
    assert figure.start_s > 0
    assert first.share(shape(runs[0]), card).basis == "measured"
    second = lanes()
    assert probe(second, counts, second.figures, work, said.append) == 0
    assert len(said) == 1


def test_short_work_and_known_times_are_not_measured(work, tmp_path):
    machine = Group("cpu", 1, 16 * GIB, 2.0, is_gpu=False)
    runs = [make_run(seed, training={"epochs": 2}) for seed in range(4)]
    cells = {run.key: "cell" for run in runs}
    figures = Figures(tmp_path / "f.json")
    lanes = Lanes(Execution(), [machine], figures, runs, cells, known={})
    assert probe(lanes, {shape(runs[0]): 4}, figures, work, pytest.fail) == 0
    long = make_run(target={"width": 1.0}, samples=50, method="l2t_ww")
    lanes = Lanes(Execution(), [machine], figures, [long], {long.key: "cell"}, known={(shape(long), "cpu"): 1e6})
    assert probe(lanes, {shape(long): 1}, figures, work, pytest.fail) == 0
    assert list(tmp_path.iterdir()) == []
