"""Damaged tars, zips and tables of images, and files of weights, through a launch that ends where Ray would start."""

import contextlib
import io
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import csv, parquet

from l2t_ray import models, sweep
from l2t_ray.data.streams import stream
from l2t_ray.errors import InputError
from l2t_ray.launch import session
from tests.fuzz.hostile import check_refusal, command, damaged, inputs, snapshot
from tests.support.image_files import write_folder, write_tar, write_zip

FILE = """
sweep: images
run:
  data: {name: image_folder, path: IMAGES, samples_per_class: 2}
  source: {arch: resnet20, width: 0.125, weights: net.pt}
  target: {width: 0.125}
grid:
- {method: [METHOD], seed: [0]}
"""
SUFFIXES = {".tar", ".zip", ".parquet", ".csv", ".png", ".jpeg", ".pt", ".yaml"}
REACHED = "all was read, says the test"


def image_bytes(dice, kind):
    pixels = bytes(dice.randrange(256) for _ in range(12 * 10 * 3))
    stream_ = io.BytesIO()
    Image.frombytes("RGB", (12, 10), pixels).save(stream_, kind)
    return stream_.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory, template):
    """A folder with 12 images in every form, weights, and an empty ledger."""
    folder, dice, files = tmp_path_factory.mktemp("made"), random.Random(0), {}
    for number in range(12):
        kind = ("PNG", "JPEG")[number % 2]
        split, title = ("train", "test")[number % 3 == 2], ("cat", "dog")[number // 6]
        files[f"{split}/{title}/{number}.{kind.lower()}"] = image_bytes(dice, kind)
    write_tar(folder / "images.tar", files)
    write_zip(folder / "images.zip", files)
    write_folder(folder / "files", files)
    table = pa.table({
        "path": [f"files/{name}" for name in files],
        "label": [name.split("/")[1] for name in files],
        "split": [name.split("/")[0] for name in files],
    })
    parquet.write_table(table, folder / "images.parquet")
    csv.write_csv(table, folder / "images.csv")
    network = models.ResNet(20, 0.125, 10)
    models.initialise(network, stream(0, "init"))
    torch.save({"state_dict": network.state_dict()}, folder / "net.pt")
    shutil.copy(template, folder)
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    monkeypatch.chdir(copy)

    @contextlib.contextmanager
    def ends_here(*_, **__):
        raise InputError(REACHED)
        yield

    monkeypatch.setattr(session, "cluster", ends_here)
    return copy


def check(folder, tried, kind, method, images="images.tar"):
    Path("images.yaml").write_text(FILE.replace("METHOD", method).replace("IMAGES", images))
    shutil.rmtree("data", ignore_errors=True)
    before = files_of_the_user(folder)
    code, out, err = command(sweep.main, "images.yaml")
    assert files_of_the_user(folder) == before
    if REACHED in err:
        tried(kind, "read")
        return
    told = [line for line in err.splitlines() if not line.startswith("images: ")]  # the first says what will happen
    check_refusal(code, out, "\n".join(told), snapshot(folder), folder)
    tried(kind, "refused")


def files_of_the_user(folder):
    return {path: content for path, content in snapshot(folder).items() if path.suffix in SUFFIXES}


@pytest.mark.parametrize("images", ["images.tar", "images.zip", "images.parquet", "images.csv"])
@inputs(20)
@given(data=st.data())
def test_damaged_images_are_read_or_refused_before_anything_starts(made, folder, tried, images, data):
    (folder / images).write_bytes(data.draw(damaged((made / images).read_bytes())))
    check(folder, tried, f"images in {images}", "scratch", images)


@inputs(30)
@given(st.data())
def test_damaged_weights_are_read_or_refused_before_anything_starts(made, folder, tried, data):
    (folder / "net.pt").write_bytes(data.draw(damaged((made / "net.pt").read_bytes())))
    check(folder, tried, "files of weights", "ufm")


@pytest.mark.parametrize("images", ["images.tar", "images.zip", "images.parquet", "images.csv"])
@pytest.mark.parametrize("method", ["scratch", "ufm"])
def test_undamaged_all_is_read(folder, images, method):
    check(folder, lambda kind, became: None, "", method, images)
    code, _, err = command(sweep.main, "images.yaml")
    assert (code, REACHED in err) == (2, True)
