"""The short form of `make chaos`: one sweep, a process that trains, the launch and the whole machine killed."""

import contextlib
import math
import random
import shutil
import time
from pathlib import Path

import pytest

from l2t_ray import sweep
from l2t_ray.files import Lock
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.spool import Ended
from l2t_ray.sweepfile.read import read_sweep
from tests.chaos.audit import audit
from tests.chaos.storm import sweep_in_a_storm
from tests.chaos.world import NAME, Size, prepare, small_disk


@pytest.mark.timeout(1800)
def test_a_sweep_ends_as_if_nothing_had_been_killed(tmp_path):
    told = []
    done = sweep_in_a_storm(
        "sqlite",
        3,
        random.Random(1),
        nodes=False,
        size=Size(seeds=2, epochs=2, many=40, others=1, gate=30),  # 40 epochs of 3 steps: no end before the third kill
        end=time.monotonic() + 1700,
        pause_s=1.0,
        kinds=["trial", "driver", "everything"],
        say=told.append,
        data_dir=tmp_path,
    )
    assert done.audit.is_clean, (done.audit, told, done.log)
    assert not done.tracebacks, done.log
    assert done.n_kills == 3


def test_a_launch_on_a_full_disk_says_so_and_leaves_no_lock(monkeypatch, capsys):
    with small_disk(8) as (folder, mounted):
        if not mounted:
            pytest.skip("a file system of its own cannot be mounted here")
        monkeypatch.chdir(folder)
        Path("full.yaml").write_text(
            "sweep: full\nrun: {data: {name: digits, samples_per_class: 2}}\ngrid: [{method: scratch, seed: 0}]\n"
        )
        with contextlib.suppress(OSError), Path("filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(1 << 16))
        assert sweep.main(["full.yaml", "--no-probe"]) == 1
        told = capsys.readouterr().err
        assert "the disk must have room, got 'No space left on device'; free some and launch again" in told
        assert Lock(folder / ".l2t/full/lock").holder() is None
        monkeypatch.chdir("/")


def test_the_audit_notices_what_is_lost_doubled_changed_or_left(tmp_path, template, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(template, tmp_path)
    prepare(tmp_path, Size(seeds=3, epochs=2, many=2), tmp_path / "data")
    sweep = read_sweep(Path("storm.yaml"))
    expected = {key: {"train_loss": [(1, 0.1 + 0.2)]} for key in sweep.runs}
    lost, doubled, changed, *others = sweep.runs
    ledger = Ledger(NAME, folder=tmp_path)
    ledger.open()

    def put(key, value=0.1 + 0.2, wall_s=1.0):
        ended = Ended(key, "finished", metrics={"train_loss": [(1, value)]}, wall_s=wall_s)
        ledger.record(sweep.runs[key], ended, sweep.cells[key])

    for key in (doubled, *others):
        put(key)
    put(changed, value=math.nextafter(0.1 + 0.2, 1))
    ledger.flush()
    put(doubled, wall_s=1e6)  # another attempt, by its beginning; for a ledger that does not know that it is there
    Ledger.flush(other := Ledger(NAME, folder=tmp_path))
    assert audit("storm.yaml", other, expected).doubled == []  # the product notices
    put(doubled, wall_s=1e6)
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "_attempted", set())
        ledger.flush()
    (tmp_path / ".l2t/storm/checkpoints").mkdir()
    (tmp_path / ".l2t/storm/checkpoints/x.ckpt").touch()
    found = audit("storm.yaml", ledger, expected)
    assert (found.lost, found.doubled, found.changed) == ([lost], [doubled], [changed])
    assert [line.endswith("x.ckpt is left") for line in found.left_over] == [True]
    assert not found.is_clean
