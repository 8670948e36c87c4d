"""Starting and stopping NVIDIA's service, with a stand-in for its control program; its use needs a card."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from l2t_ray.errors import InputError
from l2t_ray.launch.cluster import connection, nodes
from l2t_ray.launch.worker import mps
from tests.support.marks import LONG
from tests.support.waiting import wait_for

FOLDER = mps.folder_of(f"test-{os.getpid()}")
STAND_IN = """#!/bin/sh
if [ "$1" = "-d" ]; then
    [ -n "$REFUSE" ] && { echo "no such device" >&2; exit 1; }
    echo "start $CUDA_MPS_PIPE_DIRECTORY" >> "$CALLS"
else
    read command
    echo "$command $CUDA_MPS_PIPE_DIRECTORY" >> "$CALLS"
fi
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """A stand-in on the PATH, and what it was asked to do."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    control = folder / mps.CONTROL
    control.write_text(STAND_IN)
    control.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv(mps.PIPE, raising=False)

    def read():
        file = tmp_path / "calls"
        return [line.split(" ", 1) for line in file.read_text().splitlines()] if file.exists() else []

    return read


@pytest.mark.parametrize("wish", ["auto", "on"])
def test_it_runs_in_its_own_folder_while_the_launch_lasts_and_leaves_nothing(calls, wish):
    with mps.service(wish, n_gpus=1, folder=FOLDER) as environment:
        pipe = environment[mps.PIPE]
        assert Path(pipe).is_dir()
        assert Path(environment[mps.LOG]).is_dir()
        assert len(pipe) < 80
        assert calls() == [["start", pipe]]
    assert calls() == [["start", pipe], ["quit", pipe]]
    assert not Path(pipe).parent.exists()


def test_it_ends_with_a_launch_that_raises(calls):
    with pytest.raises(KeyboardInterrupt), mps.service("auto", n_gpus=1, folder=FOLDER):
        raise KeyboardInterrupt
    assert [call[0] for call in calls()] == ["start", "quit"]


def test_it_ends_with_a_launch_that_is_killed(calls):
    folder = mps.folder_of(f"killed-{os.getpid()}")
    block = f"with mps.service('on', n_gpus=1, folder={folder!r}):\n  print(flush=True)\n  sys.stdin.read()"
    code = f"import sys\nfrom pathlib import PosixPath\nfrom l2t_ray.launch.worker import mps\n{block}"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    wait_for(lambda: not folder.exists())
    assert calls() == [["start", str(folder / "pipe")], ["quit", str(folder / "pipe")]]


@pytest.mark.parametrize(("wish", "n_gpus"), [("off", 1), ("auto", 0)])
def test_it_does_not_start_unasked_or_without_a_card(calls, wish, n_gpus):
    with mps.service(wish, n_gpus=n_gpus, folder=FOLDER) as environment:
        assert environment == {}
    assert calls() == []


def test_a_service_that_runs_already_is_left_alone(calls, monkeypatch):
    monkeypatch.setenv(mps.PIPE, "/somewhere")
    with mps.service("auto", n_gpus=1, folder=FOLDER) as environment:
        assert environment == {}
    assert calls() == []


def test_a_service_that_does_not_start_is_done_without_unless_it_must_be_on(calls, monkeypatch, caplog):
    monkeypatch.setenv("REFUSE", "1")
    with mps.service("auto", n_gpus=1, folder=FOLDER) as environment:
        assert environment == {}
    assert "no such device" in caplog.text
    with pytest.raises(InputError, match=r"execution\.mps: the service must start, got 'no such device'"):
        mps.service("on", n_gpus=1, folder=FOLDER).__enter__()


def test_where_it_must_be_on_it_must_be_there(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(mps.PIPE, raising=False)
    with pytest.raises(InputError, match=f"no {mps.CONTROL} on the PATH, got on"):
        mps.service("on", n_gpus=1, folder=FOLDER).__enter__()
    with pytest.raises(InputError, match="where there is no card, got on"):
        mps.service("on", n_gpus=0, folder=FOLDER).__enter__()


def test_it_is_expected_where_its_program_is_and_nobody_forbids_it(calls, monkeypatch, tmp_path):
    assert [mps.is_expected(wish) for wish in ("auto", "on", "off")] == [True, True, False]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not mps.is_expected("auto")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@LONG
def test_every_node_with_a_card_keeps_one_and_workers_join_it(calls, no_ray):
    import ray

    connection.prepare_environment()  # its workers need the stand-in on their PATH: not the Ray of other tests
    ray.init(address="local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False)
    name = f"nodes-{os.getpid()}"

    def joined():
        mps.join(name)
        return os.environ[mps.PIPE]

    try:
        with nodes.on_every_node("auto", name) as served:
            assert served is True
            assert calls() == [["start", str(mps.folder_of(name) / "pipe")]]
            environment = ray.get(ray.remote(joined).remote())
            assert environment == str(mps.folder_of(name) / "pipe")
        assert calls()[1:] == [["quit", str(mps.folder_of(name) / "pipe")]]
        assert not mps.folder_of(name).exists()
    finally:
        ray.shutdown()
