"""torchvision's weights by name: fetched by torch.hub from a server on loopback, checked, refused, and trained with."""

import hashlib
import io
import json
from pathlib import Path

import pytest
import torch
import torchvision

from l2t_ray import published, sweep
from l2t_ray.config import Run
from l2t_ray.launch.check import prepare_inputs
from l2t_ray.launch.worker.job import Work
from l2t_ray.models import load_source
from l2t_ray.sweepfile.read import read_sweep
from l2t_ray.sweepfile.source_file import fetch_images, read_pretraining
from tests.support.file_server import serving
from tests.support.launches import call
from tests.support.ports import closed_port

SWEEP = """
sweep: zoo
run:
  data: {name: digits, samples_per_class: 2}
  source: {arch: mobilenet_v3_small, weights: IMAGENET1K_V1}
  target: {arch: mobilenet_v3_small}
  training: {epochs: 2, batch_size: 20, lr: 0.01}
  record: {evaluations: 0}
grid:
- {method: [l2t_www, finetune, scratch], seed: 0}
- {method: scratch, target: {weights: IMAGENET1K_V1}, variant: pretrained, seed: 0}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    Path("zoo.yaml").write_text(SWEEP)
    return tmp_path


@pytest.fixture
def server(monkeypatch, folder):
    """Weights in the official form and under a name of the official form, with random values."""
    torch.manual_seed(0)
    buffer = io.BytesIO()
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), buffer)
    digits = hashlib.sha256(buffer.getvalue()).hexdigest()[:8]
    file = f"mobilenet_v3_small-{digits}.pth"
    with serving() as files:
        address = files.put(file, buffer.getvalue()).address.removesuffix(file)
        monkeypatch.setattr(published, "ADDRESS", address)
        table = {"mobilenet_v3_small": {"IMAGENET1K_V1": (file, 9.8, "free")}}
        monkeypatch.setattr(published, "TORCHVISION", table)
        files.file = file
        yield files


def work(folder):
    return Work(str(folder), str(folder / ".l2t"), str(folder / "data"))


def test_the_table_is_torchvisions_own_enumeration():
    for arch, by_name in published.TORCHVISION.items():
        official = {w.name: (w.url, w.meta["_file_size"]) for w in torchvision.models.get_model_weights(arch)}
        ours = {name: (published.ADDRESS + file, n_mib) for name, (file, n_mib, _) in by_name.items()}
        assert ours == official


@pytest.mark.parametrize("variables", [{}, {"TORCH_HOME": "~/a"}, {"XDG_CACHE_HOME": "/b"}])
def test_the_folder_is_torch_hubs(monkeypatch, variables):
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(published.hub_folder()) == f"{torch.hub.get_dir()}/checkpoints"


def test_weights_are_fetched_once_and_keys_are_known_before(server, folder):
    before = read_sweep(Path("zoo.yaml"))
    digits = server.file.removesuffix(".pth").rpartition("-")[2]
    by_cell = {before.cells[key]: run for key, run in before.runs.items()}
    assert by_cell["digits/2/l2t_www"].source.sha256 == digits
    assert by_cell["digits/2/scratch/pretrained"].target.sha256 == digits
    assert by_cell["digits/2/scratch"].key != by_cell["digits/2/scratch/pretrained"].key
    prepare_inputs(before.runs.values(), work(folder))
    assert server.asked == [(f"/{server.file}", None)]
    assert (folder / "torch/hub/checkpoints" / server.file).is_file()
    assert read_sweep(Path("zoo.yaml")).runs.keys() == before.runs.keys()


def test_a_run_by_hand_has_the_key_of_the_sweep_file(server, folder):
    found = next(run for run in read_sweep(Path("zoo.yaml")).runs.values() if run.target.weights)
    by_hand = found.model_dump()
    by_hand["target"]["sha256"] = None
    assert Run(**by_hand).key == found.key


def test_a_sweep_trains_with_them(server, folder):
    code, _, err = call(sweep.main, "zoo.yaml", "--backend", "inline")
    assert code == 0, err
    assert "4 of 4" in err or "finished" in err


def test_the_network_is_frozen_and_speaks_as_torchvisions(server, folder):
    runs = [*read_sweep(Path("zoo.yaml")).runs.values()]
    prepare_inputs(runs, work(folder))
    source = load_source(next(run for run in runs if run.method == "l2t_www").source, 64)
    assert not source.training
    assert not any(p.requires_grad for p in source.parameters())
    assert source.normalization == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    official = torchvision.models.mobilenet_v3_small().eval()
    official.load_state_dict(torch.load(folder / "torch/hub/checkpoints" / server.file, weights_only=True))
    images = torch.randn(2, 3, 64, 64)
    statistics = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    with torch.no_grad():
        torch.testing.assert_close(source(images), official(images))
        stages = source.features(images)
    assert [tuple(m.shape[1:]) for m in stages] == [(16, 16, 16), (24, 8, 8), (48, 4, 4), (576, 2, 2)]
    assert all(torch.equal(tensor, statistics[name]) for name, tensor in source.state_dict().items())


def test_a_plan_lists_them(server, folder):
    plan = json.loads(call(sweep.main, "zoo.yaml", "--plan", "--fleet", "cpu:2", "--json")[1])
    assert [item["what"] for item in plan["fetch"]] == ["torchvision's mobilenet_v3_small IMAGENET1K_V1"]
    assert not server.asked


def test_what_may_not_be_fetched_is_refused_with_the_remedy(server, folder):
    code, _, err = call(sweep.main, "zoo.yaml", "--no-download")
    assert code == 2
    assert f"{server.file}: must hold torchvision's mobilenet_v3_small IMAGENET1K_V1, got no file; allow the" in err
    assert not server.asked


def test_offline_the_remedy_is_told(server, folder, monkeypatch):
    with closed_port() as port:
        monkeypatch.setattr(published, "ADDRESS", f"http://127.0.0.1:{port}/")
        code, _, err = call(sweep.main, "zoo.yaml")
    assert code == 2
    assert "IMAGENET1K_V1 can be fetched, got Connection refused; connect this machine, or put the file at" in err


@pytest.mark.parametrize("content", [b"a page of a proxy", None], ids=["another file", "no file"])
def test_another_file_is_refused_and_not_kept(server, folder, content):
    server.files = {} if content is None else {f"/{server.file}": content}
    code, _, err = call(sweep.main, "zoo.yaml")
    assert code == 2
    assert ("got HTTP 404" if content is None else "sha256") in err
    assert not (folder / "torch/hub/checkpoints" / server.file).exists()
    assert "Traceback" not in err


def test_another_file_in_their_place_is_refused_at_its_line(server, folder):
    place = folder / "torch/hub/checkpoints" / server.file
    place.parent.mkdir(parents=True)
    place.write_bytes(b"others")
    code, _, err = call(sweep.main, "zoo.yaml", "--plan")
    assert code == 2
    assert err.startswith(f"zoo.yaml:5: {place} must be torchvision's mobilenet_v3_small IMAGENET1K_V1, sha256:")


def test_a_source_network_may_start_from_them(server, folder):
    file = folder / "source.yaml"
    file.write_text(
        "out: a.pt\ndata: {name: digits, samples_per_class: 2}\ntraining: {epochs: 1}\n"
        "source: {arch: mobilenet_v3_small, weights: IMAGENET1K_V1}\n"
    )
    before = read_pretraining(file)
    assert fetch_images(file, before, download=True)
    assert not fetch_images(file, read_pretraining(file), download=True)
    assert read_pretraining(file).key == before.key
