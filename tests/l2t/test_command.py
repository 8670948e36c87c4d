"""The command `l2t`: every subcommand's help, what `l2t` alone prints, and completion."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from l2t import command, doctor
from l2t_ray import __version__
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.spool import Ended
from l2t_ray.sweepfile.read import read_sweep
from tests.support.browser import CHROMIUM, DRIVER, chromium
from tests.support.launches import call
from tests.support.ledgers import Logged, fill
from tests.support.places import ROOT
from tests.support.ports import free_port
from tests.support.waiting import MOST_S, wait_for

COMMANDS = ["init", "quickstart", "check", "plan", "run", "status", "report", "import", "pretrain", "export", "ui",
            "doctor", "completion"]  # fmt: skip
MODULES = ["l2t_ray.sweep", "l2t_ray.pretrain", "l2t_ray.offline", "analysis.stats"]
SWEEP = """
sweep: small
grid:
- {data: {name: digits, samples_per_class: 1}, method: [scratch, ufm], seed: {from: 0, to: 1}}
"""


def run(*words, **environment):
    """A command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
             "COLUMNS": "80", **environment},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("words", [["l2t"], *(["l2t", name] for name in COMMANDS), *([name] for name in MODULES)])
def test_every_help_fits_a_terminal_and_has_an_example(words):
    done = run(*words, "--help")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert lines[-1].startswith("example: ")


def test_the_examples_are_commands_that_exist():
    for name in COMMANDS:
        example = run("l2t", name, "--help").stdout.splitlines()[-1].removeprefix("example: ")
        assert example.split()[:2] == ["l2t", name]


def test_the_help_lists_every_command():
    listed = re.findall(r"^  (\w+) +", run("l2t", "--help").stdout, re.MULTILINE)
    assert listed == COMMANDS


def test_the_version_is_the_packages():
    assert run("l2t", "--version").stdout == f"l2t-ray {__version__}\n"


def test_an_unknown_command_is_refused():
    for word, remedy in (("chek", "did you mean check?"), ("xyz", f"known are {', '.join(COMMANDS)}")):
        done = run("l2t", word)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1] == f"l2t: error: argument COMMAND: invalid choice: {word!r}; {remedy}"


@pytest.mark.parametrize("name", COMMANDS)
def test_an_empty_word_is_no_argument(name, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main([name, ""])
    assert caught.value.code == 2
    takes_none = name in {"quickstart", "doctor"}
    told = "unrecognized arguments" if takes_none else "must not be empty; is a variable of the shell not set?"
    assert told in capsys.readouterr().err


def test_an_empty_folder_is_told_where_to_begin(folder):
    assert "l2t quickstart" in call(command.main)[1]


def test_the_sweeps_at_hand_are_listed_with_their_state(database, folder):
    (folder / "small.yaml").write_text(SWEEP)
    (folder / "source.yaml").write_text("out: a.pt\n")  # no sweep
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "new.yaml").write_text(SWEEP.replace("small", "new"))
    runs = [Logged(method=method, seed=seed) for method in ("scratch", "ufm") for seed in (0, 1)]
    fill(database, "small", runs[:3], wanted=[*runs[3:]])
    fill(database, "old", [Logged(method="ufm", seed=9)], wanted=[])
    code, out, _ = call(command.main)
    rows = {line.split()[0]: " ".join(line.split()) for line in out.splitlines() if line.strip()}
    assert code == 0
    assert rows["small"] == "small small.yaml 3/4 launch again to go on"
    assert rows["new"] == "new sweeps/new.yaml never launched"
    assert rows["old"] == "old 1/1 done"
    assert "source.yaml" not in out
    (manifest,) = database.parent.glob("mlartifacts/old/*/artifacts/manifest.json")
    manifest.unlink()
    code, out, told = call(command.main)
    assert code == 0
    assert "manifest lost or damaged" in out
    assert told.startswith(f"old: {manifest} must be the list of runs that a launch wrote, got no file; ")


def test_init_copies_the_shipped_files_and_keeps_what_is_there(folder):
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "quickstart.yaml").write_text("mine")
    code, out, _ = call(command.main, "init")
    there = {path.name for path in (folder / "sweeps").iterdir()}
    assert code == 0
    assert there == {path.name for path in (ROOT / "sweeps").iterdir()}
    assert (folder / "sweeps" / "quickstart.yaml").read_text() == "mine"
    assert out == f"sweeps: {len(there) - 1} files written, 1 were there and stay\n"
    assert (folder / "sweeps" / "gamma.yaml").read_bytes() == (ROOT / "sweeps" / "gamma.yaml").read_bytes()
    assert call(command.main, "init")[1] == f"sweeps: 0 files written, {len(there)} were there and stay\n"


def test_init_refuses_a_file_in_the_folders_place(folder):
    (folder / "sweeps").touch()
    for words in (["init"], ["init", "sweeps/below"]):
        code, out, told = call(command.main, *words)
        remedy = "move it, or name another folder: l2t init FOLDER"
        assert (code, out, told) == (2, "", f"sweeps: must be a folder, got a file; {remedy}\n")


def test_a_folder_without_sweep_files_is_told_of_init(folder):
    code, _, told = call(command.main, "check", "quickstart")
    assert code == 2
    assert told.endswith("; correct the path, or copy the shipped files: l2t init\n")
    call(command.main, "init")
    assert "did you mean sweeps/quickstart.yaml?" in call(command.main, "check", "quickstart")[2]


def test_plan_and_status_are_the_sweeps_own(folder):
    (folder / "small.yaml").write_text(SWEEP.replace(", ufm", ""))
    from l2t_ray import sweep

    here = ["small.yaml", "--json"]
    assert call(command.main, "plan", *here) == call(sweep.main, *here, "--plan")
    assert call(command.main, "status", *here) == call(sweep.main, *here, "--status")
    assert call(command.main, "plan", "small.yaml", "--fleet", "h200:8")[0] == 0
    with pytest.raises(SystemExit):
        call(command.main, "run", "small.yaml", "--fleet", "h200:8")


def test_a_report_takes_names_and_files(database, folder):
    (folder / "small.yaml").write_text(SWEEP)
    fill(database, "small", [Logged(method=m, seed=s) for m in ("scratch", "ufm") for s in range(5)])
    by_file, by_name = (call(command.main, "report", word, "--json")[:2] for word in ("small.yaml", "small"))
    assert by_file == by_name
    assert by_file[0] == 0
    (folder / "other.yaml").write_text("out: x\n")
    code, _, told = call(command.main, "report", "other.yaml")
    assert code == 2
    assert told == "other.yaml: must have `sweep: NAME`, got none; name a sweep file\n"
    assert "no.yaml" in call(command.main, "report", "no.yaml")[2]


def test_a_report_of_a_file_that_was_edited_after_its_launch_says_so(template, folder):
    shutil.copy(template, "mlflow.db")
    text = SWEEP.replace(", ufm", "")
    (folder / "small.yaml").write_text(text)
    found, ledger = read_sweep(Path("small.yaml")), Ledger("small")
    with ledger.writing():
        ledger.write_manifest(found, [])
    assert "last launch" not in call(command.main, "report", "small.yaml")[2]
    (folder / "small.yaml").write_text(text.replace("to: 1", "to: 2"))
    told = call(command.main, "report", "small.yaml")[2]
    assert "small.yaml: the report is of the last launch, which asked for something else than the file" in told
    assert "last launch" not in call(command.main, "report", "small")[2]
    (folder / "small.yaml").write_text(SWEEP)
    told = call(command.main, "report", "small.yaml")[2]
    assert "the file cannot be read now: small.yaml:4: source.weights must be given" in told


def test_a_file_analysis_py_of_the_working_folder_is_not_ours(folder):
    (folder / "analysis.py").write_text("raise ImportError('the wrong analysis')")
    assert run("l2t", "report", "--help").returncode == 0
    assert run("l2t_ray.sweep", "--help").returncode == 0


@pytest.mark.parametrize("shell", command.SHELLS)
def test_completion_is_printed_for_each_shell(shell):
    pytest.importorskip("argcomplete")
    done = run("l2t", "completion", shell)
    assert done.returncode == 0
    assert "l2t" in done.stdout


def test_bash_completes_commands_and_flags(tmp_path):
    pytest.importorskip("argcomplete")

    def completed(line):
        shell = "exec 8>&1; exec 9>/dev/null; exec {} -m l2t 8>&1 >/dev/null 2>/dev/null"
        asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9",
                 "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}  # fmt: skip
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            ["bash", "-c", shell.format(sys.executable)],
            env={**os.environ, **asked, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout.split()

    assert completed("l2t pl") == ["plan"]
    assert "--price-per-hour" in completed("l2t plan --pr")


@pytest.fixture
def roomy(folder, monkeypatch):
    """An empty working folder on a machine that has room enough, whatever is free on the one that runs the test."""
    monkeypatch.setattr(doctor, "LEAST_DISK_GIB", 0)
    monkeypatch.setattr(doctor, "LEAST_MEMORY_GIB", 0)
    return folder


def test_the_doctor_says_a_line_for_each_thing(roomy):
    code, out, _ = call(command.main, "doctor")
    names = {line.split()[1] for line in out.splitlines()}
    assert code == 0, out
    assert {"python", "torch", "devices", "memory", "ray", "folder", "ledger", "disk", "data", "weights"} <= names
    assert all(line.split()[0] in {"ok", "note", "WRONG"} for line in out.splitlines())


def test_the_doctor_says_that_launches_join_a_cluster_only_where_they_are_told(roomy, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    _, out, _ = call(command.main, "doctor")
    assert "RAY_ADDRESS=10.0.0.1:6379 is not read: launches train here; join that cluster with --address 10.0" in out


def test_the_doctor_names_what_is_wrong_and_the_remedy(roomy, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    code, out, _ = call(command.main, "doctor")
    (line,) = [line for line in out.splitlines() if line.startswith("WRONG")]
    assert code == 1
    assert "ledger must answer" in line
    assert "start the server" in line


@pytest.mark.parametrize(("limit", "name"), [("LEAST_DISK_GIB", "disk"), ("LEAST_MEMORY_GIB", "memory")])
def test_the_doctor_says_that_there_is_too_little_room(roomy, monkeypatch, limit, name):
    monkeypatch.setattr(doctor, limit, 10**9)
    code, out, _ = call(command.main, "doctor")
    (line,) = [line for line in out.splitlines() if line.startswith("WRONG")]
    assert code == 1
    assert line.split()[1] == name
    assert re.search(r"\d GiB free.*; free some: .* 1000000000 GiB$", line)


def test_the_doctor_warns_of_a_file_named_like_our_packages(roomy):
    (roomy / "analysis.py").touch()
    (roomy / "l2t").mkdir()  # without __init__.py it hides nothing
    code, out, _ = call(command.main, "doctor")
    (line,) = [line for line in out.splitlines() if line.split()[1] == "names"]
    assert code == 0, out
    assert line.startswith("note ")
    assert "analysis.py hides our package analysis" in line
    assert line.endswith("; rename it")


def test_the_doctor_takes_a_checkout_as_it_is(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert [*doctor._names()] == []


def test_a_page_of_a_sweep_that_does_not_exist_is_refused(database):
    fill(database, "small", [Logged(method="ufm", seed=0)])
    code, _, told = call(command.main, "ui", "smal")
    assert code == 2
    assert "no sweep 'smal'; did you mean small?" in told


def test_the_pages_end_with_their_terminal(template, folder, monkeypatch):
    from l2t import pages

    ended = []

    class Server(contextlib.nullcontext):
        def wait(self):
            return ended or signal.raise_signal(signal.SIGHUP)

        def terminate(self):
            ended.append(True)

    shutil.copy(template, "mlflow.db")
    monkeypatch.setattr(pages.subprocess, "Popen", lambda *_, **__: (server := Server()).__init__(server) or server)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert pages.serve(None, free_port()) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ended


@pytest.mark.slow
@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium and its driver")
def test_the_page_that_is_named_is_a_table_of_trainings_alone(template, folder):
    shutil.copy(template, "mlflow.db")
    (folder / "small.yaml").write_text(SWEEP.replace(", ufm", ""))
    found, ledger = read_sweep(Path("small.yaml")), Ledger("small")
    with ledger.writing():
        ledger.write_manifest(found, [])
        for key, run in found.runs.items():
            ended = Ended(key, "finished", metrics={"test_accuracy_percent": [(200, 61.25)]}, wall_s=1.0)
            ledger.record(run, ended, found.cells[key])
        ledger.flush()
    arguments = [sys.executable, "-m", "l2t", "ui", "small", "--port", str(free_port())]
    server = subprocess.Popen(arguments, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().strip()

        def answers():
            with contextlib.suppress(OSError):
                return urllib.request.urlopen(address.partition("#")[0], timeout=10).status == 200

        wait_for(answers, process=server)
        with chromium(folder / "profile", 1600) as browser:
            browser.open(address)
            wait_for(lambda: "61.25" in browser.run("return document.body.innerText"), process=server)
            text = browser.run("return document.body.innerText")
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(MOST_S) == 0
        server.stdout.close()
    assert all(name in text for name in ("method", "samples_per_class", "seed", "test_accuracy_percent"))
    assert "digits/1/scratch seed 0" in text
    assert "lease" not in text
    assert "manifest" not in text
