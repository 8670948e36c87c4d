"""The time left: closed forms of the makespan, what is carried over, what is overdue, and recorded launches."""

import itertools
import json
from collections import Counter

import pytest

from l2t_ray.launch.placement.eta import Forecast, Lane, makespan
from tests.support.clock import Clock
from tests.support.places import ROOT

CARD = "card"


@pytest.fixture
def clock():
    return Clock()


def make_forecast(clock, run_s, *, n_slots=1, pack=1, rough=()):
    """A forecast of shapes with the expected seconds of a run."""
    return Forecast(lambda shape: [Lane(CARD, n_slots, pack, run_s[shape], shape in rough)], now=clock)


def train(forecast, clock, shape, train_s, *, around_s=0.0, name="p", n_runs=1, n_slots=1):
    """A pack from begin to end."""
    forecast.began(name, shape, CARD, n_runs, n_slots)
    clock.now_s += train_s + around_s
    forecast.ended(name, train_s)


@pytest.mark.parametrize(
    ("n_runs", "n_slots", "pack", "expected_s"),
    [
        (7, 1, 1, 7 * 10),
        (7, 2, 1, 4 * 10),  # ceil(7 / 2) rounds
        (64, 64, 1, 10),
        (8, 2, 4, 40),  # two packs of four at once
        (5, 2, 4, 30),  # packs get smaller towards the end: 3 and 1 at once, then 1
        (9, 2, 4, 50),  # 4 and 3, then 1 after the shorter one, and 1 after the longer one
    ],
)
def test_equal_runs_take_as_many_rounds_as_slots_need(n_runs, n_slots, pack, expected_s):
    assert makespan([], {"a": n_runs}, {"a": [Lane(CARD, n_slots, pack, 1)]}, {("a", CARD): (0, 10)}) == expected_s


def test_what_is_around_a_pack_is_paid_once_a_pack():
    assert makespan([], {"a": 8}, {"a": [Lane(CARD, 1, 4, 1)]}, {("a", CARD): (3, 10)}) == 2 * (3 + 4 * 10)


def test_the_next_pack_begins_where_one_ends_first():
    running = [(25.0, CARD, 0.5), (5.0, CARD, 0.5)]
    lanes = {"a": [Lane(CARD, 2, 1, 1)]}
    assert makespan(running, {}, {}, {}) == 25
    assert makespan(running, {"a": 2}, lanes, {("a", CARD): (0, 10)}) == 25  # 5 to 15, 15 to 25
    assert makespan(running, {"a": 3}, lanes, {("a", CARD): (0, 10)}) == 35


def test_packs_of_unlike_shares_take_their_room_of_a_device():
    lanes = {"whole": [Lane(CARD, 1, 1, 1)], "half": [Lane(CARD, 2, 1, 1)]}
    seconds = {("whole", CARD): (0, 10), ("half", CARD): (0, 4)}
    assert makespan([], {"whole": 1, "half": 2}, lanes, seconds) == 14
    assert makespan([(6, CARD, 0.5)], {"whole": 1}, lanes, seconds) == 16  # it waits for the other half


def test_unlike_devices_work_side_by_side():
    lanes = {"a": [Lane("fast", 1, 1, 1), Lane("slow", 1, 1, 1)]}
    seconds = {("a", "fast"): (0, 10), ("a", "slow"): (0, 30)}
    assert makespan([], {"a": 4}, lanes, seconds) == 30  # three and one


def test_nothing_is_known_until_something_has_ended_or_shown_its_pace(clock):
    forecast = make_forecast(clock, {"a": None, "b": None})
    assert forecast.eta({"a": 3}) is None
    forecast.began("p", "a", CARD, 1, 1)
    assert forecast.eta({"a": 2}) is None
    for epoch in (0, 1):
        clock.now_s += 5
        forecast.reached("p", epoch, 5)
    assert forecast.eta({"a": 2, "b": 1}) is None
    assert forecast.eta({"a": 2}).left_s == 4 * 5 + 2 * 25
    clock.now_s += 20
    forecast.ended("p", 25.0)
    assert forecast.eta({"a": 2, "b": 1}).left_s == pytest.approx(2 * 30 + 30)  # 5 s of start-up each


def test_what_was_observed_is_carried_over_to_shapes_not_seen(clock):
    forecast = make_forecast(clock, {"a": 10.0, "b": 4.0})
    assert forecast.eta({"a": 2, "b": 5}).left_s == 2 * 10 + 5 * 4
    train(forecast, clock, "a", 30.0)
    assert forecast.eta({"a": 1, "b": 5}).left_s == 30 + 5 * 4 * 3


def test_start_up_does_not_grow_with_the_training(clock):
    """A run of nothing that takes 0.1 s around it says nothing about a run of a minute."""
    forecast = make_forecast(clock, {"nothing": 0.001, "minute": 60.0})
    train(forecast, clock, "nothing", 0.001, around_s=0.1)
    assert forecast.eta({"minute": 1}).left_s == pytest.approx(60.1)


def test_the_time_from_one_pack_to_the_next_belongs_to_the_next(clock):
    forecast = make_forecast(clock, {"a": 10.0})
    train(forecast, clock, "a", 10.0)
    clock.now_s += 6
    train(forecast, clock, "a", 10.0)
    assert forecast.eta({"a": 1}).left_s == 10 + 6 / 2


def test_arithmetic_alone_counts_once_its_error_is_known(clock):
    forecast = make_forecast(clock, {"a": 10.0, "b": 20.0}, rough={"a", "b"})
    assert forecast.eta({"a": 1, "b": 1}) is None
    train(forecast, clock, "a", 1.0)
    assert forecast.eta({"b": 1}).left_s == 2.0


def test_a_run_resumed_from_its_checkpoint_says_how_long_a_whole_one_takes(clock):
    forecast = make_forecast(clock, {"a": None})
    forecast.began("p", "a", CARD, 1, 1)
    clock.now_s = 30
    forecast.ended("p", 300.0)  # of which 270 in an earlier launch
    assert forecast.eta({"a": 1}).left_s == 300


def test_a_long_run_is_told_by_its_own_pace(clock):
    forecast = make_forecast(clock, {"a": 1000.0})
    forecast.began("p", "a", CARD, 1, 1)
    for epoch in (0, 20):
        clock.now_s += 600
        forecast.reached("p", epoch, 100)
    assert forecast.eta({}).left_s == 0.8 * 3000
    assert forecast.eta({"a": 2}).left_s == 0.8 * 3000 + 2 * 3000


def test_a_frozen_pack_makes_the_time_left_grow(clock):
    """The old estimate stood still: "12 s left" for three minutes."""
    forecast = make_forecast(clock, {"a": 12.0})
    train(forecast, clock, "a", 12.0)
    forecast.began("q", "a", CARD, 1, 1)
    left = []
    for _ in range(180):
        clock.now_s += 1
        left.append(forecast.eta({}).left_s)
    assert left[:6] == [11, 10, 9, 8, 7, 6]
    assert left[-1] > 150
    assert all(b > a for a, b in itertools.pairwise(left[12:]))


def test_a_pack_that_freezes_in_the_middle_grows_too(clock):
    forecast = make_forecast(clock, {"a": 600.0})
    forecast.began("p", "a", CARD, 1, 1)
    for epoch in range(31):
        forecast.reached("p", epoch, 60)
        clock.now_s += 10
    before = forecast.eta({}).left_s
    clock.now_s += 100
    after = forecast.eta({}).left_s
    clock.now_s += 100
    assert before == pytest.approx(290)
    assert after > before + 80
    assert forecast.eta({}).left_s == after + 100


def test_a_range_gets_narrower_with_what_was_seen(clock):
    forecast = make_forecast(clock, {"a": 10.0, "b": 10.0})
    widths = []
    for _ in range(3):
        eta = forecast.eta({"a": 10, "b": 10})
        assert eta.low_s < eta.left_s < eta.high_s
        widths.append(eta.high_s / eta.low_s)
        train(forecast, clock, "a" if len(widths) < 2 else "b", 10.0)
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 2 * widths[-1]


def test_an_uneven_machine_has_a_wider_range(clock):
    spreads = []
    for times in ([10.0, 10.0, 10.0, 10.0], [4.0, 16.0, 4.0, 16.0]):
        forecast = make_forecast(clock, {"a": 10.0})
        for train_s in times:
            train(forecast, clock, "a", train_s)
        eta = forecast.eta({"a": 10})
        spreads.append(eta.high_s / eta.low_s)
    assert spreads[0] < spreads[1]


def predictions(record):
    """(elapsed, left, low, high) of a recorded launch, every two seconds."""
    clock, waiting = Clock(), Counter(record["runs"])
    lanes = {shape: [Lane(**lane) for lane in found] for shape, found in record["lanes"].items()}
    forecast = Forecast(lanes.__getitem__, now=clock)
    told, due_s = [], record["events"][0][0]
    for at_s, what, *given in record["events"]:
        if what == "eta":
            continue
        while due_s < at_s:
            clock.now_s = due_s
            eta = forecast.eta(+waiting)
            told.append((due_s, eta.left_s, eta.low_s, eta.high_s))
            due_s += 2
        clock.now_s = at_s
        getattr(forecast, what)(*given)
        if what == "began":
            waiting[given[1]] -= given[3]
    return told


@pytest.mark.parametrize("name", ["launch_alone", "launch_under_load"])
def test_a_recorded_launch_is_predicted_within_a_quarter_from_a_fifth_on(name):
    """The quick start on 2 cores (`benchmarks.bench_eta`); expected times were those of another machine."""
    record = json.loads((ROOT / "tests" / "fixtures" / f"{name}.json").read_text())
    wall_s, told = record["wall_s"], predictions(record)
    late = [row for row in told if row[0] >= wall_s / 5]
    assert len(late) > 40
    assert max(abs(at + left_s - wall_s) / wall_s for at, left_s, *_ in late) < 0.25
    assert sum(low_s <= wall_s - at <= high_s for at, _, low_s, high_s in late) > 0.85 * len(late)


def test_where_the_training_is_nothing_its_scatter_widens_no_range(clock):
    forecast = make_forecast(clock, {"a": None})
    for train_s in (1e-6, 3e-5, 2e-6, 8e-5, 1e-6):  # runs of a trainer that returns at once
        train(forecast, clock, "a", train_s, around_s=0.05)
    eta = forecast.eta({"a": 1000})
    assert eta.left_s == pytest.approx(50, rel=0.01)
    assert 25 < eta.low_s < eta.high_s < 100
