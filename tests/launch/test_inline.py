"""`--backend inline`: the main job in one process, its results in the ledger as they come."""

import shutil
import signal
import sqlite3
from pathlib import Path

import pytest
import yaml

from l2t_ray import sweep
from l2t_ray.launch import inline, session
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
