"""What is refused or tidied before workers start."""

import numpy as np
import pytest
import torch
from PIL import Image

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.data.streams import stream
from l2t_ray.errors import InputError
from l2t_ray.launch.check import prepare_inputs
from l2t_ray.launch.checkpoints import prepare_checkpoints
from l2t_ray.launch.worker.job import Work
from l2t_ray.models import ResNet, initialise

registry.load()


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Work(str(tmp_path), str(tmp_path / "checkpoints"), str(tmp_path / "data"))


def make_run(method="scratch", weights=None, seed=0, **data):
    source = {"arch": "resnet20", "width": 0.125, "weights": weights}
    data = {"name": "digits", "samples_per_class": 4} | data
    return Run.model_validate({"data": data, "method": method, "source": source, "seed": seed})


def write_weights(path, **more):
    network = ResNet(20, 0.125, 10)
    initialise(network, stream(0, "init"))
    torch.save({"state_dict": network.state_dict(), "arch": "resnet20", "width": 0.125, **more}, path)


def write_images(folder, *, n=6):
    rng = np.random.default_rng(0)
    for place in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (folder / place).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / place / f"{i}.jpg")


def problems(runs, work):
    with pytest.raises(InputError) as caught:
        prepare_inputs(runs, work)
    return caught.value.problems


def test_what_the_images_are_is_told_by_key(work):
    write_weights("w.pt")
    runs = [make_run(seed=seed) for seed in range(2)] + [make_run("ufm", "w.pt")]
    digests = prepare_inputs(runs, work)
    assert digests.keys() == {run.key for run in runs}
    assert {len(digest) for digest in digests.values()} == {64}
    assert len({*digests.values()}) == 1


def test_every_problem_of_every_input_is_told_before_anything_starts(work, tmp_path):
    write_images(tmp_path / "cut off")
    photo = tmp_path / "cut off/train/cat/3.jpg"
    photo.write_bytes(photo.read_bytes()[:300])
    write_images(tmp_path / "a class is empty")
    for file in (tmp_path / "a class is empty/train/dog").iterdir():
        file.unlink()
    write_weights("whole.pt")
    (tmp_path / "half.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:50_000])
    folders = {"name": "image_folder", "samples_per_class": 3}
    runs = [
        make_run(path="cut off", **folders),
        make_run(path="a class is empty", **folders),
        make_run("ufm", "half.pt"),
        make_run("l2t_ww", "half.pt"),
        make_run("ufm", "nowhere.pt"),
        make_run("scratch", "nowhere.pt"),  # reads none
        make_run("ufm", "whole.pt"),
    ]
    told = problems(runs, work)
    expected = [
        "cut off: train/cat/3.jpg must be an image that can be decoded",
        "a class is empty: a class folder must hold images, train/dog is empty",
        "half.pt: is not a readable file of weights",
        "nowhere.pt: source.weights does not exist",
    ]
    assert len(told) == len(expected)
    for line, start in zip(told, expected, strict=True):
        assert start in line


def test_a_method_refuses_a_source_for_a_folder_of_images_before_anything_starts(work, tmp_path):
    write_images(tmp_path / "animals")
    write_weights("digits.pt", classes=[*"0123456789"])
    runs = [make_run("distillation", "digits.pt", name="image_folder", path="animals", samples_per_class=3)]
    (told,) = problems(runs, work)
    assert told.startswith("digits.pt: source.weights must ")
    assert "cat" in told
    runs = [make_run("distillation", "digits.pt")]
    assert prepare_inputs(runs, work).keys() == {run.key for run in runs}


def test_checkpoints_of_finished_runs_and_parts_of_files_are_removed_and_no_others(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("done.ckpt", "done.ckpt.previous", "open.ckpt", "open.ckpt.previous", ".open.ckpt.part"):
        (folder / name).touch()
    prepare_checkpoints(folder, ["done", "elsewhere"])
    assert sorted(path.name for path in folder.iterdir()) == ["open.ckpt", "open.ckpt.previous"]
