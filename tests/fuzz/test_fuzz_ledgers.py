"""Damaged ledgers (SQLite's file, manifest, spool) through both command lines: read, or refused with exit code 2."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import stats
from l2t_ray import sweep
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.spool import Ended
from l2t_ray.sweepfile.read import read_sweep
from tests.fuzz.hostile import check_refusal, command, damaged, inputs, snapshot

FILE = """
sweep: kept
run: {data: {name: digits, samples_per_class: 2}, target: {width: 0.125}, training: {epochs: 2, batch_size: 8}}
grid:
- {method: [scratch], seed: {from: 0, to: 5}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, template):
    """A folder with a ledger of five finished runs and one in the spool."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        shutil.copy(template, folder)
        Path("kept.yaml").write_text(FILE)
        wanted = read_sweep(Path("kept.yaml"))
        ledger = Ledger("kept")
        ledger.open()
        *most, last = wanted.runs.values()
        for run in most:
            metrics = {"train_loss": [(1, 1.5), (2, 0.5)], "test_accuracy_percent": [(2, 40.0 + run.seed)]}
            ledger.record(run, Ended(run.key, "finished", metrics=metrics, wall_s=2.0), wanted.cells[run.key])
        ledger.flush()
        ledger.write_manifest(SimpleNamespace(name="kept", runs=wanted.runs, cells=wanted.cells), ledger.entries())
        ledger.record(last, Ended(last.key, "finished", metrics={"train_loss": [(1, 1.0)]}), wanted.cells[last.key])
        with closing(sqlite3.connect("mlflow.db")) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the runs are in the file that is damaged
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    monkeypatch.chdir(copy)
    return copy


COMMANDS = {
    "--plan": (sweep.main, "kept.yaml", "--plan"),
    "--status": (sweep.main, "kept.yaml", "--status"),
    "stats": (stats.main, "kept", "--missing"),
}


def check(folder, tried, kind, name):
    for journal in folder.glob("mlflow.db-*"):
        journal.unlink(missing_ok=True)
    before = snapshot(folder)
    code, out, err = command(*COMMANDS[name])
    assert "Traceback" not in err
    if code == 2:
        check_refusal(code, out, err.removeprefix("kept: no launch is running\n"), before, folder)
    else:
        assert code in {0, 1}
        assert out
    became = "refused" if code == 2 else "read"
    tried(kind, became)
    return became


@inputs(90)
@given(st.data())
def test_a_damaged_database_is_read_or_refused(made, folder, tried, data):
    content = (made / "mlflow.db").read_bytes()
    (folder / "mlflow.db").write_bytes(data.draw(damaged(content)))
    check(folder, tried, "ledgers", data.draw(st.sampled_from([*COMMANDS])))


@inputs(30)
@given(st.data())
def test_a_damaged_manifest_is_read_or_refused(made, folder, tried, data):
    (kept,) = made.glob("mlartifacts/kept/*/artifacts/manifest.json")
    content = data.draw(damaged(kept.read_bytes()))
    (folder / kept.relative_to(made)).write_bytes(content)
    became = check(folder, tried, "manifests", "stats")
    assert became == ("read" if content == kept.read_bytes() else "refused")


@inputs(40)
@given(st.data())
def test_a_damaged_record_in_the_spool_is_left_where_it_is(made, folder, tried, caplog, data):
    (kept,) = made.glob(".l2t/kept/spool/*.json")
    content = data.draw(damaged(kept.read_bytes()))
    file = folder / kept.relative_to(made)
    file.write_bytes(content)
    records = [*Ledger("kept").spool.records()]
    assert file.read_bytes() == content
    assert records or str(file) in caplog.text
    tried("records in the spool", "read" if records else "told and left")
    caplog.clear()


def test_undamaged_all_is_read(folder):
    for name, (main, *arguments) in COMMANDS.items():
        code, out, err = command(main, *arguments)
        assert (code, bool(out)) == (1 if name == "stats" else 0, True), (name, err)
