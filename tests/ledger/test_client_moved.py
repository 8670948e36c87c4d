"""A working folder that was copied or moved with its ledger: what is written and read is its own."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from l2t_ray.ledger.client import OF_EXPERIMENT, beside, follow
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.reader import open_ledger


@pytest.fixture
def original(template, tmp_path):
    """A working folder, its name not plain, with a run that has stored a file and one that has not."""
    folder = tmp_path / "it's_100% of ü"
    folder.mkdir()
    shutil.copy(template, folder)
    fill(folder)
    return folder


def fill(folder):
    """A run with a file and one without in a folder's ledger; MLflow's ids of both."""
    ledger = Ledger("small", folder=folder)
    ledger.open()
    client = MlflowClient(ledger.uri)
    experiment = client.get_experiment_by_name("small").experiment_id
    tags = {"l2t.kind": "manifest"}
    with_file, without = (client.create_run(experiment, tags=tags).info.run_id for _ in range(2))
    client.log_text(with_file, "first", "launches/1.json")
    return with_file, without


def contents(folder):
    """Every file of a folder; of a database what is in it."""
    found = {}
    for path in folder.rglob("*"):
        if path.suffix == ".db":
            with closing(sqlite3.connect(path)) as connection:
                found[path] = [*connection.iterdump()]
        elif path.is_file() and ".db-" not in path.name:
            found[path] = path.read_bytes()
    return found


def addresses(folder):
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        found = connection.execute(
            "SELECT artifact_location FROM experiments WHERE name = 'small' UNION ALL SELECT artifact_uri FROM runs"
        ).fetchall()
    return [address for (address,) in found]


def test_a_copys_new_files_lie_in_the_copy_and_the_original_is_untouched(original):
    _, without = fill(original)
    copy = original.parent / "copy"
    shutil.copytree(original, copy)
    before = contents(original)
    fill(copy)
    ledger = Ledger("small", folder=copy)
    ledger.write_launch({"started_ms": 7})  # beside a run of before
    MlflowClient(ledger.uri).log_text(without, "second", "launches/2.json")
    assert contents(original) == before
    assert all(address.startswith(f"{copy.as_uri()}/mlartifacts/small") for address in addresses(copy))
    assert len([*copy.rglob("launches/*.json")]) == 5


def test_a_moved_folder_whose_old_path_cannot_be_made_is_written_to(original):
    moved = original.rename(original.parent / "moved")
    original.write_text("a file, where the folder was")
    fill(moved)
    assert len([*moved.rglob("launches/1.json")]) == 2
    assert original.is_file()


def test_following_twice_or_through_a_link_changes_nothing(original):
    before = contents(original)
    link = original.parent / "link"
    link.symlink_to(original)
    for folder in (original, link):
        follow(folder / "mlflow.db")
    assert contents(original) == before


def test_a_database_copied_alone_and_runs_left_behind_keep_their_files(original):
    copy = original.parent / "copy"
    copy.mkdir()
    for path in original.glob("mlflow.db*"):  # SQLite's log, too
        shutil.copy(path, copy)
    before = addresses(copy)
    follow(copy / "mlflow.db")
    assert addresses(copy) == before
    (copy / "mlartifacts/small").mkdir(parents=True)  # of runs that were trained here since
    follow(copy / "mlflow.db")
    stayed = [address for address in addresses(copy) if address.startswith(original.as_uri())]
    assert len(stayed) == 1  # the run whose file is there alone
    assert Path(original, "mlartifacts/small", stayed[0].split("/")[-2]).is_dir()


def test_addresses_that_are_not_ours_stay(original):
    copy = original.parent / "copy"
    shutil.copytree(original, copy)
    theirs = ("s3://bucket/mlartifacts/small", "file:///data/artifacts/small", "", "mlflow-artifacts:/1")
    for address in theirs:
        with closing(sqlite3.connect(copy / "mlflow.db")) as connection, connection:
            connection.execute("UPDATE experiments SET artifact_location = ? WHERE name = 'small'", (address,))
        before = addresses(copy)
        follow(copy / "mlflow.db")
        assert addresses(copy) == before


def test_another_sweep_whose_name_begins_alike_or_has_a_wildcard_is_left_alone(original):
    copy = original.parent / "copy"
    shutil.copytree(original, copy)
    address = f"{original.as_uri()}/mlartifacts/smallXr/1/artifacts"  # LIKE 'small_%' takes it, too
    with closing(sqlite3.connect(copy / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE runs SET artifact_uri = ?", (address,))
    follow(copy / "mlflow.db")
    assert {*addresses(copy)} == {f"{copy.as_uri()}/mlartifacts/small", address}


def test_an_empty_file_is_left_to_mlflow(tmp_path):
    file = tmp_path / "empty.db"
    file.touch()
    follow(file)
    assert file.stat().st_size == 0


@pytest.mark.parametrize(
    ("address", "below"),
    [
        ("file:///old/mlartifacts/s", "mlartifacts/s"),
        ("/old/mlartifacts/s", "mlartifacts/s"),
        ("file:///a/mlartifacts/b/mlartifacts/mlartifacts", "mlartifacts/mlartifacts"),
        ("file:///a/mlartifacts/%C3%BC%20b", "mlartifacts/ü b"),
        ("file:///a/mlartifacts/s/1/artifacts", None),
        ("s3://a/mlartifacts/s", None),
    ],
)
def test_the_folder_beside_the_database_has_the_same_names(tmp_path, address, below):
    assert beside(tmp_path / "mlflow.db", address, OF_EXPERIMENT) == (below and tmp_path / below)


def test_a_report_reads_the_copys_own_file_and_writes_nothing(original):
    copy = original.parent / "copy"
    shutil.copytree(original, copy)
    (path,) = copy.rglob("launches/1.json")
    path.write_text("the copy's")
    before = contents(copy)
    reader, _ = open_ledger(f"sqlite:///{copy}/mlflow.db".replace("%", "%25"))
    read = [reader.artifact(entry, "launches/1.json") for entry in reader.entries()]
    assert [content for content in read if content] == [b"the copy's"]
    path.unlink()
    assert b"first" in [reader.artifact(entry, "launches/1.json") for entry in reader.entries()]  # as stored
    copied = {name: content for name, content in before.items() if name != path}
    assert contents(copy) == copied


def test_a_report_finds_a_moved_folder_below_one_of_that_name(tmp_path):
    file = tmp_path / "mlartifacts/mlflow.db"
    stored = "file:///old/mlartifacts/mlartifacts/s/1/artifacts"
    assert beside(file, stored) == tmp_path / "mlartifacts/mlartifacts/s/1/artifacts"
