"""Damaged tars of images and files of weights, through a launch that ends where Ray would start."""

import contextlib
import io
import random
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from l2t_ray import models, sweep
from l2t_ray.data.streams import stream
from l2t_ray.errors import InputError
from l2t_ray.launch import session
from tests.fuzz.hostile import check_refusal, command, damaged, inputs, snapshot

FILE = """
sweep: images
run:
  data: {name: image_folder, path: images.tar, samples_per_class: 2}
  source: {arch: resnet20, width: 0.125, weights: net.pt}
  target: {width: 0.125}
grid:
- {method: [METHOD], seed: [0]}
"""
REACHED = "all was read, says the test"


def image_bytes(dice, kind):
    pixels = bytes(dice.randrange(256) for _ in range(12 * 10 * 3))
    stream_ = io.BytesIO()
    Image.frombytes("RGB", (12, 10), pixels).save(stream_, kind)
    return stream_.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory, template):
    """A folder with a tar of 12 images, weights, and an empty ledger."""
    folder, dice = tmp_path_factory.mktemp("made"), random.Random(0)
    with tarfile.open(folder / "images.tar", "w") as tar:
        for number in range(12):
            kind = ("PNG", "JPEG")[number % 2]
            content = image_bytes(dice, kind)
            split, title = ("train", "test")[number % 3 == 2], ("cat", "dog")[number // 6]
            member = tarfile.TarInfo(f"{split}/{title}/{number}.{kind.lower()}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
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


def check(folder, tried, kind, method):
    Path("images.yaml").write_text(FILE.replace("METHOD", method))
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
    return {path: content for path, content in snapshot(folder).items() if path.suffix in {".tar", ".pt", ".yaml"}}


@inputs(40)
@given(st.data())
def test_a_damaged_tar_of_images_is_read_or_refused_before_anything_starts(made, folder, tried, data):
    (folder / "images.tar").write_bytes(data.draw(damaged((made / "images.tar").read_bytes())))
    check(folder, tried, "tars of images", "scratch")


@inputs(30)
@given(st.data())
def test_damaged_weights_are_read_or_refused_before_anything_starts(made, folder, tried, data):
    (folder / "net.pt").write_bytes(data.draw(damaged((made / "net.pt").read_bytes())))
    check(folder, tried, "files of weights", "ufm")


def test_undamaged_both_are_read(folder, tried):
    for method in ("scratch", "ufm"):
        check(folder, lambda kind, became: None, "", method)
        code, _, err = command(sweep.main, "images.yaml")
        assert (code, REACHED in err) == (2, True)
