"""A command as trainer: its words, its files, its results, and its end."""

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from l2t_ray.launch.worker.job import encode
from l2t_ray.launch.worker.train import StoppedError, describe
from l2t_ray.trainer.command import CommandError
from l2t_ray.trainer.outcome import ResultError
from tests.support.own_runs import of_sweep, train
from tests.support.places import ROOT


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


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
