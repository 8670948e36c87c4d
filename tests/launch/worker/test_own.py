"""A run of a trainer of one's own: its results or a clear error, resumed from a checkpoint, its neighbours kept."""

import base64
import json
import logging
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from l2t_ray.errors import InputError
from l2t_ray.launch.worker.train import StoppedError, describe, trace
from l2t_ray.trainer.outcome import ResultError
from tests.support.own_runs import of_sweep, prepared, train
from tests.support.places import ROOT


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_run_gets_its_settings_its_seed_and_its_place():
    work, runs = prepared("""
context.log(1, loss=0.5)
context.log(2, loss=0.25, other=1)
(context.folder / "scratch").write_text("x")
return {"error": seed + settings["n"], "threads": context.threads, "cpu": context.device == "cpu"} | {"cpu": 1.0}
""")
    found, seen = train(replace(work, device="cpu"), runs)
    assert [outcome["metrics"]["error"] for outcome in found] == [[(2, 3.0)], [(2, 4.0)], [(2, 5.0)]]
    assert found[0]["metrics"]["loss"] == [(1, 0.5), (2, 0.25)]
    assert {outcome["status"] for outcome in found} == {"finished"}
    assert seen[:3] == [(0, 0), (1, 0), (2, 0)]
    assert found[0]["peak_bytes"] > 0


def test_an_epoch_may_be_numpys_and_as_large_as_the_ledger_holds():
    work, runs = prepared(
        "import numpy\nfor epoch in (*numpy.arange(1, 3), 2**63 - 1): context.log(epoch, a=1)\nreturn {'error': 1}"
    )
    (found,), _ = train(work, runs[:1])
    assert [epoch for epoch, _ in found["metrics"]["a"]] == [1, 2, 2**63 - 1]
    json.dumps(found)


def test_a_setting_called_epochs_tells_the_progress():
    work, runs = prepared("context.log(1)\nreturn {'error': 1.0}", "{epochs: 4}")
    assert train(work, runs[:1])[1] == [(0, 4), (1, 4)]


@pytest.mark.parametrize(
    ("body", "kind", "told"),
    [
        ("return", ResultError, "mine: the results must be a map of names to numbers, got None"),
        ("return 'good'", ResultError, "must be a map of names to numbers, got 'good'"),
        ("return {'accuracy': 1.0}", ResultError, "must have 'error', which counts, got accuracy"),
        ("raise ValueError('boom')", ValueError, "ValueError: boom (mine.py:4 in train)"),
        (r"raise ValueError('caf\udce9.png')", ValueError, r"ValueError: caf\udce9.png (mine.py:4 in train)"),
        ("raise asyncio.CancelledError", ResultError, "mine: must return its results, got CancelledError"),
        ("raise SystemExit(3)", ResultError, "mine: must return its results, got sys.exit(3)"),
        ("context.log('one')", ResultError, "context.log: epoch must be a whole number >= 0 and below 2 ** 63, got"),
        ("context.log(2**63)", ResultError, "must be a whole number >= 0 and below 2 ** 63, got 9223372036854775808"),
        ("context.log(1.0)", ResultError, "must be a whole number >= 0 and below 2 ** 63, got 1.0"),
        ("context.log(1, loss='low')", ResultError, "context.log: loss must be a number, got 'low'"),
        ("context.checkpoint({'a': 1})", ResultError, "context.checkpoint: the state must be bytes, got dict"),
        ("bytearray(1 << 45)", MemoryError, "MemoryError"),
    ],
)
def test_what_goes_wrong_is_one_clear_line(body, kind, told):
    work, runs = prepared(body)
    with pytest.raises(kind) as error:
        train(work, runs[:1])
    assert told in describe(error.value)


def test_a_metric_that_is_nan_has_diverged_and_its_neighbours_have_not():
    work, runs = prepared("return {'error': float('nan') if seed == 1 else 1.0}")
    found, _ = train(work, runs)
    assert [(outcome["status"], outcome["reason"]) for outcome in found] == [
        ("finished", ""), ("diverged", "error is nan"), ("finished", ""),
    ]  # fmt: skip


def test_what_a_trainer_prints_is_kept_and_stands_below_its_error():
    work, runs = prepared("print('hello from', seed)\nif seed: raise ValueError('boom')\nreturn {'error': 1.0}")
    (first,), _ = train(work, runs[:1])
    assert base64.b64decode(first["artifacts"]["output.txt"]) == b"hello from 0\n"
    with pytest.raises(ValueError, match="boom") as error:
        train(work, runs[1:2])
    assert "What it has printed:\nhello from 1\n" in trace(error.value)
    assert describe(error.value).startswith("ValueError: boom (mine.py:")


@pytest.mark.parametrize("place", ["above", "within"])
def test_each_run_keeps_what_it_logs_once(place):
    setup = """
logging.basicConfig(level=logging.INFO, format="%(message)s")
logging.getLogger("mine").addHandler(logging.StreamHandler())
"""
    above, within = (setup, "") if place == "above" else ("", setup.replace("\n", "\n    "))
    tail = "    logging.getLogger('mine').info('seed %d', seed)\n    return {'error': 1}\n"
    Path("mine.py").write_text(f"import logging\n{above}\ndef train(settings, seed, context):\n{within}\n{tail}")
    before = [*logging.root.handlers], logging.root.level
    logging.root.handlers.clear()  # pytest's; basicConfig would do nothing
    try:
        found, _ = train(*of_sweep("mine.py"))
        assert not logging.root.handlers
    finally:
        logging.root.handlers[:] = before[0]
    outputs = [base64.b64decode(outcome["artifacts"]["output.txt"]).decode() for outcome in found]
    assert outputs == [f"seed {seed}\n" * 2 for seed in range(3)]
    assert logging.root.level == before[1]


def test_a_trainer_that_moves_away_forks_and_draws_leaves_the_next_run_as_it_was(tmp_path):
    work, runs = prepared("""
assert os.path.exists("mine.yaml")
draw = random.random()
os.chdir("/")
if os.fork() == 0:
    return {"error": -1.0}
return {"error": draw}
""")
    before = {*psutil.Process().children()}
    found, _ = train(work, runs)
    assert Path.cwd() == tmp_path
    draws = []
    for seed in range(3):
        random.seed(seed)
        draws.append(random.random())
    assert [outcome["metrics"]["error"][0][1] for outcome in found] == draws
    for child in {*psutil.Process().children()} - before:
        child.wait(10)  # the forks have ended, and trained nothing more


def test_a_trainers_modules_and_environment_are_as_new_for_each_run():
    Path("helper.py").write_text("CALLS = []\n")
    work, runs = prepared("""
import helper
helper.CALLS.append(seed)
STATE.append(seed)
found = {"error": len(helper.CALLS), "here": len(STATE), "set": float("LEFT" in os.environ)}
os.environ["LEFT"] = "1"
return found
""")
    Path("mine.py").write_text("STATE = []\n" + Path("mine.py").read_text())
    work, runs = of_sweep("mine.py")
    found, _ = train(work, runs)
    results = [{name: points[0][1] for name, points in outcome["metrics"].items()} for outcome in found]
    assert results == [{"error": 1.0, "here": 1.0, "set": 0.0}] * 3
    assert "LEFT" not in os.environ


def test_a_trainer_may_use_the_stream_that_it_prints_to():
    work, runs = prepared("""
import faulthandler, logging, subprocess, sys
sys.stdout.reconfigure(line_buffering=True)
sys.stdout.buffer.write("bytes ✓ ".encode())
sys.stdout.buffer.flush()
sys.stderr.write(f"{sys.stdout.encoding} {sys.stdout.isatty()}\\n")
faulthandler.enable()
faulthandler.disable()
subprocess.run(["true"], stdout=sys.stdout, check=True)
return {"error": float(sys.stdout.fileno() >= 0)}
""")
    (found,), _ = train(work, runs[:1])
    assert base64.b64decode(found["artifacts"]["output.txt"]).decode() == "bytes ✓ utf-8 False\n"


def test_a_run_goes_on_from_its_checkpoint_with_what_it_had_logged():
    work, runs = prepared("""
state = context.restore()
begun = int(state or b"0")
for epoch in range(begun + 1, 6):
    context.log(epoch, loss=1.0 / epoch, begun=begun)
    context.checkpoint(lambda: str(epoch).encode())
return {"error": begun}
""")
    stopping = []

    def stop():
        stopping.append(1)
        return len(stopping) > 4

    with pytest.raises(StoppedError):
        train(work, runs[:1], stop)
    (found,), seen = train(work, runs[:1])
    begun = found["metrics"]["error"][-1][1]
    assert 0 < begun < 5
    assert found["metrics"]["loss"] == [(epoch, 1.0 / epoch) for epoch in range(1, 6)]
    assert [value for _, value in found["metrics"]["begun"]] == [0.0] * int(begun) + [begun] * (5 - int(begun))
    assert seen[0][0] == 0
    assert seen[1][0] == begun


def test_a_damaged_checkpoint_costs_time_and_no_result():
    work, runs = prepared("context.checkpoint(b'state')\nreturn {'error': len(context.restore() or b'')}")
    train(work, runs[:1])
    path = work.checkpoint(runs[0].key)
    path.write_bytes(path.read_bytes()[:-2])
    (found,), _ = train(work, runs[:1])
    assert found["metrics"]["error"] == [(1, 5.0)]  # of the checkpoint that it wrote itself


def test_a_checkpoint_is_not_asked_for_before_it_is_due():
    work, runs = prepared("return {'error': context.checkpoint(lambda: 1 / 0)}".replace("context", "0.0 + context"))
    (found,), _ = train(replace(work, checkpoint_s=1000.0), runs[:1])
    assert found["metrics"]["error"] == [(1, 0.0)]


def test_a_run_that_adds_a_folder_of_modules_leaves_the_next_run_its_own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    for seed in range(3):
        (folder / f"v{seed}").mkdir()
        (folder / f"v{seed}" / "version_of.py").write_text(f"N = {seed}\n")
    lines = f"import sys\nsys.path[:0] = ['', '/', '{folder}/v' + str(seed)]\nimport version_of\n"
    work, runs = prepared(lines + "return {'error': version_of.N}")
    before = [*sys.path]
    found, _ = train(work, runs)
    assert [outcome["metrics"]["error"] for outcome in found] == [[(1, float(seed))] for seed in range(3)]
    assert sys.path == before
    assert sys.modules["json"] is json


PARTS = {
    "a new process": "import multiprocessing\n"
    "from concurrent.futures import ProcessPoolExecutor\n"
    "def double(n): return 2 * n\n"
    "def train(settings, seed, context):\n"
    "    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:\n"
    "        return {'error': pool.submit(double, seed).result()}\n",
    "joblib": "import joblib\n"
    "def double(n): return 2 * n\n"
    "def train(settings, seed, context):\n"
    "    return {'error': joblib.Parallel(n_jobs=2)([joblib.delayed(double)(seed)])[0]}\n",
    "modules that import each other": "import beside\n"
    "def double(n): return 2 * n\n"
    "def train(settings, seed, context): return {'error': beside.double(seed)}\n",
}


@pytest.mark.parametrize("text", PARTS.values(), ids=PARTS)
def test_what_a_trainers_file_defines_is_found_by_the_processes_that_it_starts(text, monkeypatch):
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # of another test's folder
    Path("beside.py").write_text("from mine import double\n")
    Path("mine.py").write_text(text)
    work, runs = of_sweep("mine.py")
    (found,), _ = train(work, runs[1:2])
    assert found["metrics"]["error"] == [(1, 2.0)]


def test_a_trainer_that_was_edited_under_way_is_refused():
    work, runs = prepared("return {'error': 1.0}")
    Path("mine.py").write_text("def train(settings, seed, context): return {'error': 2.0}\n")
    with pytest.raises(InputError, match="must be the file that the launch has read"):
        train(work, runs[:1])


def test_neither_driver_nor_worker_needs_torch():
    prepared("return {'error': 1.0}")
    code = (
        "import sys; from pathlib import Path\n"
        "from l2t_ray import offline\n"
        "offline.main(['mine.yaml'])\n"
        "import l2t_ray.launch.cluster.trainable, l2t_ray.launch.worker.own_probe\n"
        "print(sorted({'torch', 'mlflow'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"
    assert len([*Path(".l2t/mine/spool").glob("*.json")]) == 3
