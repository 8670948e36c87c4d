"""Several launches that lack one source network: one trains it, the others wait; and disks that are full."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import yaml

from l2t_ray import sweep
from l2t_ray.config import Execution
from l2t_ray.errors import disk_problem
from l2t_ray.launch.cluster.sources import SourceTrainer, kept, train_sources
from l2t_ray.launch.worker.source import pretrain as train
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.sweepfile.source_file import read_pretraining
from tests.support.launches import OF_RAY
from tests.support.marks import LONG
from tests.support.small_source import SOURCE, TAUGHT
from tests.support.waiting import wait_for

pytestmark = OF_RAY

SWEEP = {**TAUGHT, "grid": [{"method": "ufm", "seed": 0}], "execution": {}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(yaml.safe_dump(SOURCE))
    Path("taught.yaml").write_text(yaml.safe_dump(SWEEP))
    return tmp_path


HOLD = """
import sys
from pathlib import Path
from l2t_ray.files import Lock
with Lock(Path("weights/.small.lock")):
    print("held", flush=True)
    sys.stdin.readline()
    for name in ("small.json", "small.pt"):
        Path("kept", name).rename(Path("weights", name))
"""


@pytest.fixture
def other_launch(folder):
    """A process that trains weights/small.pt, as far as one can see; a line to its stdin makes them be there."""
    train(read_pretraining(Path("small.yaml")), Path("data"))
    Path("kept").mkdir()
    for name in ("small.json", "small.pt"):
        Path("weights", name).rename(Path("kept", name))
    environment = {**os.environ, "PYTHONPATH": str(Path(sweep.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_two_launches_that_lack_one_source_train_it_once(folder, other_launch, monkeypatch):
    monkeypatch.setattr("l2t_ray.launch.worker.source.train_source", None)
    text = read_pretraining(Path("small.yaml")).model_dump_json()
    trainer = SourceTrainer(text, None, str(folder), "data", torch.get_num_threads(), download=False)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(trainer.train)
        wait_for(lambda: trainer.said(0))
        assert trainer.said(0)[0].startswith(f"weights/small.pt is being trained by pid {other_launch.pid} on")
        other_launch.communicate(b"\n")
        assert answer.result()["is_new"] is False
    assert answer.result()["weights"] == Path("weights/small.pt").read_bytes()


def test_other_settings_than_the_other_launchs_are_told_once_it_has_ended(folder, other_launch):
    Path("small.yaml").write_text(yaml.safe_dump({**SOURCE, "seed": 1}))
    text = read_pretraining(Path("small.yaml")).model_dump_json()
    trainer = SourceTrainer(text, None, str(folder), "data", torch.get_num_threads(), download=False)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(trainer.train)
        wait_for(lambda: trainer.said(0))
        other_launch.communicate(b"\n")
        (problem,) = answer.result()["problems"]
    assert "weights/small.pt: holds weights of other settings: seed is 0, not 1" in problem


def test_a_source_that_another_launch_has_trained_has_one_entry(folder, template, ray_cluster):
    shutil.copy(template, folder)
    train(read_pretraining(Path("small.yaml")), Path("data"))
    told, ledger = [], Ledger("taught")
    train_sources({"weights/small.pt": Path("small.yaml")}, Execution(), ledger, told.append)
    assert told[-1].startswith("weights/small.pt: ")
    assert "% of 180 test images" in told[-1]
    assert ledger.entries() == []


def test_a_full_disk_ends_the_launch_with_its_remedy(folder, monkeypatch):
    """What the task answers, and what the driver makes of it."""

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "weights/small.pt")

    monkeypatch.setattr("l2t_ray.launch.worker.source.train_source", fail)
    text = read_pretraining(Path("small.yaml")).model_dump_json()
    answer = SourceTrainer(text, None, str(folder), "data", torch.get_num_threads(), download=False).train()
    assert disk_problem(OSError(*answer["disk"])).startswith("weights/small.pt: the disk must have room")


def test_what_was_there_first_stays_where_machines_share_no_disk(folder):
    settings = read_pretraining(Path("small.yaml"))
    card, _ = train(settings, Path("data"))
    content = Path("weights/small.pt").read_bytes()
    answer = {"card": {**card, "weights_sha256": "0" * 64}, "weights": b"trained elsewhere"}
    assert kept(Path(settings.out), settings, answer)["weights_sha256"] == card["weights_sha256"]
    assert Path("weights/small.pt").read_bytes() == content
    for name in ("small.pt", "small.json"):
        Path("weights", name).unlink()
    assert kept(Path(settings.out), settings, {"card": card, "weights": content}) == card
    train(settings, Path("data"), say=lambda line: None)  # finds them as its own
    assert Path("weights/small.pt").read_bytes() == content


@pytest.mark.slow
@LONG
def test_ctrl_c_ends_a_launch_that_waits_for_anothers_source(folder, template, other_launch):
    shutil.copy(template, folder)
    environment = {**os.environ, "PYTHONPATH": str(Path(sweep.__file__).parents[1])}
    with Path("err.txt").open("w", encoding="utf-8") as err:
        command = [sys.executable, "-m", "l2t_ray.sweep", "taught.yaml", "--no-probe"]
        launch = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=err, env=environment)
    try:
        waits = f"is being trained by pid {other_launch.pid}"
        wait_for(lambda: waits in Path("err.txt").read_text(), process=launch, told=Path("err.txt").read_text)
        launch.send_signal(signal.SIGINT)
        assert launch.wait(240) == 1
    finally:
        launch.kill()
        launch.wait()
    assert "interrupted; launch again to go on" in Path("err.txt").read_text()
    assert not Path("weights/small.pt").exists()
