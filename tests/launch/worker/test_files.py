"""The driver's files on other machines: brought once, by content, whole; a real Ray, whose workers do not see them."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from l2t_ray.config import Run, Source
from l2t_ray.data.load import cache_file, load_data
from l2t_ray.launch.worker import files as job_files
from l2t_ray.launch.worker.job import Work
from tests.support.launches import OF_RAY

pytestmark = OF_RAY


@pytest.fixture
def work(tmp_path):
    driver = tmp_path / "driver's"
    driver.mkdir()
    (driver / "mine.py").write_text("THREE = 3\n")
    return Work(str(driver), str(tmp_path / "checkpoints"), str(driver / "data"), methods=("mine.py",), depot="test")


def elsewhere(work, cache):
    """The work as a machine without the driver's folder has it, and what runs there."""
    away = replace(work, folder="/nowhere", data_dir="/nowhere/data")

    @ray.remote(num_cpus=0.5, max_calls=1, runtime_env={"env_vars": {"XDG_CACHE_HOME": str(cache)}})
    def bring(path):
        return job_files.local(away, path), os.getpid()

    return bring


def test_a_file_is_brought_once_to_a_machine_whole_and_again_where_it_is_damaged(work, tmp_path, ray_cluster):
    files = job_files.listed(work.methods, work)
    assert [path for path, _ in files] == ["mine.py"]
    work = replace(work, files=files)
    assert job_files.local(replace(work, depot=""), "mine.py") == "mine.py"  # a launch of one machine
    with job_files.serving(work):
        bring = elsewhere(work, tmp_path / "cache")
        (first, one), (second, other) = ray.get([bring.remote("mine.py"), bring.remote("mine.py")])
        assert one != other
        assert first == second != str(Path(work.folder, "mine.py"))
        assert Path(first).name == "mine.py"  # the name tells which file of methods raised
        assert Path(first).read_text() == "THREE = 3\n"
        changed = Path(first).stat().st_mtime_ns
        ray.get(bring.remote("mine.py"))
        assert Path(first).stat().st_mtime_ns == changed
        Path(first).write_text("THREE = 4\n")  # its length is right
        ray.get(bring.remote("mine.py"))
        assert Path(first).read_text() == "THREE = 3\n"
    with pytest.raises(ray.exceptions.RayTaskError, match="cannot be had from the driver's machine"):
        ray.get(elsewhere(work, tmp_path / "other").remote("mine.py"))


def test_a_file_that_changed_under_way_is_refused(work, tmp_path, ray_cluster):
    work = replace(work, files=job_files.listed(work.methods, work))
    Path(work.folder, "mine.py").write_text("THREE = 5\n")
    with job_files.serving(work), pytest.raises(ray.exceptions.RayTaskError, match="that the driver has read"):
        ray.get(elsewhere(work, tmp_path / "cache").remote("mine.py"))


@pytest.mark.slow
def test_a_machine_without_the_images_trains_on_the_decoded_set(work, tmp_path, ray_cluster):
    run = Run.model_validate({"data": {"name": "digits", "samples_per_class": 4}, "method": "scratch", "seed": 0})
    data = load_data(run.data, Path(work.data_dir))
    work = replace(work, files=job_files.listed([str(cache_file(run.data, Path(work.data_dir)))], work))
    assert str(cache_file(run.data, Path(work.data_dir))) in dict(work.files)
    away = replace(work, folder="/nowhere", data_dir="/nowhere/data")
    away = replace(away, files=tuple((path.replace(work.folder, "/nowhere"), sha256) for path, sha256 in work.files))

    @ray.remote(num_cpus=0.5, max_calls=1, runtime_env={"env_vars": {"XDG_CACHE_HOME": str(tmp_path / "cache")}})
    def load():
        folder = job_files.data_dir(away, run)
        return folder, load_data(run.data, Path(folder), download=False).sha256

    with job_files.serving(work):
        folder, sha256 = ray.get(load.remote())
    assert folder.startswith(str(tmp_path / "cache"))
    assert sha256 == data.sha256


def test_torchvisions_weights_are_those_of_the_driver_where_its_cache_lies_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "driver"))
    theirs = str(Source(arch="resnet18", weights="IMAGENET1K_V1").file)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "worker"))
    ours = str(Source(arch="resnet18", weights="IMAGENET1K_V1").file)
    work = Work(str(tmp_path), str(tmp_path), str(tmp_path), files=((theirs, "0" * 64),))
    assert ours != theirs
    assert job_files.local_weights(work, ours) == theirs
    assert job_files.local_weights(work, "weights/mine.pt") == "weights/mine.pt"
