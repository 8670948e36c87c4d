"""Counts, time left, lines."""

import io
import json

import pytest

from l2t_ray.errors import duration
from l2t_ray.launch.placement.progress import Progress, read_progress


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def make_progress(tmp_path, clock, expected, slots=2, stream=None):
    return Progress(expected, slots, tmp_path / "progress.json", stream=stream or io.StringIO(), now=clock)


def test_the_time_left_is_unknown_until_something_was_measured(tmp_path, clock):
    progress = make_progress(tmp_path, clock, {str(n): ("shape", None) for n in range(4)})
    assert progress.eta_s() is None
    assert "time left unknown" in progress.line()
    progress.ended("0", "finished", "", wall_s=10.0)
    assert progress.eta_s() == 3 * 10 / 2  # three runs on two slots
    progress.reached("1", 0.5)
    assert progress.eta_s() == 2.5 * 10 / 2
    assert progress.line() == "1 of 4 runs ended (1 finished), 0 running, 12 s left, after 0 s"


def test_the_time_left_is_never_less_than_the_longest_run(tmp_path, clock):
    progress = make_progress(tmp_path, clock, {"long": ("a", 100.0), "short": ("b", 10.0)})
    assert progress.eta_s() == 100.0


def test_durations_of_the_ledger_give_way_to_those_of_this_launch(tmp_path, clock):
    progress = make_progress(tmp_path, clock, {"0": ("a", 100.0), "1": ("a", 100.0)}, slots=1)
    progress.ended("0", "finished", "", wall_s=7.0)
    assert progress.eta_s() == 7.0


def test_a_failure_is_told_at_once_with_its_reason(tmp_path, clock):
    stream = io.StringIO()
    progress = make_progress(tmp_path, clock, {"0": ("a", None), "1": ("a", None)}, stream=stream)
    progress.ended("0", "failed", "ValueError: boom (mine.py:3 in f)", wall_s=0.0)
    progress.ended("1", "diverged", "loss is nan in epoch 3", wall_s=0.0)
    text = stream.getvalue()
    assert "run 0 failed: ValueError: boom (mine.py:3 in f)" in text
    assert "run 1 diverged: loss is nan in epoch 3" in text
    assert progress.line().startswith("2 of 2 runs ended (1 diverged, 1 failed), 0 running, after")


def test_off_a_terminal_there_is_a_line_every_half_minute(tmp_path, clock):
    stream = io.StringIO()
    with make_progress(tmp_path, clock, {"0": ("a", 100.0)}, stream=stream) as progress:
        for clock.now_s in range(0, 95):
            progress.tick()
        lines = stream.getvalue().splitlines()
    assert [line.rsplit("after ")[-1] for line in lines] == ["30 s", "60 s", "2 min"]


def test_another_process_reads_the_state_while_it_lasts(tmp_path, clock):
    file = tmp_path / "progress.json"
    with make_progress(tmp_path, clock, {"0": ("a", 8.0)}) as progress:
        progress.n_running = 1
        progress.tick()
        state = read_progress(file)
        assert (state["total"], state["running"], state["finished"], state["eta_s"]) == (1, 1, 0, 8.0)
    assert read_progress(file) is None
    file.write_text(json.dumps(3))
    assert read_progress(file) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1.5 h"), (172800, "2.0 days")],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_a_search_counts_at_most_what_it_may_still_ask_for(tmp_path, clock):
    progress = make_progress(tmp_path, clock, {}, slots=1)
    progress.expect("0", "shape", None)
    progress.n_further = 5
    assert progress.eta_s() is None
    progress.ended("0", "finished", "", wall_s=2.0)
    assert progress.eta_s() == 10.0
    assert progress.line().startswith("1 of at most 6 runs ended (1 finished), 0 running, 10 s left")
    progress.n_further = 0
    assert progress.line().startswith("1 of 1 runs ended (1 finished), 0 running, after")
