"""A command's file of results: what is wrong with its metric is told; what else is no number is left out."""

import json

import pytest

from l2t_ray.trainer.command import _content
from l2t_ray.trainer.outcome import ResultError, results


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"rmse": "0.5"}, "results.json: rmse must be a number, got '0.5'"),
        ({"rmse": None}, "results.json: rmse must be a number, got None"),
        ({"rmse": True}, "results.json: rmse must be a number, got True"),
        ({"rmse": {"test": 0.5}}, "results.json: rmse must be a number, got {'test': 0.5}"),
        ({"rmse": 10**400}, "results.json: rmse must be a number, got 1000000"),
        ({"test": {"rmse": 0.5}, "mae": 1}, "must have 'rmse', which counts, got test, mae"),
    ],
)
def test_a_metric_that_is_no_number_is_told_as_it_is(tmp_path, written, told):
    (tmp_path / "results.json").write_text(json.dumps(written))
    with pytest.raises(ResultError) as error:
        results(_content(tmp_path / "results.json", "results.json", "rmse"), "rmse", "results.json", print)
    assert told in str(error.value)


def test_what_nests_too_deep_is_told(tmp_path):
    (tmp_path / "results.json").write_text("[" * 200_000)
    with pytest.raises(ResultError, match=r"^results.json: must be a JSON file of names and numbers, got .*"):
        _content(tmp_path / "results.json", "results.json", "rmse")


def test_a_command_that_removes_its_folder_is_told(tmp_path):
    with pytest.raises(ResultError, match=r"must be written by the command, in the folder where it runs, got nothing"):
        _content(tmp_path / "gone" / "results.json", "results.json", "rmse")


def test_what_else_is_no_number_is_left_out(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({"rmse": 0.5, "name": "x", "ok": True, "n": 3}))
    assert _content(tmp_path / "results.json", "results.json", "rmse") == {"rmse": 0.5, "n": 3}
