"""Results in the spool: changed, copied, of an earlier version."""

import json
import shutil

import pytest

from l2t_ray.ledger.spool import Record
from tests.support.ledgers import finished_ids
from tests.support.records import Ended, make_run


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text[:-20], "Unterminated string"),
        (lambda text: text.replace("0.25", "0.75"), "its checksum does not match"),
        (lambda text: "[" * 100_000, "recursion"),
        (lambda text: "[]", "it is no map"),
        (lambda text: edited(text, metrics={"a": [[1, "high"]]}), "metrics.a.0.1: "),
        (lambda text: edited(text, end_ms="x"), "end_ms: "),
        (lambda text: edited(text, params={"lr": 1}), "params.lr: "),
        (lambda text: edited(text, outcome="Finished"), "outcome: "),
        (lambda text: edited(text, key="../../escaped"), "key: "),
        (
            lambda text: edited(text, artifacts={"../../escaped": "aGk="}),
            "must be the name of a file, got '../../escaped'",
        ),
        (lambda text: edited(text, artifacts={"x.txt": "%%%"}), "artifacts: "),
        (lambda text: edited(text, unknown=1), "unknown: "),
    ],
)
def test_a_spool_file_that_somebody_changed_is_left_and_told(ledger, caplog, change, told):
    run, other = make_run(12), make_run(13)
    for one in (run, other):
        ledger.record(one, Ended(one.key, metrics={"a": [(1, 0.25)]}), "cell")
    path = ledger.spool.folder / f"{run.key}.json"
    path.write_text(change(path.read_text()))
    assert ledger.flush() == 1
    assert f"{path}: must be the JSON that was spooled (" in caplog.text
    assert told in caplog.text
    assert [*finished_ids(ledger, [run.key, other.key])] == [other.key]


def edited(text, **values):
    """A record with other values, and without a checksum, as earlier versions wrote it."""
    return json.dumps({**{k: v for k, v in json.loads(text).items() if k != "sha256"}, **values})


def test_a_spool_file_without_a_checksum_is_of_an_earlier_version_and_read(ledger):
    run = make_run(14)
    record = ledger.record(run, Ended(run.key, metrics={"a": [(1, 0.25)]}), "cell")
    (path,) = ledger.spool.paths()
    path.write_text(edited(path.read_text()))
    assert [*ledger.spool.records()] == [record]


def test_copies_under_other_names_are_written_once_and_leave_nothing(ledger):
    run, moved = make_run(15), make_run(16)
    for one in (run, moved):
        ledger.record(one, Ended(one.key, metrics={"a": [(1, 0.25)]}), "cell")
    path = ledger.spool.folder / f"{run.key}.json"
    shutil.copy(path, path.with_name(f"{run.key} (1).json"))
    (ledger.spool.folder / f"{moved.key}.json").rename(ledger.spool.folder / "renamed.json")
    assert ledger.flush() == 0
    assert ledger.spool.paths() == []
    assert len([entry for entry in ledger.entries() if entry.key == run.key]) == 1
    assert {*finished_ids(ledger, [run.key, moved.key])} == {run.key, moved.key}


def test_a_spooled_record_comes_back_equal(ledger):
    run = make_run(13)
    record = ledger.record(run, Ended(run.key, metrics={"train_loss": [(1, float("nan"))], "a": [(2, 0.1)]}), "cell")
    (read,) = ledger.spool.records()
    assert str(read) == str(record)  # nan is not equal to itself
    assert isinstance(read, Record)
