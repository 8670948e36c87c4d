"""Shapes, and shares of devices by measured speed and memory."""

import pytest

from l2t_ray import registry
from l2t_ray.config import Execution, Run
from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import Group
from l2t_ray.launch.placement.measurements import Crowd, Figure, Figures, Speed
from l2t_ray.launch.placement.packing import choose_share, habits, shape, shapes, slowdown, speed_shape, times
from l2t_ray.launch.placement.plan import make_plan
from l2t_ray.ledger.entries import Entry

GIB = 2**30


class Described:
    name, uses, options = "described", frozenset({"source", "transfer"}), {}


@pytest.fixture(autouse=True)
def method(monkeypatch):
    monkeypatch.setitem(registry.METHODS, "described", Described())


def make_run(seed=0, samples=10, **settings):
    data = {"name": "digits", "samples_per_class": samples}
    return Run.model_validate({"data": data, "method": "described", "seed": seed, **settings})


def test_runs_that_differ_in_seed_or_scalars_have_one_shape():
    one = shape(make_run())
    assert shape(make_run(seed=7)) == one
    assert shape(make_run(training={"lr": 0.3, "momentum": 0.0, "weight_decay": 1.0})) == one
    assert shape(make_run(transfer={"beta": 2.0, "meta_lr": 1.0})) == one


@pytest.mark.parametrize(
    "settings",
    [
        {"samples": 11},
        {"training": {"epochs": 3}},
        {"training": {"batch_size": 3}},
        {"transfer": {"look_ahead_steps": 3}},
        {"target": {"width": 0.5}},
    ],
    ids=str,
)
def test_runs_that_cost_otherwise_have_another_shape(settings):
    assert shape(make_run(**settings)) != shape(make_run())


def test_the_speed_of_an_epoch_does_not_depend_on_their_number():
    assert speed_shape(make_run(training={"epochs": 3})) == speed_shape(make_run(training={"epochs": 30}))
    assert speed_shape(make_run(record={"evaluations": 3})) == speed_shape(make_run())
    assert speed_shape(make_run(samples=11)) != speed_shape(make_run())


def cards(n=1, memory_gib=24, cores=8.0, device="d"):
    return Group(device, n, memory_gib * GIB, cores, is_gpu=True)


def machine(cores=8.0, memory_gib=16, device="cpu"):
    return Group(device, 1, memory_gib * GIB, cores, is_gpu=False)


@pytest.mark.parametrize(
    ("execution", "group", "slots", "cpus", "gpus"),
    [
        ({}, machine(8), 8, 1.0, 0.0),
        ({"threads": 4}, machine(8), 2, 4.0, 0.0),
        ({"threads": 4}, machine(2), 1, 2.0, 0.0),  # more threads than cores still run
        ({}, cards(1, cores=16), 4, 1.0, 0.25),
        ({}, cards(1, cores=2), 4, 0.5, 0.25),  # few cores do not leave the card idle
        ({"gpu_share": 1.0}, cards(2), 2, 1.0, 1.0),
        ({"gpu_share": 0.33}, cards(2), 6, 1.0, 1 / 3),
    ],
)
def test_unmeasured_shares_fill_the_devices(execution, group, slots, cpus, gpus):
    share = choose_share(Execution(**execution), group)
    assert (share.slots, share.cpus, share.gpus, share.pack) == (slots, cpus, gpus, 1)
    assert share.slots * share.cpus <= max(group.cores * group.n_devices, share.threads)
    assert share.slots * share.gpus <= group.n_devices + 1e-9


def figure(epochs, crowds=(), gib=1.0, **more):
    """Packs of 1, 2, 4, ... runs whose epochs take so many seconds, each run taking so much memory."""
    speeds = tuple(Speed(2**i, epoch_s, 0.0, int(gib * 2**i * GIB)) for i, epoch_s in enumerate(epochs))
    return Figure(speeds, tuple(Crowd(k, 1, slower) for k, slower in crowds), context_bytes=GIB // 2, **more)


@pytest.mark.parametrize(
    ("measured", "group", "execution", "expected"),
    [
        (figure([1.0, 1.0, 1.0, 2.0]), cards(), {}, (4, 1)),  # 8 runs take twice as long as 4: as fast, so the smaller
        (figure([1.0, 1.0, 1.0, 1.0]), cards(memory_gib=5), {}, (4, 1)),  # 8 do not fit
        (figure([1.0, 1.9], [(2, 1.0), (4, 2.0)]), cards(), {}, (2, 2)),  # 4 processes gain nothing over 2
        (figure([1.0, 2.0], [(2, 1.0), (4, 1.0)]), cards(), {}, (1, 4)),
        (figure([1.0, 2.0], [(2, 1.0), (4, 1.0)]), cards(memory_gib=4), {}, (1, 2)),
        (figure([1.0, 2.0], [(2, 1.0), (4, 1.0)]), cards(cores=1.0), {}, (1, 2)),  # half a core a process at the least
        (figure([1.0, 1.0], [(2, 1.0)]), cards(), {"pack": 1}, (1, 2)),
        (figure([1.0, 1.0], [(2, 1.0)]), cards(), {"pack": 7}, (7, 2)),  # the file wins
        (figure([1.0, 1.0], [(2, 1.0)]), cards(), {"gpu_share": 1.0}, (2, 1)),
        (figure([1.0, 1.0, 1.0], [(2, 1.0)], most_pack=2), cards(), {}, (2, 2)),  # larger ones ran out of memory
        (figure([1.0, 1.0], [(2, 1.0)], most_processes=1), cards(), {}, (2, 1)),
        (figure([1.0, 1.5, 2.95], gib=0.1), machine(4), {}, (1, 4)),  # bitwise the same however it is interrupted
        (figure([1.0, 1.5, 2.95], gib=0.1), machine(4), {"pack": 2}, (2, 4)),
        (figure([1.0, 2.0], gib=3.0), machine(8, memory_gib=12), {}, (1, 3)),  # memory for three processes
        (figure([1.0, 2.0], gib=0.1, most_processes=2), machine(8), {}, (1, 2)),
    ],
    ids=str,
)
def test_most_runs_finish_an_hour_within_memory_and_cores(measured, group, execution, expected):
    share = choose_share(Execution(**execution), group, measured, run=make_run())
    assert (share.pack, share.processes) == expected
    if group.is_gpu:
        assert share.gpus == 1 / share.processes
        assert (
            share.processes * (share.fraction * group.memory_bytes + measured.context_bytes) <= group.memory_bytes + 1
        )


def test_no_pack_is_so_large_that_a_device_has_nothing():
    measured = figure([1.0, 1.0, 1.0, 1.0], gib=0.1)
    packs = {n: choose_share(Execution(), cards(2), measured, run=make_run(), n_runs=n).pack for n in (1, 4, 5, 100)}
    assert packs == {1: 1, 4: 2, 5: 2, 100: 8}


def test_no_pack_is_planned_with_more_runs_than_there_are_of_its_shape(tmp_path):
    measured = figure([1.0, 1.0, 1.0, 1.0], gib=0.1)
    assert choose_share(Execution(), cards(), measured, run=make_run(), n_runs=100, n_alike=5).pack == 4
    figures, few = Figures(tmp_path / "figures.json"), [make_run(seed, 3) for seed in range(3)]
    runs = [*few, *(make_run(seed) for seed in range(100))]
    for run in (runs[0], runs[-1]):
        figures.put(speed_shape(run), "d", measured)
    lanes = Lanes(Execution(), [cards()], figures, runs, {run.key: shape(run) for run in runs}, known={})
    assert [lanes.share(shape(run), cards()).pack for run in (runs[0], runs[-1])] == [2, 8]


def test_processes_that_were_not_measured_promise_nothing():
    measured = figure([1.0], [(2, 1.5)])
    assert slowdown(measured, 2, cards()) == 1.5
    assert slowdown(measured, 4, cards()) == 3.0
    assert slowdown(measured, 4, machine()) == 1.0  # cores of their own


def test_unlike_devices_get_shares_of_their_own(tmp_path):
    big, small = cards(2, 141, device="H200"), cards(1, 24, device="RTX")
    figures = Figures(tmp_path / "figures.json")
    run = make_run()
    figures.put(speed_shape(run), "H200", figure([1.0, 1.0, 1.0], [(2, 1.0), (4, 1.0)], gib=5.0))
    figures.put(speed_shape(run), "RTX", figure([3.0, 3.0, 3.0], [(2, 2.0)], gib=5.0))
    runs = [make_run(seed) for seed in range(100)]
    cells = {run.key: "cell" for run in runs}
    lanes = Lanes(Execution(), [big, small], figures, runs, cells, known={})
    name = shape(run)
    assert (lanes.share(name, big).pack, lanes.share(name, big).processes) == (4, 4)
    assert (lanes.share(name, small).pack, lanes.share(name, small).processes) == (4, 1)
    assert lanes.run_s(name, big) == (200 / 4, "measured")
    assert lanes.run_s(name, small) == (600 / 4, "measured")
    plan = make_plan({run.key: run for run in runs}, cells, [], list(cells), lanes, 10.0)
    assert [(lane.device, lane.run_s, lane.pack, lane.processes) for lane in plan.cells[0].lanes] == [
        ("H200", 50.0, 4, 4),
        ("RTX", 150.0, 4, 1),
    ]
    by_rate = 100 / (8 / 50 + 1 / 150)
    assert plan.wall_s == pytest.approx(max(by_rate, 200))
    assert plan.device_hours == pytest.approx(3 * plan.wall_s / 3600)
    assert plan.price == pytest.approx(plan.wall_s / 360)


def test_what_runs_out_of_memory_is_learned_for_later_launches(tmp_path):
    runs = [make_run(seed) for seed in range(64)]
    cells = {run.key: "cell" for run in runs}
    group, name = cards(), shape(runs[0])
    figures = Figures(tmp_path / "figures.json")
    figures.put(speed_shape(runs[0]), "d", figure([1.0, 1.0, 1.0, 1.0], [(2, 1.0)]))

    def lanes():
        return Lanes(Execution(), [group], Figures(tmp_path / "figures.json"), runs, cells, known={})

    first = lanes()
    assert (first.share(name, group).pack, first.share(name, group).processes) == (8, 2)
    first.learn(name, group, pack=4)
    assert first.share(name, group).pack == 4
    first.learn(name, group, pack=6, processes=1)  # the smaller number stays
    assert [(found.pack, found.processes) for found in (lanes().share(name, group),)] == [(4, 1)]


def make_entry(run, wall_s, device="d", status="FINISHED", **tags):
    values = {"kind": "run", "shape": shape(run), "device": device, **tags}
    return Entry("id", "sweep", status, 0, values, {"wall_s": wall_s})


def test_times_are_means_of_finished_runs_of_one_device():
    run = make_run()
    entries = [
        make_entry(run, 1.0),
        make_entry(run, 3.0),
        make_entry(run, 9.0, "e"),
        make_entry(run, 99.0, status="FAILED"),
    ]
    assert times(entries) == {(shape(run), "d"): 2.0, (shape(run), "e"): 9.0}


def test_a_failed_run_makes_no_habit():
    run = make_run()
    entries = [
        make_entry(run, 1.0, pack="8", processes="4"),
        make_entry(run, 1.0, status="FAILED", pack="16", processes="9"),
    ]
    assert habits(entries) == {(shape(run), "d"): (8, 4)}


def test_for_want_of_a_figure_runs_are_trained_as_they_were_last_time(tmp_path):
    run = make_run()
    entries = [make_entry(run, 1.0, pack="2", processes="2"), make_entry(run, 1.0, pack="8", processes="4")]
    assert habits(entries) == {(shape(run), "d"): (8, 4)}
    share = choose_share(Execution(), cards(), None, run=run, habit=(8, 4))
    assert (share.pack, share.processes, share.basis) == (8, 4, "ledger")


def test_a_plan_adds_up_and_says_what_is_unknown(tmp_path):
    runs = {run.key: run for samples in (1, 2) for run in (make_run(seed, samples) for seed in range(4))}
    cells = {key: f"digits/{run.data.samples_per_class}/described" for key, run in runs.items()}
    assert set(shapes(runs.values(), cells).items()) == {(key, shape(run)) for key, run in runs.items()}
    done, to_train = list(runs)[:1], list(runs)[1:]
    group, figures = machine(2, device="d"), Figures(tmp_path / "figures.json")
    known = {(shape(make_run(0, 1)), "d"): 3600.0}

    def plan():
        training = [runs[key] for key in to_train]
        lanes = Lanes(Execution(threads=1), [group], figures, training, cells, known=known)
        return make_plan(runs, cells, done, to_train, lanes, 2.0)

    assert [(cell.n_wanted, cell.n_finished, cell.n_to_train) for cell in plan().cells] == [(4, 1, 3), (4, 0, 4)]
    assert [[(lane.run_s, lane.basis) for lane in cell.lanes] for cell in plan().cells] == [
        [(3600.0, "ledger")],
        [(None, "")],
    ]
    assert (plan().n_unmeasured, plan().wall_s, plan().price) == (4, None, None)
    known[shape(make_run(0, 2)), "d"] = 7200.0
    work_s = 3 * 3600 + 4 * 7200
    assert (plan().work_s, plan().wall_s, plan().price) == (work_s, work_s / 2, work_s / 2 / 3600 * 2.0)
    assert plan().bases == {"ledger": 7}


def test_a_plan_takes_no_less_than_its_longest_pack(tmp_path):
    runs = {run.key: run for run in (make_run(seed) for seed in range(2))}
    cells = dict.fromkeys(runs, "cell")
    known = {(shape(make_run()), "d"): 100.0}
    lanes = Lanes(
        Execution(), [machine(64, device="d")], Figures(tmp_path / "f.json"), runs.values(), cells, known=known
    )
    assert make_plan(runs, cells, [], list(runs), lanes, None).wall_s == 100.0


@pytest.mark.parametrize(
    ("measured", "memory_gib", "expected"),
    [
        ((1.0, 1.0), 4, (1, 2)),  # three times 1 GiB and a context of half a GiB are 4.5
        ((1.0,), 3, (1, 1)),  # twice 1.5 GiB are all of it, and 0.92 of it are to be had
    ],
)
def test_contexts_and_a_rest_for_others_count_in_a_cards_memory(measured, memory_gib, expected):
    crowds = [(k, 1.0) for k, _ in enumerate(measured, start=2)]
    share = choose_share(Execution(), cards(memory_gib=memory_gib), figure([1.0], crowds), run=make_run())
    assert (share.pack, share.processes) == expected


def test_fewer_processes_than_were_measured_promise_nothing_either():
    assert slowdown(figure([1.0], [(4, 2.0)]), 2, cards()) == 2.0  # as one after another


def test_a_pack_that_the_file_asks_for_takes_memory_by_its_number_of_runs():
    share = choose_share(Execution(pack=4), cards(), figure([1.0], [(2, 1.0)], gib=4.0), run=make_run())
    assert (share.pack, share.processes) == (4, 1)  # 16.5 GiB of 24


def test_a_run_takes_longer_among_processes_that_slow_each_other_down(tmp_path):
    run, figures = make_run(), Figures(tmp_path / "figures.json")
    figures.put(speed_shape(run), "d", figure([1.0], [(4, 2.0)]))
    lanes = Lanes(Execution(), [cards()], figures, [run], {run.key: "cell"}, known={})
    assert lanes.share(shape(run), cards()).processes == 4
    assert lanes.run_s(shape(run), cards()) == (2 * 200, "measured")


def test_a_share_compiles_where_that_was_measured_to_be_faster():
    for compiled in (False, True):
        speeds = tuple(Speed(pack, 1.0, 0.1, GIB, compiled=compiled) for pack in (1, 2))
        assert choose_share(Execution(), cards(), Figure(speeds), run=make_run()).compiled is compiled
    assert not choose_share(Execution(), cards()).compiled
