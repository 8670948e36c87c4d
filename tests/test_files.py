"""One launch at a time."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from l2t_ray.errors import InputError
from l2t_ray.files import Lock, alone, write_atomic

HOLD = """
import sys
from pathlib import Path
from l2t_ray.files import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def spawn(code, path):
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def holder(tmp_path):
    path = tmp_path / "it's a sweep" / "lock"
    process = spawn(HOLD, path)
    assert process.stdout.readline() == "held\n"
    yield path, process
    process.kill()
    process.communicate()


def test_a_second_holder_is_refused_and_told_who_the_first_is(holder):
    path, process = holder
    with pytest.raises(InputError, match=f"by pid {process.pid} on .* since 2.* [+-][0-9]{{4}};"), Lock(path):
        pass
    assert Lock(path).holder().startswith(f"pid {process.pid} ")


def test_sigkill_releases_the_lock(holder):
    path, process = holder
    process.kill()
    process.wait()
    assert Lock(path).holder() is None
    with Lock(path):
        pass


def test_the_lock_is_free_again_after_the_block(tmp_path):
    lock = Lock(tmp_path / "lock")
    for _ in range(2):
        with lock:
            assert lock.holder().startswith("pid ")
        assert lock.holder() is None


def test_a_look_at_the_lock_does_not_refuse_a_launch(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    code = (
        "import sys; from pathlib import Path; from l2t_ray.files import Lock\n"
        "print('go', flush=True)\n"
        "while True: Lock(Path(sys.argv[1])).holder()"
    )
    looking = spawn(code, path)
    try:
        assert looking.stdout.readline() == "go\n"
        for _ in range(200):
            with Lock(path):
                pass
    finally:
        looking.kill()
        looking.communicate()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be writable"), Lock(tmp_path / "file" / "sweep" / "lock"):
        pass


def test_who_waits_is_told_of_the_holder_once_and_takes_the_lock_when_it_ends(holder):
    path, process = holder
    told = []

    def end(name):
        told.append(name)
        process.kill()

    with Lock(path, on_wait=end):
        assert told[0].startswith(f"pid {process.pid} ")
        assert len(told) == 1


def test_ctrl_c_ends_the_waiting(holder):
    path, _ = holder

    def interrupt(name):
        raise KeyboardInterrupt

    def n_open():
        return sum(entry.resolve() == path.resolve() for entry in Path("/proc/self/fd").iterdir())

    assert n_open() == 0
    with pytest.raises(KeyboardInterrupt), Lock(path, on_wait=interrupt):
        pass
    assert n_open() == 0


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def fail(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", fail)
    with pytest.raises(InputError, match="must be where files can be locked"), Lock(tmp_path / "lock"):
        pass


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_have_the_permissions_that_the_umask_gives(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "a" / "file", b"old")
        write_atomic(tmp_path / "a" / "file", b"new")
        with Lock(tmp_path / "a" / "lock"), alone(tmp_path / "a" / "cache"):
            pass
    finally:
        os.umask(before)
    found = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a").iterdir()}
    assert found == {"file": mode, "lock": mode, "cache.lock": mode}
    assert (tmp_path / "a" / "file").read_bytes() == b"new"


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space") as told:
        write_atomic(tmp_path / "file", b"new")
    assert told.value.filename == str(tmp_path / "file")
    assert [*tmp_path.iterdir()] == []
