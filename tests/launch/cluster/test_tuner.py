"""Launches on pretended cards and with faults put in: memory that is short, processes that hang, figures that stay."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from ray.tune.experiment.trial import Trial

from l2t_ray import sweep
from l2t_ray.errors import InputError
from l2t_ray.launch.cluster import callback
from l2t_ray.launch.cluster.callback import Watched
from l2t_ray.launch.placement.devices import accelerator, cluster_fleet, parse_fleet
from l2t_ray.ledger.ledger import Ledger
from tests.support.launches import OF_RAY, call
from tests.support.marks import LONG

pytestmark = [*OF_RAY, LONG]

FILE = """
sweep: tiny
methods: [mine.py]
run:
  data: {name: digits, samples_per_class: 4}
  target: {width: 0.125}
  training: {epochs: 3, batch_size: 16}
  record: {evaluations: 0}
grid:
  - {method: [METHOD], seed: {from: 0, to: 5}}
execution: {retries: 0, gpu_share: 0.25, pack: 2, checkpoint_s: 0}
"""
METHODS = """
import os, signal, time
from dataclasses import dataclass
from pathlib import Path
import torch
from l2t_ray.methods import Method
from l2t_ray.registry import register

def first(n):
    done = len(list(Path().glob("fault-*")))
    if done < n:
        Path(f"fault-{time.time_ns()}").touch()
    return done < n

@dataclass(frozen=True)
class Hungry(Method):
    def loss(self, extra, batch, options):
        if first(2):
            raise torch.OutOfMemoryError("CUDA out of memory, says the test")
        return 0 * batch.logits.sum()

@dataclass(frozen=True)
class Hanging(Method):
    def loss(self, extra, batch, options):
        if os.getpid() != TESTS and first(1):  # a launch tries a batch in its own process
            Path("hung").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        return 0 * batch.logits.sum()

register(Hungry("hungry", uses=frozenset({"transfer.beta"})))
register(Hanging("hanging", uses=frozenset({"transfer.beta"})))
"""


@pytest.fixture
def folder(tmp_path, template, monkeypatch):
    shutil.copy(template, tmp_path)
    (tmp_path / "mine.py").write_text(f"TESTS = {os.getpid()}{METHODS}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(folder, method, *arguments, n_runs=6):
    (folder / "tiny.yaml").write_text(FILE.replace("METHOD", method).replace("to: 5", f"to: {n_runs - 1}"))
    code, out, err = call(sweep.main, "tiny.yaml", "--json", *arguments)
    return code, json.loads(out), err


@pytest.mark.slow
def test_runs_that_run_out_of_memory_finish_with_more_of_it_and_the_plan_learns(folder, pretended_card):
    code, summary, err = command(folder, "hungry", n_runs=12)
    assert (code, summary["n_finished"]) == (0, 12), err
    learned = json.loads((folder / ".l2t/probe.json").read_bytes())
    assert [figure["most_pack"] for figure in learned.values()] == [1]
    entries = [entry for entry in Ledger("tiny", folder=folder).entries() if entry.kind == "run"]
    assert {entry.tags["processes"] for entry in entries} <= {"4", "2", "1"}
    (manifest,) = [entry for entry in Ledger("tiny", folder=folder).entries() if entry.kind == "manifest"]
    (file,) = (folder / "mlartifacts/tiny" / manifest.run_id / "artifacts/launches").iterdir()
    kept = json.loads(file.read_bytes())
    assert (kept["n_runs"], kept["n_left"], kept["predicted_wall_s"]) == (12, 0, None)
    assert kept["spent_s"] == summary["launch"]["spent_s"] > 0
    assert 0 <= kept["usage"]["devices"]["cpu"]["mean_percent"] <= 100

    _, plan, _ = command(folder, "hungry", "--set", "training.lr=0.2", "--plan", n_runs=12)
    assert plan["bases"] == {"ledger": 12}  # of equal shape
    _, summary, err = command(folder, "hungry", "--set", "training.lr=0.2", n_runs=12)
    assert "predicted " in err
    assert summary["launch"]["predicted_s"] > 0


@pytest.mark.slow
def test_a_process_that_hangs_is_ended_and_its_runs_are_tried_again(folder, pretended_card, monkeypatch):
    """The limit is over once the process has stopped itself; that it follows an epoch's time is tested below."""

    def has_stopped():
        hung = folder / "hung"
        pid = int(hung.read_text() or 0) if hung.exists() else 0
        return bool(pid) and psutil.pid_exists(pid) and psutil.Process(pid).status() == psutil.STATUS_STOPPED

    monkeypatch.setattr(Watched, "limit_s", lambda self, expected_s, hang_s: -1.0 if has_stopped() else math.inf)
    code, summary, err = command(folder, "hanging", n_runs=2)  # of one pack: the trial that is ended is the one
    assert (code, summary["n_finished"]) == (0, 2), err
    assert (folder / "hung").exists()


def test_the_limit_of_an_epoch_follows_what_it_should_take_or_has_taken():
    watched = Watched(None, since=0.0)
    assert watched.limit_s(None, 300.0) == 300.0 + callback.BLIND_S  # nothing tells
    assert watched.limit_s(10.0, 300.0) == 300.0 + callback.PATIENCE * 10
    watched.saw(0, 50.0)
    watched.saw(1, 170.0)
    watched.saw(1, 180.0)  # the same epoch still
    assert (watched.since, watched.limit_s(10.0, 60.0)) == (170.0, 60.0 + callback.PATIENCE * 120)


def node(address, *, alive=True, **resources):
    return {"Alive": alive, "NodeManagerAddress": address, "Resources": {"CPU": 8.0, **resources}}


def test_a_cluster_of_unlike_cards_has_a_group_for_each_kind():
    nodes = [
        node("a", GPU=8.0, **{"accelerator_type:H200": 1.0}),
        node("b", GPU=1.0, **{"accelerator_type:RTX": 1.0}),
        node("c"),
        node("d", alive=False, GPU=4.0),
    ]
    big, small = cluster_fleet(nodes, {"a": ("NVIDIA H200", 141), "b": ("RTX 4090", 24)})
    assert (big.device, big.n_devices, big.memory_bytes, big.cores) == ("NVIDIA H200", 8, 141, 1.0)
    assert (small.device, small.n_devices, small.memory_bytes, small.cores) == ("RTX 4090", 1, 24, 8.0)
    assert big.marks == (("accelerator_type:H200", 0.001),)
    (machines,) = cluster_fleet([node("a"), node("b")], {"a": ("cpu", 16), "b": ("cpu", 8)})
    assert (machines.n_devices, machines.cores, machines.memory_bytes, machines.is_gpu) == (2, 8.0, 8, False)
    (alike,) = cluster_fleet([nodes[0]], {})
    assert alike.marks == ()
    assert accelerator({"GPU": 1.0}) == ""


def test_a_fleet_in_words_is_read_or_refused_with_the_remedy():
    h200, cpu = parse_fleet("h200:8, CPU:64")
    assert (h200.device, h200.n_devices, h200.is_gpu) == ("NVIDIA H200", 8, True)
    assert (cpu.cores, cpu.is_gpu) == (64.0, False)


@pytest.mark.parametrize("text", ["", "h200", "h200:0", "b200:-1", "abacus:3", "h200:8;cpu:4"])
def test_no_fleet_is_an_error_of_usage(text):
    with pytest.raises(InputError, match="--fleet must be KIND:NUMBER"):
        parse_fleet(text)


def test_a_plan_on_a_named_fleet_says_that_it_is_estimated(folder):
    code, plan, _ = command(folder, "scratch", "--plan", "--fleet", "h200:8", "--price-per-hour", "30")
    assert code == 0
    assert plan["bases"] == {"estimate": 6}
    assert plan["fleet"] == "8 x NVIDIA H200"
    assert plan["price"] == pytest.approx(plan["wall_s"] / 120)
    assert plan["device_hours"] == pytest.approx(8 * plan["wall_s"] / 3600)
    assert not (folder / ".l2t").exists()


def test_a_plan_of_a_hundred_thousand_runs_needs_no_ray(folder, tmp_path):
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "ray.py").write_text("raise RuntimeError('a plan must not import ray')")
    text = FILE.replace("METHOD", "scratch").replace("{from: 0, to: 5}", "{from: 0, to: 99999}")
    (folder / "tiny.yaml").write_text(text)
    root = Path(sweep.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "l2t_ray.sweep", "tiny.yaml", "--plan", "--json", "--fleet", "h200:8,rtx4090:2"],
        cwd=folder, env={**os.environ, "PYTHONPATH": f"{absent}{os.pathsep}{root}"},
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["cells"][0]["n_to_train"] == 100_000
    assert [lane["device"] for lane in plan["cells"][0]["lanes"]] == ["NVIDIA H200", "NVIDIA GeForce RTX 4090"]


def test_of_a_trial_that_has_ended_tune_keeps_no_settings():
    """Tune keeps every trial for ever; by this a sweep's memory grows the less."""
    pack = "a pack of many settings"
    trial = Trial(
        "x", stub=True, config={"pack": pack}, evaluated_params={"pack": pack}, experiment_tag=f"1_pack={pack}"
    )
    trial.update_last_result({"config": {"pack": pack}, "loss": 1.0, "training_iteration": 1, "time_total_s": 1.0})

    def kept():
        return repr([vars(trial), vars(trial.run_metadata)])

    assert kept().count(pack) >= 4
    assert "'loss': {" in kept()
    callback._forget(trial)
    assert pack not in kept()
    assert "'loss': {" not in kept()
    assert trial.last_result["loss"] == 1.0
