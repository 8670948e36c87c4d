"""Two runs of a cell with the same error stop the cell; the queue then drops its other runs."""

import pytest

from l2t_ray.launch.cluster.stops import Stops, kind
from tests.support.queues import make_queue, make_run, take

ERROR = "ValueError: boom {} (mine.py:14 in weights)"


def test_errors_are_the_same_by_their_name_and_place():
    assert kind(ERROR.format(1)) == kind(ERROR.format("22: of (3)"))
    assert kind(ERROR.format(1)) != kind(ERROR.format(1).replace("14", "15"))
    assert kind(ERROR.format(1)) != kind(ERROR.format(1).replace("Value", "Key"))
    assert kind("a; b") == kind("a; b") != kind("a; c")


@pytest.mark.parametrize(
    ("raised", "stopped"),
    [
        ([("a", 1)], []),
        ([("a", 1), ("a", 1)], []),  # one run twice
        ([("a", 1), ("b", 2)], ["first"]),
        ([("a", 1), ("c", 1)], []),  # of two cells
        ([("a", 1), ("b", 1), ("c", 1), ("d", 1)], ["first", "second"]),
        ([("a", 1), ("b", 1), ("a", 1), ("b", 1)], ["first"]),  # told once
    ],
)
def test_the_second_run_with_an_error_stops_its_cell(raised, stopped):
    told = []
    stops = Stops({"a": "first", "b": "first", "c": "second", "d": "second"}, lambda cell, reason: told.append(cell))
    for key, number in raised:
        stops.raised(key, ERROR.format(number))
    assert told == stopped
    assert ("b" in stops) is ("first" in stopped)


def test_nothing_is_stopped_where_that_is_not_wanted():
    stops = Stops({"a": "cell", "b": "cell"}, None)
    for key in "ab":
        stops.raised(key, ERROR)
    assert "a" not in stops


def stopping(folder, seeds, retries=2, **more):
    runs = [make_run(seed) for seed in range(seeds)]
    queue, ends = make_queue(folder, runs, retries=retries, pack=1)
    dropped = []
    cells = {run.key: "cell" for run in runs} | more.get("cells", {})
    queue._stops, queue._on_drop = Stops(cells, lambda cell, reason: None), lambda run: dropped.append(run.seed)
    return queue, ends, dropped


def test_a_stopped_cells_waiting_runs_are_dropped_and_the_raising_ones_have_failed(tmp_path):
    queue, ends, dropped = stopping(tmp_path, 6)
    first, second = take(queue, "t0"), take(queue, "t1")
    queue.fail("t0", ERROR.format(0), trace="all lines")
    assert ends == []  # it waits for another attempt
    queue.fail("t1", ERROR.format(1), trace="all lines")
    assert sorted(ends) == sorted((seeds[0], "failed", ERROR.format(n)) for n, seeds in enumerate((first, second)))
    assert sorted(dropped) == sorted({*range(6)} - {*first, *second})
    assert queue.suggest("t2") == "FINISHED"


def test_other_errors_and_those_of_the_machine_stop_no_cell(tmp_path):
    queue, ends, dropped = stopping(tmp_path, 4, retries=0)
    for trial, (reason, machine) in enumerate([("A: x (m:1)", False), ("B: x (m:1)", False), ("C", True), ("C", True)]):
        take(queue, f"t{trial}")
        queue.fail(f"t{trial}", reason, machine=machine)
    assert len(ends) == 4
    assert dropped == []
