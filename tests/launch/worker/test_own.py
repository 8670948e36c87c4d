"""A run of a trainer of one's own: its results or a clear error, resumed from a checkpoint, its neighbours kept."""

import base64
import json
import logging
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from l2t_ray.errors import InputError
from l2t_ray.launch.options import Options, work_of
from l2t_ray.launch.worker.job import encode
from l2t_ray.launch.worker.train import StoppedError, describe, trace, train_pack
from l2t_ray.sweepfile.read import read_sweep
from l2t_ray.trainer.command import CommandError
from l2t_ray.trainer.outcome import ResultError
from tests.support.places import ROOT

SWEEP = """
sweep: mine
trainer: {trainer}
metric: {{name: error, lower_is_better: true, margin: 1}}
grid:
- settings: {settings}
  seed: {{from: 0, to: 2}}
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # a trainer's folder is added


def prepared(body, settings="{n: 3}"):
    """The work and the runs of a sweep whose function `train(settings, seed, context)` has this body."""
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    Path("mine.py").write_text(f"import asyncio, os, random, time\n\ndef train(settings, seed, context):\n{lines}")
    return of_sweep("mine.py", settings)


def of_sweep(trainer, settings="{n: 3}"):
    Path("mine.yaml").write_text(SWEEP.format(trainer=trainer, settings=settings))
    sweep = read_sweep(Path("mine.yaml"))
    return replace(work_of(sweep, Options()), mps="", checkpoint_s=0.0), [*sweep.runs.values()]


def train(work, runs, stop=lambda: False):
    seen = []
    return train_pack(work, encode(runs), lambda *done: seen.append(done), stop), seen


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


SCRIPT = """
import json, os, sys
print("told", sys.argv[1:])
{body}
"""


def command(body, settings='{n: "a b"}', words="{n} {seed} {threads}", result="results.json"):
    Path("script.py").write_text(SCRIPT.format(body=body))
    return of_sweep(f'{{command: "python script.py {words}", result: {result}}}', settings)


@pytest.mark.parametrize("place", ["..", "/tmp"])
def test_a_file_of_results_that_a_setting_moves_to_where_runs_share_it_is_refused(place):
    work, runs = command("", f'{{n: "{place}"}}', result='"{n}/results.json"')
    with pytest.raises(ResultError, match=r"/results\.json: the file of results must be in the folder of its run"):
        train(work, runs[:1])


def test_a_command_gets_its_words_and_its_numbers_are_the_results():
    work, runs = command(
        "json.dump({'error': float(sys.argv[2]), 'n': len(sys.argv[1]), 'name': 'x'}, open('results.json', 'w'))"
    )
    Path("results.json").write_text('{"error": 99}')  # of a run by hand, which no run may read or replace
    found, _ = train(work, runs)
    assert [outcome["metrics"] for outcome in found] == [
        {"error": [(1, float(seed))], "n": [(1, 3.0)]} for seed in range(3)
    ]
    assert base64.b64decode(found[1]["artifacts"]["output.txt"]) == b"told ['a b', '1', '1']\n"
    assert json.loads(Path("results.json").read_text()) == {"error": 99}
    assert sorted(path.name for path in Path().iterdir()) == ["mine.yaml", "results.json", "script.py"]


def test_a_command_replaces_files_of_its_own_and_reads_yours(monkeypatch):
    Path("out").mkdir()
    Path("data/deep").mkdir(parents=True)
    for name, content in {"best.json": "{}", "out/best.json": "{}", "data/deep/x.txt": "7"}.items():
        Path(name).write_text(content)
    Path("large.bin").write_bytes(bytes(2 << 20))
    work, runs = command("""
for name in ("best.json", "out/best.json", "new.json", "out/new.json"):
    json.dump({"error": int(sys.argv[2])}, open(name, "w"))
os.replace("out/new.json", "large.bin")
n = int(open("data/deep/x.txt").read()) + os.path.samefile("script.py", os.environ["MINE"])
json.dump({"error": json.load(open("out/best.json"))["error"], "n": n}, open("results.json", "w"))
""")
    monkeypatch.setenv("MINE", str(Path("script.py").resolve()))
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file() and ".l2t" not in path.parts}
    found, _ = train(work, runs)
    assert [outcome["metrics"] for outcome in found] == [
        {"error": [(1, float(seed))], "n": [(1, 8.0)]} for seed in range(3)
    ]
    assert before == {path: path.read_bytes() for path in before}
    assert not Path("new.json").exists()
    assert not Path("out/new.json").exists()


def test_a_command_that_changes_a_large_file_of_yours_is_refused():
    Path("out").mkdir()
    Path("out/best.pt").write_bytes(bytes(2 << 20))
    work, runs = command("open('out/best.pt', 'r+b').write(b'1'); json.dump({'error': 1}, open('results.json', 'w'))")
    with pytest.raises(ResultError, match=r"out/best\.pt: must not change while runs train.*write to a new name"):
        train(work, runs[:1])


def test_a_large_file_that_another_program_goes_on_writing_is_no_reason_to_refuse():
    Path("other.log").write_bytes(bytes(2 << 20))
    work, runs = command("open('other.log', 'ab').write(b'1'); json.dump({'error': 1}, open('results.json', 'w'))")
    assert train(work, runs[:1])[0][0]["status"] == "finished"


def test_folders_of_many_files_are_links(monkeypatch):
    monkeypatch.setattr("l2t_ray.trainer.folder.MOST_IN_A_FOLDER", 3)
    monkeypatch.setattr("l2t_ray.trainer.folder.MOST_ENTRIES", 8)
    for name in ("few/1", "few/2", "many/1", "many/2", "many/3", "many/4", "z/deep/deeper/1", "z/deep/2", "z/deep/3"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    work, runs = command(
        "links = [os.path.islink(name) for name in ('few', 'many', 'z', 'z/deep/deeper')]\n"
        "json.dump({'error': sum(2**i for i, link in enumerate(links) if link)}, open('results.json', 'w'))"
    )
    assert train(work, runs[:1])[0][0]["metrics"]["error"] == [(1, 2.0 + 8.0)]


def test_a_command_finds_its_script_in_a_folder_above(tmp_path, monkeypatch):
    work, runs = command("json.dump({'error': float(os.path.exists(sys.argv[3]))}, open('results.json', 'w'))")
    Path("inner").mkdir()
    monkeypatch.chdir("inner")
    work, runs = of_sweep('{command: "python ../script.py {n} {seed} ../mine.yaml", result: results.json}', "{n: 1}")
    assert [outcome["metrics"]["error"] for outcome in train(work, runs)[0]] == [[(1, 1.0)]] * 3


def test_a_commands_results_may_lie_in_a_folder_with_settings_in_its_name():
    body = "json.dump({'error': 1.0}, open(f'out/{sys.argv[2]}/r.json', 'w'))"
    work, runs = command(body, result='"out/{seed}/r.json"')
    assert train(work, runs[:1])[0][0]["status"] == "finished"


@pytest.mark.parametrize(
    ("body", "kind", "told"),
    [
        ("sys.exit('no luck')", CommandError, "the command ended with exit code 1: no luck"),
        ("1 / 0", CommandError, "the command ended with exit code 1: ZeroDivisionError: division by zero"),
        ("os.abort()", CommandError, "the command was ended by SIGABRT"),
        ("os.kill(os.getpid(), 9)", MemoryError, "was killed (SIGKILL), most likely because memory ran out"),
        ("pass", ResultError, "results.json: must be written by the command, in the folder where it runs, got nothing"),
        ("open('result.json', 'w')", ResultError, "got result.json; correct `result:`"),
        ("open('results.json', 'w').write('{')", ResultError, "results.json: must be a JSON file of names and numbers"),
        ("open('results.json', 'w').write('[1]')", ResultError, "must be a map of names to numbers, got [1]"),
        ("open('results.json', 'w').write('{\"a\": 1}')", ResultError, "must have 'error', which counts, got a"),
    ],
)
def test_what_goes_wrong_with_a_command_is_one_clear_line(body, kind, told):
    work, runs = command(body)
    with pytest.raises(kind) as error:
        train(work, runs[:1])
    assert told in describe(error.value)


SLEEP = "import subprocess, time; subprocess.Popen(['sleep', '987'], start_new_session={})\n"


@pytest.mark.parametrize("away", [False, True])
def test_what_a_command_leaves_behind_ends_with_it(away):
    work, runs = command(SLEEP.format(away) + "json.dump({'error': 1}, open('results.json', 'w'))")
    assert train(work, runs[:1])[0][0]["status"] == "finished"
    assert not sleepers()


@pytest.mark.parametrize("away", [False, True])
def test_a_command_that_is_stopped_ends_with_all_that_it_has_started(away):
    work, runs = command(SLEEP.format(away) + "time.sleep(987)")
    began = time.monotonic()
    with pytest.raises(StoppedError):
        train(work, runs[:1], lambda: time.monotonic() > began + 1)
    assert not sleepers()


@pytest.mark.parametrize("away", [False, True])
def test_a_command_ends_with_a_worker_that_is_killed(away):
    work, runs = command(SLEEP.format(away) + "time.sleep(987)")
    Path("work.json").write_text(work.to_json())
    Path("pack.json").write_text(encode(runs[:1]))
    code = (
        "from pathlib import Path\n"
        "from l2t_ray.launch.worker.job import Work\n"
        "from l2t_ray.launch.worker.train import train_pack\n"
        "work = Work.from_json(Path('work.json').read_text())\n"
        "train_pack(work, Path('pack.json').read_text(), lambda *_: None)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)})
    end = time.monotonic() + 60
    while not sleepers() and time.monotonic() < end:
        time.sleep(0.05)
    assert sleepers()
    worker.kill()
    worker.wait()
    while sleepers() and time.monotonic() < end:
        time.sleep(0.05)
    assert not sleepers()


def sleepers():
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["cmdline"] == ["sleep", "987"] and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found
