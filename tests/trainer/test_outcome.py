"""A trainer's results: a map of numbers with the metric, else a line that says what to do. Output in bounded memory."""

import math
import re

import numpy as np
import pytest

from l2t_ray.trainer.outcome import ResultError, divergence, number, results
from l2t_ray.trainer.output import HEAD_CHARACTERS, TAIL_CHARACTERS, Output


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (None, "must be a map of names to numbers, got None; return e.g. {'error': 1.0}"),
        ("0.5", "must be a map of names to numbers, got '0.5'"),
        (0.5, "must be a map of names to numbers, got 0.5"),
        ({}, "must have 'error', which counts, got none; add it, or correct `metric:`"),
        ({"eror": 1.0}, "must have 'error', which counts, got eror"),
        ({"error": "1.0"}, "error must be a number, got '1.0'"),
        ({"error": True}, "error must be a number, got True"),
        ({"error": [1.0, 2.0]}, "error must be a number, got [1.0, 2.0]"),
    ],
)
def test_what_is_no_result_is_told_with_the_law_and_the_remedy(found, told):
    with pytest.raises(ResultError) as error:
        results(found, "error", "mine", print)
    assert str(error.value).startswith("mine: ")
    assert told in str(error.value)


def test_numbers_of_arrays_are_numbers():
    found = results({"error": np.float32(0.5), "n": np.int64(3), "one": np.array([2.0])[0]}, "error", "mine", print)
    assert found == {"error": 0.5, "n": 3.0, "one": 2.0}
    assert number("a", np.array(1.5), "mine") == 1.5


def test_names_that_every_run_has_are_left_out_with_a_line():
    told = []
    assert results({"error": 1.0, "seed": 3, "method": "a", "n": 2}, "error", "mine", told.append) == {
        "error": 1.0,
        "n": 2.0,
    }
    assert told == ["l2t-ray: left out of the results, as every run has its own: seed, method\n"]
    with pytest.raises(ResultError, match=r"^context.log: a result must not be called wall_s"):
        number("wall_s", 1.0, "context.log")


def test_a_metric_that_is_not_finite_is_a_divergence_and_another_result_is_not():
    assert divergence({"error": math.nan}, "error") == "error is nan"
    assert divergence({"error": -math.inf}, "error") == "error is -inf"
    assert divergence({"error": 1.0, "auc": math.nan}, "error") == ""


def test_a_gigabyte_of_output_keeps_its_beginning_and_its_end():
    output = Output()
    output.write("begins\n")
    for _ in range(1000):
        output.write("x" * 1_000_000)
    output.write("\nends")
    assert output.text.startswith("begins\n")
    assert output.text.endswith("x\nends")
    assert len(output.text) < HEAD_CHARACTERS + TAIL_CHARACTERS + 100
    n_dropped = int(re.search(r"\n\.\.\. ([\d,]+) characters are left out \.\.\.\n", output.text)[1].replace(",", ""))
    n_told = len(f"\n... {n_dropped:,} characters are left out ...\n")
    assert n_dropped + len(output.text) - n_told == 7 + 10**9 + 5


def test_short_output_is_kept_as_it_is():
    output = Output()
    with output.captured():
        print("one")
        with output.released():
            pass
        print("two")
    assert output.text == "one\ntwo\n"
