"""The main job from its command line: real Ray, real SQLite, real training on digits."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from l2t_ray import sweep
from l2t_ray.files import Lock
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.spool import Ended, Record
from l2t_ray.sweepfile.read import read_sweep
from tests.support import launches
from tests.support.launches import BOOM, OF_RAY, call, refuse_ray, titled
from tests.support.marks import LONG
from tests.support.ports import closed_port
from tests.support.stepped import Steps
from tests.support.waiting import wait_for

pytestmark = [*OF_RAY, LONG]

FILE = """
sweep: tiny
run:
  data: {name: digits, samples_per_class: 4}
  target: {width: 0.125}
  training: {epochs: EPOCHS, batch_size: 16}
  record: {evaluations: 2}
grid:
  - method: [METHOD]
    seed: {from: 0, to: LAST}
MORE
execution: {retries: 1, checkpoint_s: 0, hang_s: 3600}
"""


@pytest.fixture
def folder(tmp_path, template, monkeypatch):
    """A working folder with a hostile name."""
    path = tmp_path / 'it\'s a "folder"'
    path.mkdir()
    shutil.copy(template, path)
    monkeypatch.chdir(path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return path


def write_sweep(folder, last=1, epochs=2, more="", head="", method="scratch"):
    text = FILE.replace("EPOCHS", str(epochs)).replace("LAST", str(last)).replace("MORE", more)
    (folder / "tiny.yaml").write_text(head + text.replace("METHOD", method))


def write_stepped(folder, **settings):
    """A sweep whose trainings stand still after so many steps as are allowed; an epoch has three."""
    steps = Steps(folder)
    (folder / "stepped.py").write_text(steps.method)
    write_sweep(folder, **settings, method="stepped", head="methods: [stepped.py]\n")
    return steps


def command(*arguments):
    """Exit code, stdout, stderr."""
    return call(sweep.main, "tiny.yaml", *arguments)


def state():
    """What --status says, as JSON."""
    _, out, _ = command("--status", "--json")
    return json.loads(out)


def finals(folder):
    """Key to every metric of every finished run but the times."""
    ledger = Ledger("tiny", folder=folder)
    from mlflow.tracking import MlflowClient

    client, found = MlflowClient(ledger.uri), {}
    for entry in ledger.entries():
        if entry.kind == "run" and entry.status == "FINISHED":
            assert entry.key not in found, "a run is in the ledger twice"
            names = [name for name in client.get_run(entry.run_id).data.metrics if name not in ("wall_s", "peak_bytes")]
            history = {name: client.get_metric_history(entry.run_id, name) for name in names}
            found[entry.key] = {name: [(p.step, p.value) for p in points] for name, points in history.items()}
    return found


def test_a_launch_trains_what_is_wanted_and_launching_again_is_a_no_op(folder, ray_cluster, monkeypatch):
    write_sweep(folder)
    code, out, err = command("--plan", "--json")
    plan = json.loads(out)
    assert (code, plan["cells"][0]["n_to_train"], plan["wall_s"]) == (0, 2, None)
    assert not (folder / ".l2t").exists()  # a plan starts nothing

    code, out, err = command()
    assert code == 0, err
    assert err.splitlines()[0].startswith("tiny: 2 runs wanted, 0 finished, 2 to train, ")
    assert "2 of 2 runs ended (2 finished)" in err
    assert err.splitlines()[-1] == "result: l2t report tiny    pages: l2t ui tiny"
    assert "2/2" in out
    first = finals(folder)
    assert len(first) == 2
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        assert database.execute("SELECT value FROM tags WHERE key = 'l2t.threads'").fetchall() == [("1",)] * 2
    assert list((folder / ".l2t/tiny/checkpoints").iterdir()) == []
    assert list((folder / ".l2t/tiny/spool").iterdir()) == []
    assert not (folder / ".l2t/tiny/tune").exists()

    left = folder / f".l2t/tiny/checkpoints/{next(iter(first))}.ckpt"
    left.write_bytes(b"of a launch that was killed after it had recorded the run")
    with monkeypatch.context() as patched:
        refuse_ray(patched)
        code, out, err = command("--json")
    assert not left.exists()
    assert (code, json.loads(out)["launch"]) == (0, None)
    assert "2 runs wanted, 2 finished, nothing to train" in err
    assert finals(folder) == first

    code, _, err = command("--where", "seed=1")
    assert (code, err.splitlines()[0]) == (0, "tiny: 1 run wanted, 1 finished, nothing to train")
    manifests = [entry for entry in Ledger("tiny", folder=folder).entries() if entry.kind == "manifest"]
    text = (folder / "mlartifacts/tiny" / manifests[0].run_id / "artifacts/manifest.json").read_text()
    assert len(manifests) == 1
    assert len(json.loads(text)["runs"]) == 2  # all that the file wants, whatever part was launched

    write_sweep(folder, last=2)  # a seed more
    plan = json.loads(command("--plan", "--json")[1])
    assert plan["cells"][0]["n_to_train"] == 1
    assert plan["wall_s"] > 0  # measured by now
    code, out, err = command("--json")
    assert (code, json.loads(out)["n_finished"]) == (0, 3)
    assert "3 runs wanted, 2 finished, 1 to train" in err
    assert {key: value for key, value in finals(folder).items() if key in first} == first


def test_runs_that_the_sweep_no_longer_wants_are_told_at_launch(folder):
    write_sweep(folder, last=2)
    found, spool = read_sweep(Path("tiny.yaml")), Ledger("tiny").spool
    for key, run in found.runs.items():
        ended = Ended(key, "finished", metrics={"test_accuracy_percent": [(2, 50.0)]})
        spool.put(Record.of(run, ended, "tiny", found.cells[key], data_sha="", tags={}))
    for arguments in ([], ["--where", "seed=0"]):
        code, _, err = command(*arguments)
        assert (code, "no longer wants" in err) == (0, False)
    write_sweep(folder, last=0)
    code, _, err = command("--set", "augment.flip=true")
    assert code == 0
    assert err.count("tiny: 2 runs in the ledger that the sweep no longer wants; reports leave them out until") == 1


def test_failures_and_divergence_end_their_runs_alone_and_are_told_with_the_reason(folder, ray_cluster):
    (folder / "boom.py").write_text(BOOM)
    more = """\
  - {method: [boom], seed: [0]}
  - {method: [scratch], seed: [0], variant: wild, training: {lr: 1.0e+30}}"""
    write_sweep(folder, more=more, head="methods: [boom.py]\n")
    code, out, err = command("--set", "execution.retries=0")
    assert code == 1
    summary = state()
    assert summary["n_finished"] == 2
    reasons = {failure["outcome"]: failure["reason"] for failure in summary["failures"]}
    assert set(reasons) == {"failed", "diverged"}
    assert reasons["failed"].startswith("ValueError: boom, says the method (boom.py:")
    assert "epoch 1" in reasons["diverged"]
    assert reasons["failed"] in out
    assert f"failed: {reasons['failed']}" in err
    (place,) = [line.removeprefix("  traceback: ") for line in out.splitlines() if line.startswith("  traceback: ")]
    trace = Path(place).read_text()
    assert trace.startswith("Traceback (most recent call last):")
    assert 'raise ValueError("boom, says the method")' in trace
    assert "--retry-failed trains them again, once the error is corrected" in out

    code, _, err = command()
    assert code == 1  # still incomplete
    assert "2 failed or diverged (--retry-failed trains them again), nothing to train" in err

    _, out, _ = command("--plan", "--retry-failed", "--json")
    assert [cell["n_to_train"] for cell in json.loads(out)["cells"]] == [0, 1, 1]


def test_two_runs_with_the_same_error_stop_their_cell(folder, ray_cluster):
    (folder / "boom.py").write_text(BOOM)
    more = "  - {method: [boom], seed: {from: 0, to: 7}}"
    write_sweep(folder, more=more, head="methods: [boom.py]\n")
    code, out, err = command("--json")
    assert code == 1
    summary = json.loads(out)
    boom = next(cell for cell in summary["cells"] if "boom" in cell["cell"])
    assert (summary["n_finished"], boom["n_wanted"], boom["n_finished"]) == (2, 8, 0)
    assert 2 <= boom["n_failed"] <= 5  # what had a process when the second raised is trained
    assert summary["launch"]["n_stopped"] == 8 - boom["n_failed"]
    assert summary["launch"]["n_left"] == 0
    assert err.count("boom is stopped: two of its runs raised the same error, ValueError: boom, says the method") == 1
    assert "launch with --retry-failed, or set execution.fail_fast=false" in err
    assert "interrupted" not in err
    code, out, _ = command("--plan", "--json", "--retry-failed")
    assert [cell["n_to_train"] for cell in json.loads(out)["cells"]] == [0, 8]


def test_a_second_launch_is_refused_while_the_first_holds_the_sweep(folder):
    write_sweep(folder)
    with Lock(Path(".l2t/tiny/lock")):
        code, out, err = command()
        assert (code, out) == (2, "")
        assert f"is being launched already, by pid {os.getpid()} on {socket.gethostname()} since" in err
        code, _, err = command("--status")
        assert code == 0
        assert f"tiny: launched by pid {os.getpid()}" in err
    assert "no launch is running" in command("--status")[2]


def test_a_storage_that_cannot_be_written_is_refused_before_anything_starts(folder):
    write_sweep(folder)
    text = (folder / "tiny.yaml").read_text().replace("{retries: 1", "{storage: blocked, retries: 1")
    (folder / "tiny.yaml").write_text(text)
    (folder / "blocked").write_text("a file")
    code, _, err = command()
    assert code == 2
    assert "execution.storage must be a folder that can be written to" in err


def test_an_address_that_is_none_is_refused(folder):
    write_sweep(folder)
    process = start(folder, "--address", "nonsense")  # in this one Ray may be running already
    _, err = process.communicate(timeout=280)
    assert process.returncode == 2
    assert "--address must name a running Ray cluster, got 'nonsense'" in err


def test_a_fleet_is_refused_without_a_plan(folder):
    write_sweep(folder)
    with pytest.raises(SystemExit) as caught:
        command("--fleet", "h200:8")
    assert caught.value.code == 2


def test_a_reader_of_the_result_may_go(folder):
    write_sweep(folder)
    line = f"{sys.executable} -m l2t_ray.sweep tiny.yaml --plan --json | true"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=280, check=False)
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


def test_a_ledger_that_is_not_there_stops_the_launch_and_loses_nothing(folder, monkeypatch):
    write_sweep(folder)
    with closed_port() as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:planted-secret@127.0.0.1:{port}")
        code, out, err = command()
    assert (code, out) == (2, "")
    assert "the ledger must answer" in err
    assert "MLFLOW_TRACKING_URI" in err
    assert "planted-secret" not in err


@pytest.mark.slow
def test_results_wait_while_the_ledger_is_away_and_the_next_launch_writes_them_first(folder, ray_cluster, monkeypatch):
    write_sweep(folder)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    def away(*arguments, **settings):
        raise MlflowException("the server went away")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_batch", away)
        code, _, err = command()
    assert code == 1
    assert "2 results wait in " in err
    assert len(list(Path(".l2t/tiny/spool").glob("*.json"))) == 2
    assert finals(folder) == {}
    code, _, err = command()
    assert code == 0
    assert err.startswith("2 results of an earlier launch are written to sqlite:")
    assert "2 finished, nothing to train" in err
    assert len(finals(folder)) == 2


def start(folder, *arguments):
    return launches.start(folder, "tiny.yaml", *arguments)


def wait_for_training(process, folder, steps, number):
    """Until so many steps are taken, and there is a checkpoint."""
    checkpoints = folder / ".l2t/tiny/checkpoints"
    wait_for(
        lambda: steps.n_taken >= number and any(checkpoints.glob("*.ckpt")),
        process=process,
        told=launches.said(process),
        most_s=600,
    )


@pytest.mark.slow
def test_a_killed_launch_goes_on_bitwise_with_nothing_lost_or_doubled(folder, template):
    calm = folder.parent / "calm"
    calm.mkdir()
    shutil.copy(template, calm)
    write_stepped(calm, last=3, epochs=60).allow(None)
    process = start(calm)
    process.communicate(timeout=900)
    assert process.returncode == 0

    steps = write_stepped(folder, last=3, epochs=60)
    for number in (30, 60):
        steps.allow(number)
        process = start(folder)
        wait_for_training(process, folder, steps, number)
        launches.end(process, signal.SIGKILL)
    steps.allow(None)
    process = start(folder)
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert len(finals(folder)) == 4
    assert finals(folder) == finals(calm)


@pytest.mark.slow
def test_a_launch_that_is_ended_while_it_trains_its_source_says_how_to_resume(folder):
    settings = "data: {name: digits, samples_per_class: 40}\ntraining: {epochs: 1000000, batch_size: 16}\n"
    Path("small.yaml").write_text(f"out: small.pt\nsource: {{arch: resnet20, width: 0.125}}\n{settings}")
    source = "{arch: resnet20, width: 0.125, weights: small.pt, train: small.yaml}"
    run = f"data: {{name: digits, samples_per_class: 2}}, source: {source}"
    Path("tiny.yaml").write_text(f"sweep: tiny\nrun: {{{run}}}\ngrid:\n- {{method: ufm, seed: 0}}\n")
    process = start(folder)
    while "epoch" not in (line := process.stderr.readline()):
        assert line, "it has ended"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    assert "interrupted; launch again to go on" in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_launch_ends_cleanly_and_says_how_to_resume(folder, number):
    steps = write_stepped(folder, last=1, epochs=1000000)
    steps.allow(None)  # they do not stand still: an epoch has to end
    before = signal.signal(number, signal.SIG_DFL)  # nohup has what it starts ignore SIGHUP
    process = start(folder)
    signal.signal(number, before)
    wait_for_training(process, folder, steps, 30)
    process.send_signal(number)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    assert "interrupted with 2 runs to go; launch again to go on from their checkpoints" in err
    assert "Traceback" not in err
    assert Lock(folder / ".l2t/tiny/lock").holder() is None


@pytest.mark.slow
def test_a_killed_worker_costs_no_result_and_stdout_is_the_summary_alone(folder):
    steps = write_stepped(folder, last=1, epochs=40)
    steps.allow(30)
    process = start(folder, "--json")
    wait_for_training(process, folder, steps, 30)
    titled("Trainable", below=process.pid)[0].kill()
    steps.allow(None)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert json.loads(out)["n_finished"] == 2  # and not what Ray says of the worker
    assert len(finals(folder)) == 2
