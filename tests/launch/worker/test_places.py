"""Folders for what lives no longer than a process, on machines with long, closed or missing ones."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from l2t_ray.errors import InputError
from l2t_ray.launch.worker import files, mps, places, preemption
from tests.support.places import ROOT


def test_a_folder_that_is_short_and_writable_is_taken(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert places.temporary() == tmp_path


@pytest.mark.parametrize("value", ["", "relative", "/nonexistent/tmp", "/proc"])
def test_one_that_cannot_be_used_is_replaced(monkeypatch, value):
    monkeypatch.setenv("TMPDIR", value)
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != Path("/proc"))
    assert places.temporary() == Path("/tmp")


def test_the_name_of_a_socket_fits(monkeypatch, tmp_path):
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    folder = mps.folder_of("1234567-1764182323000000000")
    assert folder.parent == Path("/tmp")
    path = folder / "pipe" / "control_privileged"
    path.parent.mkdir(parents=True)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    finally:
        path.unlink()
        path.parent.rmdir()
        folder.rmdir()


def test_where_there_is_none_the_variable_is_named(monkeypatch):
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    with pytest.raises(InputError, match=r"RAY_TMPDIR must name a folder .* at most 39 characters, got none in .*/tmp"):
        places.temporary(("RAY_TMPDIR", "TMPDIR"), 68)
    mps.join("launch")  # trains without the service


def test_a_private_folder_is_closed_to_others_and_goes_with_its_process(tmp_path):
    code = "import os, sys; from pathlib import Path; from l2t_ray.launch.worker.places import private\n"
    code += "folder = private(Path(sys.argv[1])); (folder / 'a').mkdir(); os.fork() or os._exit(0); os.wait()\n"
    code += "assert folder == private(Path(sys.argv[1])); print(oct(folder.stat().st_mode & 0o777))"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0o700\n"
    assert [*tmp_path.iterdir()] == []


def test_a_home_that_nobody_knows_costs_the_cache_its_place_alone(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "~")  # as where HOME is not set and the user is in no list
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert files.store() == Path(f"/tmp/l2t_ray-{os.getuid()}")
    assert not preemption.Watch().is_urgent()
    assert [*tmp_path.iterdir()] == []


def test_a_closed_home_costs_the_cache_its_place_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert files.store() == tmp_path / "cache" / "l2t_ray"
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) == Path("/tmp"))
    assert files.store() == Path(f"/tmp/l2t_ray-{os.getuid()}")
