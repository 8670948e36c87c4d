"""A sweep trained where there is no Ray and no MLflow, and its results carried into a ledger later."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from l2t_ray import offline, sweep
from l2t_ray.launch.options import Options, work_of
from l2t_ray.launch.placement.limits import cores
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.spool import TRACE, Spool
from l2t_ray.sweepfile.read import read_sweep
from tests.support.launches import BOOM
from tests.support.marks import LONG

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

FILE = """
sweep: away
run:
  data: {name: digits, samples_per_class: 4}
  target: {width: 0.125}
  training: {epochs: 2, batch_size: 16}
  record: {evaluations: 0}
grid:
  - method: scratch
    seed: {from: 0, to: 2}
"""
OWN = """
from l2t_ray.methods import Method
from l2t_ray.registry import register

register(Method("own_plain"))
"""
SPOOL = Path(".l2t/away/spool")
WITHOUT = "import sys; sys.modules.update(ray=None, mlflow=None, optuna=None); from l2t_ray.offline import main; "


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("away.yaml").write_text(FILE)


@LONG
def test_what_was_trained_without_ray_and_mlflow_is_finished_by_the_next_launch(capsys, template):
    code = WITHOUT + "sys.exit(main(['away.yaml', '--pack', '2', '--part', '1/2']))"
    command = [sys.executable, "-W", "error::ImportWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 results wait in" in done.stdout  # the first and the third of three
    assert offline.main(["away.yaml"]) == 0
    assert "1 to train" in capsys.readouterr().err
    waiting = {record.key: record for record in Ledger("away").spool.records()}
    assert len(waiting) == 3
    assert {record.tags["pack"] for record in waiting.values()} == {"1", "2"}
    assert {record.tags["threads"] for record in waiting.values()} == {str(cores())}

    shutil.copy(template, ".")
    assert sweep.main(["away.yaml"]) == 0
    told = capsys.readouterr().err
    assert "3 results of an earlier launch are written" in told
    assert "nothing to train" in told
    entries = Ledger("away").entries()
    by_key = {entry.key: entry for entry in entries if entry.kind == "run"}
    assert by_key.keys() == waiting.keys()
    for key, record in waiting.items():
        assert by_key[key].metrics["test_accuracy_percent"] == record.metrics["test_accuracy_percent"][-1][1]
    assert len(Ledger("away").spool) == 0


def test_a_run_that_raises_is_recorded_and_costs_no_neighbour(capsys):
    Path("boom.py").write_text(BOOM)
    text = FILE.replace("sweep: away", "sweep: away\nmethods: [boom.py]").replace(
        "method: scratch", "method: [METHODS]"
    )
    Path("away.yaml").write_text(text.replace("METHODS", "scratch, boom"))
    assert offline.main(["away.yaml", "--pack", "3"]) == 1
    out = capsys.readouterr()
    assert "3 results wait" in out.out
    assert "a pack of 3 runs raised ValueError: boom, says the method" in out.err
    assert "digits/4/boom is stopped: two of its runs raised the same error" in out.err
    records = [*Ledger("away").spool.records()]
    assert sorted(record.outcome for record in records) == ["failed"] * 2 + ["finished"] * 3
    traced = {base64.b64decode(record.artifacts[TRACE]).decode() for record in records if record.outcome == "failed"}
    assert all(text.startswith("Traceback") and "boom, says the method" in text for text in traced)
    assert offline.main(["away.yaml", "--set", "execution.fail_fast=false"]) == 1
    assert "1 to train" in capsys.readouterr().err
    assert offline.main(["away.yaml", "--retry-failed"]) == 1
    assert "3 to train" in capsys.readouterr().err


def test_a_record_of_ones_own_method_tells_its_files_code():
    Path("own.py").write_text(OWN)
    text = FILE.replace("sweep: away", "sweep: away\nmethods: [own.py]").replace("scratch", "[scratch, own_plain]")
    Path("away.yaml").write_text(text.replace("{from: 0, to: 2}", "0"))
    assert offline.main(["away.yaml"]) == 0
    versions = {record.params["method"]: json.loads(record.tags["versions"]) for record in Spool(SPOOL).records()}
    assert versions["own_plain"] == {**versions["scratch"], "own.py": hashlib.sha256(OWN.encode()).hexdigest()[:12]}
    assert "own.py" not in versions["scratch"]


@pytest.mark.parametrize("arguments", [["--part", "3/2"], ["--part", "x"], ["--pack", "0"]])
def test_a_wrong_argument_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        offline.main(["away.yaml", *arguments])
    assert caught.value.code == 2
    assert "must be" in capsys.readouterr().err


def test_a_file_with_a_mistake_is_refused(capsys):
    Path("away.yaml").write_text(FILE.replace("scratch", "scatch"))
    assert offline.main(["away.yaml"]) == 2
    assert "did you mean scratch?" in capsys.readouterr().err


def test_a_search_is_refused_for_its_trials_need_the_ledger(capsys):
    settings = "trials: 2, seeds: 1000, validation_per_class: 2, space: {training.lr: {low: 0.01, high: 0.1}}"
    Path("away.yaml").write_text(f"{FILE}search: {{{settings}}}\n")
    assert offline.main(["away.yaml"]) == 2
    assert "search must be launched with python -m l2t_ray.sweep" in capsys.readouterr().err


def test_a_source_that_is_not_there_is_told_with_the_command_that_trains_it(capsys):
    Path("source.yaml").write_text("out: s.pt\nsource: {arch: resnet20, width: 0.125}\ndata: {name: digits}\n")
    source = "  source: {arch: resnet20, width: 0.125, weights: s.pt, train: source.yaml}\n"
    Path("away.yaml").write_text(FILE.replace("run:\n", f"run:\n{source}").replace("scratch", "ufm"))
    assert offline.main(["away.yaml"]) == 2
    assert "s.pt: must exist; python -m l2t_ray.pretrain source.yaml trains it" in capsys.readouterr().err


def test_checkpoints_lie_in_the_store_that_the_file_names():
    store = "s3://bucket/kept?region=us-east-1"
    Path("away.yaml").write_text(FILE + f"execution: {{storage: '{store}'}}\n")
    assert work_of(read_sweep(Path("away.yaml")), Options()).checkpoints == (
        "s3://bucket/kept/away/checkpoints?region=us-east-1"
    )


def test_a_folder_that_takes_no_results_is_refused_before_the_training(capsys):
    Path("away.yaml").write_text(FILE)
    Path(".l2t/away").mkdir(parents=True)
    Path(".l2t/away/spool").write_text("a file")
    assert offline.main(["away.yaml"]) == 2
    told = ".l2t/away/spool: must be in a folder that can be written, got 'File exists'; start elsewhere"
    assert told in capsys.readouterr().err
