"""Reading a ledger's finished runs into one table, and the notices about whatever is wrong or missing."""

import contextlib
import hashlib
import json
import math
import re
import shutil
import sqlite3
import subprocess
import sys

import pytest
from sqlalchemy import Engine, event

from analysis.results.runs import read_results
from l2t_ray.errors import InputError, LedgerUnavailableError
from tests.support.ledgers import Logged, fill, write_through_mlflow


def grid(methods=("scratch", "ufm"), samples=("10", "30"), seeds=range(3)):
    return [Logged(method=m, samples=s, seed=i, accuracy=40.0 + i) for s in samples for m in methods for i in seeds]


def test_a_run_is_a_row_with_its_identity_settings_provenance_and_last_metrics(database):
    run = Logged(seed=7, accuracy=41.5, curves={"train_loss": [(1, 2.0), (200, 0.5)]})
    fill(database, "small", [run])
    (row,) = read_results().runs.to_dict("records")
    assert {name: row[name] for name in ("sweep", "cell", "data", "samples_per_class", "n_images", "method")} == {
        "sweep": "small", "cell": "cifar10/10/scratch", "data": "cifar10", "samples_per_class": "10", "n_images": 10,
        "method": "scratch",
    }  # fmt: skip
    assert (row["seed"], row["key"], row["run_id"]) == (7, run.key, run.run_id)
    assert (row["test_accuracy_percent"], row["train_loss"], row["wall_s"]) == (41.5, 0.5, 12.5)
    assert (row["git"], row["data_sha"], row["training.epochs"]) == (run.git, run.data_sha, "200")


def test_what_mlflows_client_writes_is_read_by_sql(folder, template):
    shutil.copy(template, folder)
    runs = [*grid(), Logged(method="l2t_ww", outcome="diverged", reason="train_loss is nan in epoch 2", accuracy=None)]
    write_through_mlflow(f"sqlite:///{folder}/mlflow.db", folder, "small", runs)
    results = read_results(["small"])
    assert len(results.runs) == 12
    assert sorted(results.runs["run_id"]) == sorted(run.run_id for run in runs[:-1])
    (gap,) = results.gaps
    assert (gap.wanted.method, gap.outcome, gap.reason) == ("l2t_ww", "diverged", "train_loss is nan in epoch 2")
    assert results.notices == ()


def test_the_manifest_tells_what_is_missing_failed_diverged_and_running(database):
    missing = Logged(seed=9)
    fill(
        database,
        "small",
        [
            *grid(),
            Logged(seed=3, outcome="diverged", reason="train_loss is nan in epoch 17", accuracy=None),
            Logged(seed=4, outcome="failed", reason="OSError: no space", accuracy=None),
            Logged(seed=5, outcome="running", accuracy=None),
        ],
        wanted=[missing],
    )
    states = {gap.wanted.seed: (gap.outcome, gap.reason) for gap in read_results().gaps}
    assert states == {
        3: ("diverged", "train_loss is nan in epoch 17"),
        4: ("failed", "OSError: no space"),
        5: ("running", f"MLflow says that run {14:032x} is RUNNING"),
        9: ("missing", ""),
    }


def test_a_run_that_another_sweep_has_trained_is_found_by_its_key(database):
    shared = Logged(seed=1, accuracy=33.0)
    fill(database, "first", [shared])
    fill(database, "second", [Logged(seed=2)], wanted=[shared])
    results = read_results(["second"])
    assert results.gaps == ()
    assert sorted(results.runs["seed"]) == [1, 2]
    assert len(read_results(["first", "second"]).runs) == 2


def test_a_failed_attempt_before_a_finished_one_is_no_gap(database):
    fill(database, "small", [Logged(outcome="failed", accuracy=None), Logged(accuracy=12.0)])
    results = read_results()
    assert results.gaps == ()
    assert [*results.runs["test_accuracy_percent"]] == [12.0]


def test_a_run_whose_launch_was_killed_while_it_wrote_is_missing(database):
    fill(database, "small", [Logged(outcome="lost", reason="its launch was killed", accuracy=None)])
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE runs SET status = 'KILLED' WHERE status = 'FAILED'")
        connection.commit()
    (gap,) = read_results().gaps
    assert (gap.outcome, gap.reason) == ("missing", "its launch was killed")


@pytest.mark.parametrize("value", [float("nan"), math.inf, None], ids=["nan", "infinity", "absent"])
def test_a_finished_run_without_a_number_is_a_gap_not_a_dropped_value(database, value):
    fill(
        database,
        "small",
        [Logged(seed=0), Logged(seed=1, accuracy=1.7976931348623157e308 if value == math.inf else value)],
    )
    (gap,) = read_results().gaps
    assert (gap.outcome, gap.wanted.seed) == ("invalid", 1)
    assert "test_accuracy_percent is" in gap.reason


def test_duplicates_are_noted_and_the_oldest_counts(database):
    fill(database, "small", [Logged(accuracy=50.0), Logged(accuracy=51.0)])
    results = read_results()
    assert [*results.runs["test_accuracy_percent"]] == [50.0]
    assert "finished 2 times, with results 50.0, 51.0; the oldest counts" in results.notices[0]


def test_runs_of_one_cell_from_different_code_data_or_versions_are_named(database):
    other = json.dumps({"python": "3.11.0", "torch": "2.15.0"})
    fill(database, "small", [Logged(seed=0), Logged(seed=1, git="b" * 40 + "-dirty", versions=other, data_sha="")])
    code, versions, data = read_results().notices
    assert code == (
        "cifar10/10/scratch: runs come from different code (l2t.git): aaaaaaaaaaaa: 1 run; bbbbbbbbbbbb-dirty: 1 run"
    )
    assert versions.endswith("(l2t.versions): torch 2.14.1: 1 run; torch 2.15.0: 1 run")
    assert data.endswith("data (l2t.data_sha): unknown: 1 run; dddddddddddd: 1 run")


def test_cells_with_unlike_threads_or_devices_are_counted_in_one_line_each(database):
    places = {  # by method: of each seed, and of a launch before threads were kept
        "scratch": [("", ""), ("cpu", "2"), ("cpu", "10")],
        "ufm": [("cpu", "1"), ("cpu", "1")],
        "dac": [("cpu", "1"), ("NVIDIA H200", "")],
        "bss": [("cpu", "2"), ("cpu", "")],
    }
    runs = [Logged(method=method, seed=seed) for method, found in places.items() for seed in range(len(found))]
    fill(database, "small", runs)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        for run in runs:
            told = zip(("l2t.device", "l2t.threads"), places[run.method][run.seed], strict=True)
            tags = [(name, text, run.run_id) for name, text in told if text]
            connection.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", tags)
        connection.commit()
    assert read_results().notices == (
        "the runs of 1 cell were trained with different numbers of CPU threads (2, 10): their last bits differ",
        "the runs of 1 cell were trained on different devices (cpu, NVIDIA H200): their last bits differ",
    )
    assert {"device", "threads"}.isdisjoint(read_results().runs)


def test_one_cell_with_two_settings_in_one_sweep_is_refused(database):
    fill(database, "small", [Logged(key="1" * 16), Logged(key="2" * 16)])
    with pytest.raises(InputError, match="cell cifar10/10/scratch must hold one run a seed, got 2 for seed 0"):
        read_results()


def test_one_cell_with_other_settings_in_each_of_two_sweeps_becomes_two_variants(database):
    fill(database, "short", [Logged(key="1" * 16)])
    fill(database, "long", [Logged(key="2" * 16)])
    results = read_results(["short", "long"])
    assert sorted(results.runs["variant"]) == ["long", "short"]
    assert "each sweep has other settings here" in results.notices[-1]


def test_sweeps_with_other_settings_are_not_pooled_although_their_seeds_differ(database):
    """Ten seeds of either once became one cell of twenty."""
    for sweep, lr, seeds in (("slow", "0.05", range(3)), ("fast", "0.1", range(3, 6))):
        fill(database, sweep, [Logged(seed=seed, params={"training.lr": lr}) for seed in seeds])
    results = read_results(["slow", "fast"])
    assert results.runs.groupby("variant")["seed"].apply(sorted).to_dict() == {"slow": [0, 1, 2], "fast": [3, 4, 5]}
    assert "each sweep has other settings here (training.lr 0.05 and 0.1)" in results.notices[-1]


def test_sweeps_with_the_same_settings_are_one_cell_also_where_an_older_one_lacks_a_newer_setting(database):
    fill(database, "older", [Logged(seed=0, params={"training.lr": "0.1"})])
    fill(database, "newer", [Logged(seed=1, params={"training.lr": "0.1", "training.ema": "false"})])
    assert set(read_results(["older", "newer"]).runs["cell"]) == {"cifar10/10/scratch"}


def test_one_odd_run_within_a_cell_is_named_with_its_difference(database):
    runs = [Logged(seed=seed, params={"training.lr": "0.1" if seed != 2 else "0.2"}) for seed in range(4)]
    fill(database, "odd", runs)
    message = r"must differ in their seed alone, got training\.lr 0\.1 and 0\.2 in seed 2"
    with pytest.raises(InputError, match=message):
        read_results(["odd"])


def test_a_duplicate_without_a_number_hides_no_later_one(database):
    first, second = Logged(seed=0, accuracy=None, run_id="0" * 32), Logged(seed=0, accuracy=51.0, run_id="1" * 32)
    fill(database, "small", [first, second])
    results = read_results()
    assert list(results.runs["test_accuracy_percent"]) == [51.0]
    assert results.gaps == ()


def test_without_a_manifest_the_stored_runs_count_and_a_notice_says_so(database):
    fill(database, "small", grid(), manifest=False)
    results = read_results()
    assert len(results.runs) == 12
    assert results.notices == ("small: the ledger has no manifest, so runs that never started are not counted",)


def test_without_a_manifest_a_run_that_another_sweep_finished_first_is_read(database):
    fill(database, "earlier", [Logged(seed=0, accuracy=50.0)])
    fill(database, "small", [Logged(seed=0, accuracy=51.0), Logged(seed=1)], manifest=False)
    results = read_results(["small"])
    assert sorted(results.runs["seed"]) == [0, 1]
    assert results.runs.set_index("seed").loc[0, "test_accuracy_percent"] == 50.0
    assert any("has finished 2 times, with results 50.0, 51.0; the oldest counts" in told for told in results.notices)


def test_a_manifest_that_is_lost_or_damaged_is_refused(database):
    fill(database, "small", grid())
    (path,) = database.parent.glob("mlartifacts/small/*/artifacts/manifest.json")
    content = path.read_text()
    told = f"small: {path} must be the list of runs that a launch wrote, got"
    path.write_text(content[:40])
    with pytest.raises(InputError, match=re.escape(f"{told} a damaged one; ")):
        read_results()
    path.unlink()
    with pytest.raises(InputError, match=re.escape(f"{told} no file; ")):
        read_results()
    path.write_text(content)
    run_id, sha256 = path.parts[-3], hashlib.sha256(content.encode()).hexdigest()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO tags VALUES ('l2t.manifest_sha', ?, ?)", (sha256, run_id))
        connection.commit()
    assert len(read_results().runs) == 12
    path.write_text(content.replace('"seed": 1', '"seed": 3', 1))  # can be read, and is not what the launch wrote
    with pytest.raises(InputError, match="got a damaged one"):
        read_results()


def test_a_tag_that_somebody_edited_in_mlflow_is_shown_as_it_is(database):
    fill(database, "small", grid())
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE tags SET value = '{\"torch\": [1]}' WHERE key = 'l2t.versions' AND rowid % 2")
        connection.commit()
    assert any("torch [1]" in notice for notice in read_results().notices)


def test_a_ledger_moved_with_its_artifacts_is_read(database, tmp_path):
    fill(database, "small", grid(), wanted=[Logged(seed=99)])
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "mlartifacts").rename(moved / "mlartifacts")
    database.rename(moved / "mlflow.db")
    assert len(read_results(uri=f"sqlite:///{moved / 'mlflow.db'}").gaps) == 1


def test_runs_that_the_sweep_no_longer_wants_are_left_out_and_noted(database):
    fill(database, "small", grid())
    (path,) = database.parent.glob("mlartifacts/small/*/artifacts/manifest.json")
    manifest = json.loads(path.read_text())
    manifest["runs"] = manifest["runs"][:-1]
    path.write_text(json.dumps(manifest))
    results = read_results()
    assert len(results.runs) == 11
    assert results.notices == ("small: 1 run in the ledger that the sweep no longer wants, left out here",)


def test_a_missing_ledger_is_an_error_and_is_not_created(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"mlflow.db: no ledger here"):
        read_results()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_ledger_and_a_database_of_something_else_are_refused(database, tmp_path):
    with pytest.raises(InputError, match="must hold runs, got none"):
        read_results()
    (tmp_path / "other.db").write_bytes(b"")
    with pytest.raises(InputError, match="not a database of MLflow's"):
        read_results(uri=f"sqlite:///{tmp_path}/other.db")
    (tmp_path / "broken.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(LedgerUnavailableError, match="file is not a database"):
        read_results(uri=f"sqlite:///{tmp_path}/broken.db")


def test_a_misspelt_sweep_is_refused_with_the_closest_name(database):
    fill(database, "quickstart", grid())
    with pytest.raises(InputError, match="no sweep 'quikstart'; did you mean quickstart"):
        read_results(["quikstart"])


def test_curves_come_back_in_order(database):
    fill(database, "small", [Logged(curves={"train_loss": [(2, float("nan")), (1, 3.0)]}), Logged(seed=1)])
    curves = read_results().histories("train_loss")
    assert [*curves["epoch"]] == [1, 2]
    assert curves["value"][0] == 3.0
    assert math.isnan(curves["value"][1])


def test_reading_imports_neither_torch_nor_ray_nor_mlflow(database):
    fill(database, "small", grid())
    code = (
        "import sys; from analysis.results.runs import read_results; assert len(read_results().runs) == 12; "
        "print([name for name in ('torch', 'ray', 'mlflow', 'optuna', 'l2t_ray.config') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_larger_ledger_is_read_with_as_many_queries(database):
    curve = [(epoch, 1.0 / epoch) for epoch in range(1, 21)]

    def n_queries(sweep, n_seeds):
        runs = [Logged(sweep, method=m, seed=i, curves={"train_loss": curve}, params={"transfer.beta": "0.5"})
                for m in ("scratch", "ufm") for i in range(n_seeds)]  # fmt: skip
        fill(database, sweep, runs)
        asked = []
        note = lambda connection, cursor, statement, *_: asked.append(statement)  # noqa: E731
        event.listen(Engine, "before_cursor_execute", note)
        try:
            results = read_results([sweep])
            assert len(results.histories("train_loss")) == 2 * n_seeds * 20
        finally:
            event.remove(Engine, "before_cursor_execute", note)
        assert len(results.runs) == 2 * n_seeds
        return len(asked)

    few = n_queries("small", 3)
    assert 0 < few < 20
    assert n_queries("large", 300) == few
