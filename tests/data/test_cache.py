"""Decoded images are kept, and the real ones are read."""

import errno
import multiprocessing
import os

import pytest
import torch

from l2t_ray.config import Data
from l2t_ray.data import place
from l2t_ray.data import sets as data_sets
from l2t_ray.data.archive import Archive
from l2t_ray.data.digests import Digests
from l2t_ray.data.load import load_data
from l2t_ray.data.place import space
from l2t_ray.errors import InputError
from l2t_ray.registry import DATA_SETS
from tests.support.image_files import (
    CIFAR10,
    TINY,
    animals,
    equal,
    folder_settings,
    needs_cifar10,
    needs_tiny,
    tiny_settings,
    write_tar,
)
from tests.support.waiting import MOST_S


def caches(folder):
    return [file for file in (folder / ".cache").iterdir() if ".v" in file.name and not file.name.endswith(".lock")]


def test_the_second_load_reads_no_image_and_gives_the_same(tmp_path, monkeypatch):
    settings = folder_settings(write_tar(tmp_path / "a.tar", animals()))
    first = load_data(settings, tmp_path)
    monkeypatch.setattr(Archive, "read", None)
    assert equal(load_data(settings, tmp_path), first)


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "text"])
def test_a_damaged_cache_is_built_again_with_a_warning(tmp_path, capsys, damage):
    settings = folder_settings(write_tar(tmp_path / "a.tar", animals()))
    first = load_data(settings, tmp_path)
    first = first.to("cpu")
    (file,) = caches(tmp_path)
    content = bytearray(file.read_bytes())
    pixel = content.index(bytes([102] * 64))
    content[pixel + 5] ^= 1
    damaged = {"empty": b"", "cut": file.read_bytes()[:-100], "changed": bytes(content), "text": b"hello"}[damage]
    expected = first.sha256
    file.unlink()
    file.write_bytes(damaged)
    capsys.readouterr()
    again = load_data(settings, tmp_path)
    assert again.sha256 == expected
    assert torch.equal(again.train_images[2, :, 5, 7], torch.tensor([102, 0, 0], dtype=torch.uint8))
    assert capsys.readouterr().err.count("this cache is damaged") == 1
    load_data(settings, tmp_path)
    assert capsys.readouterr().err == ""


def test_changed_files_are_decoded_again(tmp_path):
    path = tmp_path / "a.tar"
    load_data(folder_settings(write_tar(path, animals())), tmp_path)
    data = load_data(folder_settings(write_tar(path, animals(n_train=5))), tmp_path)
    assert len(data.train_labels) == 10


def test_files_other_than_the_sweep_was_read_with_are_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar", animals())
    sha256 = Digests(tmp_path).of_images(path).sha256
    assert load_data(folder_settings(path, sha256=sha256), tmp_path).classes == ("cat", "dog")
    write_tar(path, animals(n_train=4))
    with pytest.raises(InputError, match=rf"must still hold what data.sha256 says, {sha256}, got "):
        load_data(folder_settings(path, sha256=sha256), tmp_path)


def test_writing_into_loaded_tensors_changes_no_cache(tmp_path):
    settings = folder_settings(write_tar(tmp_path / "a.tar", animals()))
    load_data(settings, tmp_path)
    load_data(settings, tmp_path).train_images.zero_()
    assert load_data(settings, tmp_path).train_images.max() == 102


def test_a_folder_that_cannot_be_written_costs_the_cache_alone(tmp_path, capsys):
    settings = folder_settings(write_tar(tmp_path / "a.tar", animals()))
    blocked = tmp_path / "file"
    blocked.write_text("no folder")  # for root, permissions would not stop it
    assert load_data(settings, blocked).classes == ("cat", "dog")
    assert "no cache, the images will be decoded each time" in capsys.readouterr().err


def load_and_hash(path, folder, barrier, results):
    barrier.wait()
    results.put((load_data(folder_settings(path), folder).sha256, os.getpid()))


def test_processes_that_start_at_once_decode_once_and_agree(tmp_path, capfd):
    path = write_tar(tmp_path / "a.tar", animals(n_train=60))
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    processes = [
        context.Process(target=load_and_hash, args=(path, tmp_path / "data", barrier, results)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=MOST_S)[0] for _ in processes]
    for process in processes:
        process.join(timeout=MOST_S)
    assert found == [load_data(folder_settings(path), tmp_path / "data").sha256] * 4
    assert capfd.readouterr().err.count("decoding 124 images, once") == 1


@pytest.fixture(scope="module")
def real_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("real")


@needs_tiny
def test_the_second_load_of_6000_real_images_reads_none_of_them(real_dir, monkeypatch):
    first = load_data(tiny_settings(TINY, samples=25), real_dir)
    assert first.train_images.shape == (5000, 3, 32, 32)
    assert first.test_images.shape == (1000, 3, 32, 32)
    assert len(first.classes) == 200
    monkeypatch.setattr(Archive, "read", None)
    assert equal(load_data(tiny_settings(TINY, samples=25), real_dir), first)


@pytest.mark.slow
@needs_cifar10
def test_the_real_cifar10_images_are_read_once(real_dir, monkeypatch):
    archive = Archive(CIFAR10, "train")
    assert len(archive.names) == 15_000
    assert archive.names[0] == "test/airplane/0000.jpg"  # without the top folder cifar10/
    data = load_data(folder_settings(CIFAR10, samples=500, title="cifar10"), real_dir)
    assert data.name == "cifar10"
    assert data.classes == DATA_SETS["cifar10"].classes
    assert torch.bincount(data.train_labels).tolist() == [500] * 10
    assert torch.bincount(data.test_labels).tolist() == [1000] * 10
    monkeypatch.setattr(Archive, "read", None)
    assert equal(load_data(folder_settings(CIFAR10, samples=500), real_dir), data)


@pytest.mark.parametrize("form", ["tar", "digits"])
def test_a_set_that_does_not_fit_into_the_memory_is_decoded_on_the_disk(tmp_path, monkeypatch, form):
    path = write_tar(tmp_path / "a.tar", animals())
    settings = folder_settings(path) if form == "tar" else Data(name="digits", samples_per_class=1)
    first = load_data(settings, tmp_path / "1")
    rooms = []

    def noted(*given):
        rooms.append(space(*given))
        return rooms[-1]

    monkeypatch.setattr(data_sets, "space", noted)
    monkeypatch.setattr(place, "fits", lambda n_bytes, device: False)
    again = load_data(settings, tmp_path / "2")
    assert equal(first, again)
    assert all(room.is_shared() for room in rooms)
    assert len(rooms) == (2 if form == "tar" else 0)
    assert [file.name for file in caches(tmp_path / "2")] == [file.name for file in caches(tmp_path / "1")]
    assert not [*(tmp_path / "2" / ".cache").glob(".decoding*")]


def test_a_disk_that_is_full_costs_the_cache_alone(tmp_path, monkeypatch, capsys):
    def full(whole, stream):
        stream.write(b"some")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    settings = folder_settings(write_tar(tmp_path / "a.tar", animals()))
    assert load_data(settings, tmp_path).classes == ("cat", "dog")
    assert "no cache, the images will be decoded each time: [Errno 28] No space left on" in capsys.readouterr().err
    assert not caches(tmp_path)
