"""`--backend inline`: the main job in one process, its results in the ledger as they come."""

import json
import logging
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest
import yaml

from l2t_ray import sweep
from l2t_ray.launch import inline, session
from l2t_ray.launch.placement.limits import cores
from l2t_ray.ledger import recorder
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.trainer.output import Output
from tests.support.launches import BOOM, call, start
from tests.support.marks import LONG
from tests.support.ports import closed_port
from tests.support.small_source import SOURCE, TAUGHT
from tests.support.small_sweep import small
from tests.support.stepped import Steps
from tests.support.waiting import wait_for

pytestmark = [LONG, pytest.mark.filterwarnings("ignore::ResourceWarning")]

FILE = small("near", last=1) + "execution: {checkpoint_s: 0}\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path, template, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(template, tmp_path)
    Path("near.yaml").write_text(FILE)


def command(*arguments):
    return call(sweep.main, "near.yaml", "--backend", "inline", *arguments)


def runs():
    return {entry.key: entry for entry in Ledger("near").entries() if entry.kind == "run"}


def test_a_launch_in_this_process_trains_what_is_missing_and_a_second_one_nothing():
    import ray

    ray.shutdown()  # of an earlier test
    code, out, err = command()
    assert (code, ray.is_initialized()) == (0, False)
    assert "2 to train, 1 at once" in err
    assert "2/2" in out
    first = runs()
    assert {entry.status for entry in first.values()} == {"FINISHED"}
    assert not [*Path(".l2t/near/checkpoints").iterdir()]
    code, _, err = command()
    assert code == 0
    assert "nothing to train" in err
    assert runs() == first
    with sqlite3.connect("mlflow.db") as database:  # reports read it
        assert database.execute("SELECT count(*) FROM tags WHERE key = 'l2t.manifest_sha'").fetchone() == (1,)
        threads = database.execute("SELECT value FROM tags WHERE key = 'l2t.threads'").fetchall()
        assert threads == [(str(cores()),)] * 2  # not one, as with Ray: the report compares them


def test_the_plan_is_of_one_run_at_a_time_whatever_the_cores_and_the_machine(monkeypatch):
    monkeypatch.setattr("l2t_ray.launch.placement.devices.cores", lambda: 4)
    Path("near.yaml").write_text(FILE.replace("checkpoint_s: 0", "threads: 1, price_per_hour: 36"))
    assert "2 to train, 1 at once, 1 CPU thread each" in command("--plan")[2]
    code, _, err = command("--where", "seed=0")
    assert code == 0
    assert "1 to train, 1 at once, 1 CPU thread each" in err
    Path("near.yaml").write_text(Path("near.yaml").read_text().replace("to: 1", "to: 4"))
    for fleet in ((), ("--fleet", "cpu:64")):
        plan = json.loads(command("--plan", "--json", *fleet)[1])
        run_s = plan["cells"][0]["lanes"][0]["run_s"]
        assert plan["cells"][0]["lanes"][0]["processes"] == 1
        assert (plan["wall_s"], plan["price"]) == (pytest.approx(4 * run_s), pytest.approx(4 * run_s / 100))
    plan = json.loads(call(sweep.main, "near.yaml", "--plan", "--json")[1])
    assert (plan["wall_s"], plan["cells"][0]["lanes"][0]["processes"]) == (pytest.approx(run_s), 4)  # Ray's


def test_the_plan_of_all_cores_is_of_those_of_the_fleet():
    assert "1 at once, 64 CPU threads each" in command("--plan", "--fleet", "cpu:64")[2]
    assert "1 at once, a whole NVIDIA H200 each" in command("--plan", "--fleet", "h200:8")[2]


def test_a_plan_for_slurm_has_neither_time_nor_price_of_the_login_node():
    Path("near.yaml").write_text(FILE.replace("checkpoint_s: 0", "threads: 1, price_per_hour: 36"))
    assert command("--where", "seed=0")[0] == 0
    code, out, err = call(sweep.main, "near.yaml", "--backend", "slurm", "--plan")
    assert (code, "time:" in out, "price:" in out) == (0, False, False)
    assert "devices: Slurm" in out
    assert "near: Slurm alone knows when jobs begin and on what; a run's time is this machine's; --fleet h100:8" in err
    assert err.splitlines()[-1] == "near: 2 runs wanted, 1 finished, 1 to train"
    plan = json.loads(call(sweep.main, "near.yaml", "--backend", "slurm", "--plan", "--json")[1])
    assert (plan["wall_s"], plan["device_hours"], plan["price"]) == (None, None, None)
    assert plan["cells"][0]["lanes"][0]["run_s"] > 0
    plan = json.loads(call(sweep.main, "near.yaml", "--backend", "slurm", "--plan", "--json", "--fleet", "h100:8")[1])
    assert plan["price"] > 0


@pytest.mark.parametrize("backend", ["inline", "slurm"])
def test_a_source_that_is_missing_is_refused_before_the_checks(backend, monkeypatch):
    monkeypatch.setattr(session, "check", lambda *_, **__: pytest.fail("checked"))
    Path("small.yaml").write_text(yaml.safe_dump(SOURCE))
    Path("taught.yaml").write_text(yaml.safe_dump(TAUGHT))
    code, _, err = call(sweep.main, "taught.yaml", "--backend", backend)
    refused = f"weights/small.pt: must exist with --backend {backend}; python -m l2t_ray.pretrain small.yaml trains it"
    assert (code, err.splitlines()[-1]) == (2, refused)


def test_a_method_that_raises_stops_its_cell_and_costs_no_neighbour():
    Path("boom.py").write_text(BOOM)
    text = FILE.replace("[scratch]", "[boom, scratch]").replace("to: 1", "to: 2")
    Path("near.yaml").write_text(f"methods: [boom.py]\n{text}")
    code, out, err = command()
    assert code == 1
    assert "boom is stopped: two of its runs raised the same error, ValueError: boom, says the method" in err
    assert "3/3" in out  # scratch
    assert sorted(entry.status for entry in runs().values()) == ["FAILED"] * 2 + ["FINISHED"] * 3


def test_ctrl_c_leaves_a_checkpoint_from_which_the_next_launch_goes_on():
    folder = Path.cwd()
    steps = Steps(folder)
    (folder / "stepped.py").write_text(steps.method)
    text = FILE.replace("[scratch]", "stepped").replace("epochs: 2", "epochs: 4").replace("to: 1", "to: 0")
    Path("near.yaml").write_text(f"methods: [stepped.py]\n{text}")
    steps.allow(7)  # three steps an epoch: in the third
    process = start(folder, "near.yaml", "--backend", "inline")
    wait_for(lambda: steps.n_taken >= 7, process=process)
    process.send_signal(signal.SIGINT)
    steps.allow(9)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 1, err
    assert "interrupted with 1 run to go" in err
    assert "0/1" in out
    assert [path.suffix for path in Path(".l2t/near/checkpoints").glob("*.ckpt")] == [".ckpt"]
    steps.allow(12)
    code, _, err = command()
    assert code == 0, err
    assert steps.n_taken == 12  # no epoch was trained twice


def test_without_a_ledger_results_wait_in_the_spool(monkeypatch):
    with closed_port() as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        code, out, err = command()
    assert code == 0, err
    assert "this launch goes on without it" in err
    assert "2 results wait in .l2t/near/spool" in out
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    code, out, err = command()
    assert code == 0, err
    assert "2 results of an earlier launch are written" in err
    assert "2/2" in out


def test_without_a_ledger_json_is_the_summary_all_the_same(monkeypatch):
    Path("boom.py").write_text(BOOM)
    text = FILE.replace("[scratch]", "[boom, scratch]").replace("checkpoint_s: 0", "fail_fast: false")
    Path("near.yaml").write_text(f"methods: [boom.py]\n{text}")
    with closed_port() as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        code, out, err = command("--json")
    assert code == 1
    assert "2 results wait in .l2t/near/spool" in err
    waiting = json.loads(out)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    summary = json.loads(command("--json")[1])
    for found in (waiting, summary):
        for failure in found["failures"]:
            failure.pop("traceback")  # a place in the ledger
    assert waiting == summary
    assert (waiting["n_finished"], len(waiting["failures"]), waiting["launch"]) == (2, 2, None)


def test_a_search_asks_for_its_next_runs_in_this_process():
    Path("near.yaml").write_text(
        FILE.replace("seed: {from: 0, to: 1}", "seed: 0")
        + """
search:
  trials: 2
  seeds: [1000]
  validation_per_class: 2
  space: {training.lr: {low: 0.01, high: 0.1, log: true}}
"""
    )
    code, _, err = command()
    assert code == 0, err
    assert len(runs()) == 2
    code, _, err = call(sweep.main, "near.yaml", "--backend", "slurm")
    assert code == 2
    assert "near.yaml: search must run with --backend ray or inline" in err


def test_ctrl_c_is_told_while_a_trainers_output_is_captured_and_a_second_one_ends(capsys):
    output = Output()
    with inline.stopped_by_signals() as is_stopped, output.captured():
        signal.raise_signal(signal.SIGINT)
        assert is_stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert capsys.readouterr().err == f"{inline.INTERRUPTED}\n"
    assert output.text == ""


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN], ids=["terminal", "nohup"])
def test_the_end_of_the_terminal_ends_a_launch_but_not_under_nohup(handler):
    before = signal.signal(signal.SIGHUP, handler)
    try:
        with inline.stopped_by_signals() as is_stopped:
            signal.raise_signal(signal.SIGHUP)
            assert is_stopped() == (handler == signal.SIG_DFL)
        assert signal.getsignal(signal.SIGHUP) == handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_warning_of_the_ledger_is_shown_and_not_kept_as_a_trainers_output(capsys, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest's
    output = Output()
    with inline.warnings_shown(), output.captured():
        recorder.logger.warning("the ledger must answer")
    assert (capsys.readouterr().err, output.text) == ("the ledger must answer\n", "")


def test_a_metric_that_no_finished_run_has_is_told_with_exit_code_1():
    Path("own.py").write_text("def train(settings, seed, context):\n    return {'rmse': 1.0}\n")
    file = (
        "sweep: own\ntrainer: own.py\nmetric: {name: rmse, lower_is_better: true, margin: 1}\ngrid:\n- {seed: [0, 1]}\n"
    )
    Path("own.yaml").write_text(file)
    assert call(sweep.main, "own.yaml", "--backend", "inline")[0] == 0
    Path("own.yaml").write_text(file.replace("name: rmse", "name: mae"))
    code, out, err = call(sweep.main, "own.yaml", "--backend", "inline")
    assert "metric.name must be a result of every run, got 'mae', which 2 of 2 finished runs lack" in out + err
    assert code == 1
