"""Downloads, from a server on loopback with files in the official formats: progress, resume, digests, offline."""

import contextlib
import dataclasses
import hashlib
import io
import json
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from l2t_ray import published, sweep
from l2t_ray.config import Data, Source
from l2t_ray.data import fetch as fetching
from l2t_ray.data.fetch import fetch
from l2t_ray.data.load import load_data
from l2t_ray.errors import InputError
from l2t_ray.launch.check import prepare_inputs
from l2t_ray.launch.worker.job import Work
from l2t_ray.models import build, load_source, source_state
from l2t_ray.published import Published
from l2t_ray.sweepfile.read import read_sweep
from l2t_ray.sweepfile.source_file import fetch_images, read_pretraining
from tests.support.file_server import serving
from tests.support.image_files import PUBLISHED, jpeg, write_zip
from tests.support.launches import call
from tests.support.ports import closed_port

CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE_S", 0.0)
    with serving() as files:
        yield files


def test_a_file_is_fetched_once_with_its_licence_told(server, tmp_path):
    item, said = server.put("a.bin", CONTENT), []
    for _ in range(2):
        fetch(item, tmp_path / "below" / "a.bin", say=said.append)
    assert (tmp_path / "below" / "a.bin").read_bytes() == CONTENT
    assert said == [f"{tmp_path}/below/a.bin: fetching a file, 1.0 MiB, from {item.address} (free)"]
    assert not [path for path in (tmp_path / "below").iterdir() if path.suffix == ".part"]


@pytest.mark.parametrize("has_ranges", [True, False])
def test_what_broke_off_goes_on_where_it_stopped(server, tmp_path, has_ranges):
    server.breaks, server.has_ranges = [300_000, 200_000], has_ranges
    fetch(server.put("a.bin", CONTENT), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    second, third = ("bytes=300000-", "bytes=500000-") if has_ranges else ("bytes=300000-", "bytes=200000-")
    assert server.asked == [("/a.bin", None), ("/a.bin", second), ("/a.bin", third)]


def test_the_next_launch_goes_on_too(server, tmp_path):
    item, server.breaks = server.put("a.bin", CONTENT), [100_000, 100_000, 100_000]
    with pytest.raises(InputError, match=r"300,000 of 1,024,000 bytes.*launching again goes on after 0.3 MiB"):
        fetch(item, tmp_path / "a.bin")
    assert not (tmp_path / "a.bin").exists()
    fetch(item, tmp_path / "a.bin")
    assert server.asked[-1] == ("/a.bin", "bytes=300000-")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_progress_is_told(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "LINE_S", 0.0)
    said = []
    fetch(server.put("a.bin", CONTENT), tmp_path / "a.bin", say=said.append)
    assert said[1].startswith("a.bin: 0 of 1 MiB, ")
    assert said[1].endswith(" left")


def test_another_file_is_refused_and_not_kept(server, tmp_path):
    item = dataclasses.replace(server.put("a.bin", CONTENT), digest="sha256:" + "0" * 64)
    with pytest.raises(InputError, match=r"a.bin: must be a file with sha256 0+, got [0-9a-f]{64}; find the file"):
        fetch(item, tmp_path / "a.bin")
    assert {path.suffix for path in tmp_path.iterdir()} <= {".lock"}


@pytest.mark.parametrize("size", [len(CONTENT), len(CONTENT) + 1])
def test_a_whole_part_is_not_fetched_again_and_a_wrong_one_is_refused(server, tmp_path, size):
    (tmp_path / "a.bin.part").write_bytes((CONTENT + b"x")[:size])
    item = server.put("a.bin", CONTENT)
    with contextlib.nullcontext() if size == len(CONTENT) else pytest.raises(InputError, match="must be a file with"):
        fetch(item, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").is_file() is (size == len(CONTENT))


def test_offline_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE_S", 0.0)
    with closed_port() as port:
        item = Published("a file", f"http://127.0.0.1:{port}/a.bin", 5, "md5:x", "free")
        with pytest.raises(InputError) as caught:
            fetch(item, tmp_path / "a.bin")
    told = (
        "must answer, so that a file can be fetched, got Connection refused; connect this machine, or put the file at"
    )
    assert told in str(caught.value)
    with pytest.raises(InputError, match=r"a.bin: must hold a file, got no file; allow the download"):
        fetch(item, tmp_path / "a.bin", download=False)


def test_a_missing_address_is_told(server, tmp_path):
    item = dataclasses.replace(server.put("a.bin", CONTENT), address=server.put("b", b"").address + "c")
    with pytest.raises(InputError, match="got HTTP 404"):
        fetch(item, tmp_path / "a.bin")


def cifar10(n=10):
    """CIFAR-10's archive in its official format, and the digests that torchvision asks for."""
    rng = np.random.default_rng(0)
    names = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]
    files = {"batches.meta": {"label_names": [name.decode() for name in names]}}
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        images = rng.integers(0, 256, (n, 3072), dtype=np.uint8)
        files[name] = {"data": images, "labels": [number % 10 for number in range(n)]}
    packed = {name: pickle.dumps(content) for name, content in files.items()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in packed.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue(), {name: hashlib.md5(content).hexdigest() for name, content in packed.items()}


@pytest.fixture
def official(server, monkeypatch):
    """CIFAR-10 at an address on loopback."""
    from torchvision import datasets

    content, digests = cifar10()
    item = server.put("cifar-10-python.tar.gz", content, algorithm="md5")
    kind = datasets.CIFAR10
    monkeypatch.setattr(kind, "url", item.address)
    monkeypatch.setattr(kind, "tgz_md5", item.digest.removeprefix("md5:"))
    monkeypatch.setattr(kind, "train_list", [[f"data_batch_{n}", digests[f"data_batch_{n}"]] for n in range(1, 6)])
    monkeypatch.setattr(kind, "test_list", [["test_batch", digests["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": digests["batches.meta"]}
    monkeypatch.setattr(kind, "meta", meta)
    return server


def test_cifar10_is_fetched_in_its_official_format_and_goes_on(official, tmp_path):
    official.breaks = [5_000]
    data = load_data(Data(name="cifar10", samples_per_class=5), tmp_path)
    assert (len(data.train_labels), len(data.test_labels)) == (50, 10)
    assert data.classes[3] == "cat"
    assert official.asked == [("/cifar-10-python.tar.gz", None), ("/cifar-10-python.tar.gz", "bytes=5000-")]


def test_tiny_imagenet_is_fetched_where_a_source_learns_from_it(server, folder, monkeypatch):
    classes = [f"n{number:08}" for number in range(200)]
    files = {"wnids.txt": "\n".join(classes).encode()}
    lines = []
    for number, wnid in enumerate(classes):
        files[f"train/{wnid}/images/{wnid}_0.JPEG"] = jpeg(number, (8, 8))
        files[f"val/images/val_{number}.JPEG"] = jpeg(number, (8, 8))
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t0\t7\t7")
    files["val/val_annotations.txt"] = "\n".join(lines).encode()
    content = write_zip(folder / "made.zip", files, top="tiny-imagenet-200/").read_bytes()
    item = server.put("tiny-imagenet-200.zip", content, "Tiny ImageNet", "md5")
    monkeypatch.setattr(published, "TINY_IMAGENET", item)
    file = folder / "source.yaml"
    file.write_text("out: a.pt\ndata: {name: tiny_imagenet, path: data/tiny-imagenet-200.zip}\n")
    with pytest.raises(InputError, match=r"source.yaml: data/tiny-imagenet-200.zip: must hold Tiny ImageNet, got no"):
        fetch_images(file, read_pretraining(file), download=False)
    assert fetch_images(file, read_pretraining(file), download=True)
    settings = read_pretraining(file)
    assert settings.data.sha256
    assert len(load_data(settings.data, folder / "data").train_labels) == 200
    assert not fetch_images(file, settings, download=True)


SWEEP = """
sweep: named
run: {source: {weights: l2t-ww-tinyimagenet}, target: {width: 0.125}}
grid:
- {data: {name: digits, samples_per_class: 1}, method: [ufm, scratch], seed: 0}
"""


@pytest.fixture
def weights(server, monkeypatch, tmp_path):
    """Published weights on loopback: the real ones where they are there."""
    if PUBLISHED.is_file():
        content = PUBLISHED.read_bytes()
    else:
        buffer = io.BytesIO()
        torch.save(source_state(build("resnet32", 1.0, 200)), buffer)
        content = buffer.getvalue()
    item = server.put("w.pth.tar", content, "the ResNet-32")
    monkeypatch.setattr(published, "WEIGHTS", {"l2t-ww-tinyimagenet": item})
    return item


def work(folder):
    return Work(str(folder), str(folder / ".l2t"), str(folder / "data"))


def test_published_weights_are_fetched_by_name_and_their_keys_are_known_before(folder, weights):
    Path("named.yaml").write_text(SWEEP)
    before = read_sweep(Path("named.yaml"))
    assert not before.sources
    run = next(run for run in before.runs.values() if run.method == "ufm")
    assert run.source == Source(
        weights="weights/l2t-ww-tinyimagenet.pth.tar", sha256=weights.digest.removeprefix("sha256:")
    )
    prepare_inputs(before.runs.values(), work(folder))
    assert read_sweep(Path("named.yaml")).runs.keys() == before.runs.keys()
    assert load_source(run.source).arch == "resnet32"


def test_weights_that_may_not_be_fetched_are_refused_with_the_remedy(folder, weights):
    Path("named.yaml").write_text(SWEEP)
    code, _, err = call(sweep.main, "named.yaml", "--no-download")
    assert code == 2
    assert "weights/l2t-ww-tinyimagenet.pth.tar: must hold the ResNet-32, got no file; allow the download" in err
    assert not Path("mlflow.db").exists()


def test_another_file_in_the_place_of_published_weights_is_refused_at_its_line(folder, weights):
    Path("named.yaml").write_text(SWEEP)
    Path("weights").mkdir()
    Path("weights/l2t-ww-tinyimagenet.pth.tar").write_bytes(b"others")
    code, _, err = call(sweep.main, "named.yaml", "--plan")
    assert code == 2
    assert err.startswith("named.yaml:3: weights/l2t-ww-tinyimagenet.pth.tar must be the ResNet-32, sha256:")


def test_a_plan_lists_what_will_be_fetched(folder, weights):
    Path("named.yaml").write_text(SWEEP.replace("digits", "cifar10"))
    out = call(sweep.main, "named.yaml", "--plan", "--fleet", "h200:1")[1]
    assert "to fetch: cifar10 (163 MiB), the ResNet-32 (2 MiB), 164 MiB in all" in out
    shutil.rmtree("data", ignore_errors=True)
    assert not Path("weights").exists()


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published weights are not in the shared folder")
def test_the_pinned_digest_and_size_are_those_of_the_published_file():
    item, content = published.WEIGHTS["l2t-ww-tinyimagenet"], PUBLISHED.read_bytes()
    assert item.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert item.n_bytes == len(content)


def test_the_archives_are_where_torchvision_keeps_them():
    from torchvision import datasets

    for name, kind in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100), ("stl10", datasets.STL10)):
        assert published.ARCHIVES[name][:2] == (kind.base_folder, kind.filename)


def test_a_plan_has_the_training_of_a_source_in_its_time_and_price(folder):
    """ResNet-32 on 100,000 images: 782 steps of 3 ms * 32 / 9 layers on a card, 200 epochs, make 1,668 s."""
    (folder / "source.yaml").write_text(
        "out: weights/a.pt\ndata: {name: tiny_imagenet, path: data/tiny-imagenet-200.zip}\n"
    )
    text = SWEEP.replace("weights: l2t-ww-tinyimagenet", "weights: weights/a.pt, train: source.yaml")
    Path("named.yaml").write_text(text.replace("digits", "cifar10"))
    arguments = ["named.yaml", "--plan", "--fleet", "h200:1", "--price-per-hour", "36", "--json"]
    _, out, err = call(sweep.main, *arguments)
    plan = json.loads(out)
    (source_s,) = plan["source_s"].values()
    assert source_s == pytest.approx(200 * 782 * 0.003 * 32 / 9)
    assert plan["wall_s"] > source_s
    assert plan["price"] == pytest.approx(plan["wall_s"] / 100)
    assert [item["what"] for item in plan["fetch"]] == ["cifar10", "Tiny ImageNet"]
    assert "source.yaml trains it first, in about 28 min, ESTIMATED" in err
