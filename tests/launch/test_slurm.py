"""`--backend slurm`: with submitit's local executor, and with a real Slurm of one node where it is installed."""

import json
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from l2t_ray import sweep
from l2t_ray.config import Run
from l2t_ray.errors import InputError
from l2t_ray.launch import session, slurm, slurm_jobs
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.spool import Ended, Record, Spool
from l2t_ray.sweepfile.read import read_sweep
from tests.support import slurm as real
from tests.support.launches import BOOM, call, start
from tests.support.marks import LONG
from tests.support.small_sweep import small
from tests.support.stepped import Steps
from tests.support.waiting import wait_for

pytestmark = [LONG, pytest.mark.filterwarnings("ignore::ResourceWarning")]

FILE = (
    small("far", last=2)
    + "execution: {checkpoint_s: 0, threads: 1, slurm_jobs: 2, slurm: {time: 10, cpus-per-task: 1}}\n"
)


@pytest.fixture(autouse=True)
def _folder(tmp_path, template, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(template, tmp_path)
    Path("far.yaml").write_text(FILE)


@pytest.fixture
def locally(monkeypatch):
    """Jobs are processes of this machine."""
    monkeypatch.setattr(slurm_jobs, "CLUSTER", "local")
    monkeypatch.setattr(slurm, "LATE_S", 1.0)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The variables of a real Slurm."""
    if absent := real.missing():
        pytest.skip(absent)
    with real.running(tmp_path_factory.mktemp("slurm")) as variables:
        yield variables


def command(*arguments):
    return call(sweep.main, "far.yaml", "--backend", "slurm", *arguments)


def statuses():
    return sorted(entry.status for entry in Ledger("far").entries() if entry.kind == "run")


@pytest.mark.usefixtures("locally")
def test_jobs_train_the_runs_and_the_launch_writes_their_results():
    code, out, err = command()
    assert code == 0, err
    assert "3 runs submitted; 2 Slurm jobs" in err
    assert "3/3" in out
    assert statuses() == ["FINISHED"] * 3
    assert not [*Path(".l2t/far/checkpoints").iterdir()]
    assert len(Ledger("far").spool) == 0
    code, _, err = command()
    assert code == 0
    assert "nothing to train" in err


@pytest.mark.usefixtures("locally")
def test_a_cell_is_stopped_in_its_job_and_failures_are_recorded():
    Path("boom.py").write_text(BOOM)
    text = FILE.replace("[scratch]", "boom").replace("to: 2", "to: 3").replace("slurm_jobs: 2", "slurm_jobs: 1")
    Path("far.yaml").write_text(f"methods: [boom.py]\n{text}")
    code, _, err = command()
    assert code == 1
    assert "ValueError: boom, says the method" in err
    assert "2 runs of stopped cells were not trained" in err
    assert statuses() == ["FAILED"] * 2


@pytest.mark.usefixtures("locally")
def test_a_job_that_dies_is_told_with_its_log():
    Path("dies.py").write_text(
        BOOM.replace('raise ValueError("boom, says the method")', "import os; os._exit(9)").replace('"boom"', '"dies"')
    )
    text = FILE.replace("[scratch]", "[scratch, dies]").replace("to: 2", "to: 0")
    Path("far.yaml").write_text(f"methods: [dies.py]\n{text}")
    code, _, err = command()
    assert code == 1
    assert "without a result although no job is left: 1 run; see " in err
    assert statuses() == ["FINISHED"]


@pytest.mark.usefixtures("locally")
def test_options_without_a_time_limit_and_a_machine_without_sbatch_are_told(monkeypatch):
    monkeypatch.setattr(session, "check", lambda *_, **__: pytest.fail("checked"))  # refused before its minutes
    code, _, err = command("--set", "execution.slurm={partition: gpu}")
    assert code == 2
    assert "execution.slurm: must hold `time`, a job's limit in whole minutes, got None" in err
    monkeypatch.setattr(slurm_jobs, "CLUSTER", "slurm")
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, err = command()
    assert code == 2
    assert "sbatch must be on the PATH" in err
    assert not statuses()


@pytest.mark.usefixtures("locally")
def test_a_refused_launch_leaves_out_no_run(monkeypatch):
    found, spool = read_sweep(Path("far.yaml")), Ledger("far").spool
    for key, run in found.runs.items():
        ended = Ended(key, "finished", metrics={"test_accuracy_percent": [(2, 50.0)]})
        spool.put(Record.of(run, ended, "far", found.cells[key], data_sha="", tags={}))
    other = ["--set", "training.epochs=1"]

    def refuse(*_):
        raise InputError("execution.slurm: refused by sbatch")

    with monkeypatch.context() as patched:
        patched.setattr(slurm_jobs.Jobs, "submit", refuse)
        code, _, err = command(*other)
    assert (code, "refused by sbatch" in err, "no longer wants" in err) == (2, True, False)
    code, _, err = command(*other)
    assert (code, err.count("far: 3 runs in the ledger that the sweep no longer wants")) == (0, 1)


def test_a_job_that_begins_again_leaves_out_what_has_ended(monkeypatch):
    monkeypatch.setattr(slurm_jobs, "CLUSTER", "local")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    parts = []
    monkeypatch.setattr(slurm_jobs.Jobs, "submit", lambda self, given, *_: parts.extend(given.values()))
    monkeypatch.setattr(slurm, "LATE_S", 0.0)
    command()  # what would be submitted
    assert sum(len(json.loads(part.runs)) for part in parts) == 3
    assert [part() for part in parts] == [2, 1]
    assert [part() for part in parts] == [0, 0]
    assert len([*Spool(Path(parts[0].spool)).records()]) == 3


@pytest.mark.usefixtures("locally")
def test_a_result_that_comes_while_others_are_written_is_counted(monkeypatch):
    found, flush, submitted = read_sweep(Path("far.yaml")), Ledger.flush, []

    def late(self, *arguments):
        for key, run in found.runs.items() if submitted.pop() else ():
            ended = Ended(key, "finished", metrics={"test_accuracy_percent": [(2, 50.0)]})
            self.spool.put(Record.of(run, ended, "far", found.cells[key], data_sha="", tags={}))
        submitted.append(False)
        return flush(self, *arguments)

    submitted.append(False)
    monkeypatch.setattr(slurm_jobs.Jobs, "submit", lambda *_: submitted.append(True))
    monkeypatch.setattr(Ledger, "flush", late)
    monkeypatch.setattr(slurm, "LOOK_S", 0.01)
    code, _, err = command()
    assert code == 0, err
    assert "without a result" not in err
    assert statuses() == ["FINISHED"] * 3


def test_a_job_that_submits_others_hides_itself_from_them(monkeypatch):
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    before = {**os.environ}
    with slurm_jobs._outside_jobs():
        assert "SLURM_CPUS_PER_TASK" not in os.environ
        assert os.environ["SLURM_CONF"] == "/etc/slurm.conf"
    assert {**os.environ} == before


def test_runs_are_distributed_by_their_time():
    runs = [Run(method="scratch", data={"name": "digits", "samples_per_class": 4}, seed=seed) for seed in range(6)]
    costs = {run.key: 5.0 if run.seed == 0 else 1.0 for run in runs}
    assert [[run.seed for run in job] for job in slurm.split(runs, costs, 2)] == [[0], [1, 2, 3, 4, 5]]
    assert len(slurm.split(runs, costs, 50)) == 6


@pytest.mark.slow
def test_a_real_slurm_trains_while_the_launch_is_gone_and_the_next_one_collects(cluster, monkeypatch):
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    folder = Path.cwd()
    steps = Steps(folder)
    steps.allow(0)
    Path("stepped.py").write_text(steps.method)
    Path("far.yaml").write_text("methods: [stepped.py]\n" + FILE.replace("[scratch]", "stepped"))
    launch = start(folder, "far.yaml", "--backend", "slurm")
    queue = ["squeue", "--noheader"]
    wait_for(lambda: Path(".l2t/far/slurm/jobs.json").exists(), process=launch)
    launch.send_signal(signal.SIGINT)
    _, err = launch.communicate(timeout=200)
    assert launch.returncode == 1
    assert "launch again to collect the jobs' results, or end them: scancel" in err
    assert "far" in subprocess.run(queue, capture_output=True, text=True, check=True).stdout
    (progress := Path(".l2t/far/progress.json")).unlink(missing_ok=True)
    go_on = threading.Thread(target=lambda: wait_for(progress.exists) and steps.allow(None))  # jobs must not end before
    go_on.start()
    code, out, err = command()
    go_on.join()
    assert code == 0, err
    assert "3 runs of an earlier launch are in 2 Slurm jobs" in err
    assert "3/3" in out
    assert steps.n_taken == 3 * 2 * 3  # runs, epochs, steps: none twice


@pytest.mark.slow
def test_a_real_slurm_requeues_a_job_at_its_limit_and_a_refusal_starts_nothing(cluster, monkeypatch):
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    code, _, err = command("--set", "execution.slurm={time: 10, partition: nowhere}")
    assert code == 2
    assert "execution.slurm: must be what sbatch takes" in err
    assert not statuses()
    folder = Path.cwd()
    steps = Steps(folder)
    steps.allow(4)
    Path("stepped.py").write_text(steps.method)
    text = FILE.replace("[scratch]", "stepped").replace("to: 2", "to: 0")
    Path("far.yaml").write_text("methods: [stepped.py]\n" + text)
    launch = start(folder, "far.yaml", "--backend", "slurm")
    wait_for(lambda: steps.n_taken >= 4, process=launch)  # in the second epoch
    (job,) = json.loads(Path(".l2t/far/slurm/jobs.json").read_text())
    subprocess.run(["scancel", "--signal=USR2", job], check=True)  # as Slurm does before the limit
    wait_for(lambda: "Requeued job" in "".join(path.read_text() for path in Path(".l2t/far/slurm").glob("*/*.out")))
    steps.allow(None)
    out, err = launch.communicate(timeout=900)
    assert launch.returncode == 0, err
    assert "1/1" in out
    assert steps.n_taken == 3 + 1 + 3  # an epoch, what was lost of the second, and the second
