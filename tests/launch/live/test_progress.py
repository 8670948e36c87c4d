"""Counts, the time left, lines of a log, and what another process reads."""

import io
import json

import pytest

from l2t_ray.errors import duration
from l2t_ray.launch.live.cells import Cells
from l2t_ray.launch.live.progress import Progress
from l2t_ray.launch.live.view import View
from l2t_ray.launch.placement.eta import Forecast, Lane
from l2t_ray.statistics.means import mean_interval
from tests.support.clock import Clock


@pytest.fixture
def clock():
    return Clock()


def make_progress(tmp_path, clock, keys, run_s=None, slots=2, stream=None, **more):
    """A launch of runs of one shape in one cell."""
    forecast = Forecast(lambda shape: [Lane("cpu", slots, 1, run_s)], now=clock)
    cells = more.pop("cells", None) or Cells(dict.fromkeys(keys, "digits/1/ufm"))
    stream = stream or io.StringIO()
    progress = Progress("tiny", cells, forecast, tmp_path / "progress.json", stream=stream, now=clock, **more)
    for key in keys:
        progress.expect(key, "shape")
    return progress


def train(progress, clock, key, wall_s, status="finished", reason="", accuracy=None):
    progress.began(f"pack of {key}", [key], "shape", "cpu", 2)
    clock.now_s += wall_s
    metrics = {} if accuracy is None else {"test_accuracy_percent": [(1, 9.0), (5, accuracy)]}
    progress.ended(key, status, reason, wall_s, metrics)
    progress.stopped(f"pack of {key}")


def test_the_time_left_is_unknown_until_something_was_measured(tmp_path, clock):
    progress = make_progress(tmp_path, clock, "0123")
    assert progress.eta() is None
    assert progress.view().line == "0 of 4 runs ended, 0 running, time left unknown, after 0 s"
    train(progress, clock, "0", 10.0)
    assert progress.eta().left_s == 20.0  # three runs on two slots
    progress.began("p", ["1"], "shape", "cpu", 2)
    assert progress.view().line == "1 of 4 runs ended (1 finished), 1 running, 20 s left (12 to 32 s), after 10 s"


def test_a_range_in_two_units_names_both(tmp_path, clock):
    progress = make_progress(tmp_path, clock, "01", run_s=100.0, slots=1)
    assert progress.view().time_left == "3 min left (63 s to 11 min)"


def test_runs_of_a_pack_that_has_lost_its_process_wait_again(tmp_path, clock):
    progress = make_progress(tmp_path, clock, "01", run_s=10.0, slots=1)
    progress.began("p", ["0"], "shape", "cpu", 1)
    clock.now_s = 5.0
    assert (progress.n_running, progress.eta().left_s) == (1, 15.0)
    progress.stopped("p")
    progress.stopped("never started")
    assert (progress.n_running, progress.eta().left_s) == (0, 20.0)


def test_a_run_that_is_dropped_is_no_longer_counted(tmp_path, clock):
    progress = make_progress(tmp_path, clock, "012", run_s=10.0, slots=1)
    progress.began("p", ["0", "1"], "shape", "cpu", 1)
    progress.drop("1")
    progress.drop("2")
    progress.ended("0", "failed", "boom", 0.0)
    progress.stopped("p")
    assert progress.view().line == "1 of 1 runs ended (1 failed), 0 running, after 0 s"
    assert progress.eta().left_s == 0


def test_a_failure_is_told_at_once_with_its_reason(tmp_path, clock):
    stream = io.StringIO()
    progress = make_progress(tmp_path, clock, "01", stream=stream)
    train(progress, clock, "0", 0.0, "failed", "ValueError: boom (mine.py:3 in f)")
    train(progress, clock, "1", 0.0, "diverged", "loss is nan in epoch 3")
    text = stream.getvalue()
    assert "run 0 failed: ValueError: boom (mine.py:3 in f)" in text
    assert "run 1 diverged: loss is nan in epoch 3" in text
    assert progress.view().line.startswith("2 of 2 runs ended (1 diverged, 1 failed), 0 running, after")


def test_off_a_terminal_there_is_a_line_every_half_minute(tmp_path, clock):
    stream = io.StringIO()
    with make_progress(tmp_path, clock, "0", 100.0, stream=stream) as progress:
        for clock.now_s in range(0, 95):
            progress.tick()
        lines = stream.getvalue().splitlines()
    assert [line.rsplit("after ")[-1] for line in lines] == ["30 s", "60 s", "2 min"]


def test_another_process_reads_the_state_while_it_lasts(tmp_path, clock):
    file = tmp_path / "progress.json"
    with make_progress(tmp_path, clock, "0", 8.0, notes=["mind this"], links={"pages": "l2t ui tiny"}) as progress:
        progress.began("p", ["0"], "shape", "cpu", 2)
        clock.now_s = 6.0
        progress.tick()
        assert View.read(file) == progress.view()
        assert (progress.view().n_running, progress.view().eta.left_s, progress.view().ended_s) == (1, 2.0, None)
        assert json.loads(file.read_bytes())["line"] == progress.view().line
    assert View.read(file) is None
    for content in ("3", "{}", '{"line": 1, "cells": [{"name": 2}]}', "{cut off"):
        file.write_text(content)
        assert View.read(file) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1.5 h"), (172800, "2.0 days")],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_a_search_counts_at_most_what_it_may_still_ask_for(tmp_path, clock):
    progress = make_progress(tmp_path, clock, "", slots=1, cells=Cells({"example": "study"}))
    progress.n_further = 6
    assert progress.eta() is None
    progress.expect("0", "shape", "study")
    progress.n_further = 5
    assert progress.eta() is None
    train(progress, clock, "0", 2.0)
    assert progress.eta().left_s == 10.0
    assert progress.view().line.startswith("1 of at most 6 runs ended (1 finished), 0 running, 10 s left")
    progress.n_further = 0
    assert progress.view().line.startswith("1 of 1 runs ended (1 finished), 0 running, after")


def test_cells_begin_with_the_ledger_and_take_the_means_of_the_report(tmp_path, clock):
    wanted = dict.fromkeys("abcd", "one") | dict.fromkeys("xyz", "two")
    cells = Cells(wanted, finished=["a"], failed=["b", "x"], accuracies={"a": 80.0})
    progress = make_progress(tmp_path, clock, "bcd", 1.0, cells=cells)
    train(progress, clock, "b", 1.0, accuracy=84.0)  # tried again
    train(progress, clock, "c", 1.0, "diverged", "loss is nan")
    progress.began("p", ["d"], "shape", "cpu", 2)
    one, two = progress.view().cells
    assert (one.cell, one.n_wanted, one.n_finished, one.n_running, one.n_failed) == ("one", 4, 2, 1, 1)
    found = mean_interval([80.0, 84.0])
    assert (one.mean, one.half_width) == (found.mean, found.half_width)
    assert (two.n_wanted, two.n_finished, two.n_failed, two.mean, two.half_width) == (3, 0, 1, None, None)
