"""What becomes of a launch where Ray starts late or not at all."""

import errno
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
import ray

from l2t_ray.errors import InputError
from l2t_ray.launch.cluster import connection


@pytest.fixture
def starts(monkeypatch):
    """Answers of Ray's start, an error each where it fails; Ray itself is not started."""
    answers, asked = [], []

    def init(**settings):
        asked.append(settings)
        if error := answers.pop(0):
            raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return answers, asked


def test_a_ray_that_a_busy_machine_does_not_start_is_tried_again(starts):
    answers, asked = starts
    answers += [Exception("The node with node ID abc was not found in time"), None]
    with connection.cluster(None, n_cores=1) as is_ours:
        assert is_ours
    assert [settings["address"] for settings in asked] == ["local", "local"]


def test_a_ray_that_never_starts_is_told_with_the_remedy(starts):
    answers, asked = starts
    answers += [Exception("not found in time")] * 9
    with pytest.raises(InputError, match="Ray must start on this machine, got not found in time"):
        connection.cluster(None, n_cores=1).__enter__()
    assert len(asked) == connection.START_TRIES


def test_a_cluster_that_is_not_there_is_asked_once(starts):
    answers, asked = starts
    answers += [ConnectionError("nobody")]
    with pytest.raises(InputError, match="must name a running Ray cluster, got '192"):
        connection.cluster("192.0.2.1:6379", n_cores=1).__enter__()
    assert len(asked) == 1


def test_a_file_that_workers_would_import_in_the_place_of_a_module_is_refused(starts, tmp_path, monkeypatch):
    (tmp_path / "yaml").mkdir()
    for name in ("random.py", "yaml/__init__.py", "test.py", "no_modules_name.py"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        connection.cluster(None, n_cores=1).__enter__()
    assert starts[1] == []
    assert [line.split(": ")[0] for line in caught.value.problems] == ["random.py", "yaml/__init__.py"]
    assert caught.value.problems[0].endswith("random.py; rename it")


def test_variables_that_tune_has_given_up_are_not_passed_on(monkeypatch):
    monkeypatch.setenv("TUNE_RESULT_DIR", "/results")
    monkeypatch.setenv("RAY_AIR_LOCAL_CACHE_DIR", "/cache")
    monkeypatch.setenv("RAY_CLIENT_MODE", "1")
    connection.prepare_environment()
    assert not {"TUNE_RESULT_DIR", "RAY_AIR_LOCAL_CACHE_DIR", "RAY_CLIENT_MODE"} & {*os.environ}


def test_a_machine_that_does_not_reach_itself_is_told_at_once(starts, monkeypatch):
    def closed(*_):
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", closed)
    with pytest.raises(InputError, match="must reach itself, got 'Network is unreachable'; ip link set lo up"):
        connection.cluster(None, n_cores=1).__enter__()
    assert starts[1] == []


@pytest.fixture
def session(monkeypatch):
    """The folder of Ray's session where these variables are set; None for Ray's own choice."""

    def ask(**variables):
        for name in ("RAY_TMPDIR", "TMPDIR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(tempfile, "tempdir", None)
        return connection.session_folder()

    return ask


def test_ray_keeps_its_own_folder_where_that_is_short_and_writable(session, tmp_path):
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        assert session(TMPDIR=place) is None
        (place / "ray").mkdir()
        assert session(TMPDIR="/nonexistent", RAY_TMPDIR=place) is None
    finally:
        shutil.rmtree(place)


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize("value", ["", "relative", "/nonexistent/tmp", "long"])
def test_ray_gets_a_short_private_folder_otherwise(session, tmp_path, name, value):
    long = tmp_path / ("x" * 60)
    long.mkdir()
    folder = session(**{name: long if value == "long" else value})
    assert len(f"{folder}/session_2026-11-26_18-41-54_744991_1234567/sockets/plasma_store") <= 107
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_ray_of_another_user_there_is_left_to_him(session, monkeypatch):
    monkeypatch.setattr(connection, "is_writable", lambda folder: folder.name != "ray")
    monkeypatch.setattr(Path, "exists", lambda path: True)
    assert session(TMPDIR="/tmp").name.startswith("l2t-")


@pytest.fixture
def token(monkeypatch, tmp_path):
    """A launch's token with this home folder: where Ray finds it."""

    def ask(home):
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            monkeypatch.setenv(name, "")
        connection.keep_token()
        return os.environ["RAY_AUTH_TOKEN_PATH"]

    return ask


def test_ray_keeps_its_token_in_the_home_folder(token, tmp_path):
    assert token(tmp_path) == ""
    assert [*(tmp_path / ".ray").iterdir()] == []  # Ray makes it
    (tmp_path / ".ray" / "auth_token").write_text("mine")
    assert token(tmp_path) == ""


@pytest.mark.parametrize("home", ["/proc/nonexistent", "~"])
def test_the_token_lies_in_a_private_folder_where_the_home_folder_takes_none(token, home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = Path(token(home))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert len(path.read_text()) == 64
    assert [*tmp_path.iterdir()] == []


def test_a_file_that_ray_cannot_write_is_named_as_such(starts):
    answers, _ = starts
    answers += [PermissionError(13, "Permission denied", "/there")] * connection.START_TRIES
    with pytest.raises(PermissionError):
        connection.cluster(None, n_cores=1).__enter__()
