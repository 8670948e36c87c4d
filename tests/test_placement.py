"""Shares, packs, plans."""

import pytest

from l2t_ray import registry
from l2t_ray.config import Execution, Run
from l2t_ray.entries import Entry
from l2t_ray.placement import choose_share, cores, make_packs, make_plan, shape, shapes, times


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


@pytest.mark.parametrize(
    ("execution", "n_cores", "n_gpus", "slots", "cpus", "gpus"),
    [
        ({}, 8, 0, 8, 1.0, 0.0),
        ({"threads": 4}, 8, 0, 2, 4.0, 0.0),
        ({"threads": 4}, 2, 0, 1, 2.0, 0.0),  # more threads than cores still run
        ({}, 16, 1, 4, 1.0, 0.25),
        ({}, 2, 1, 4, 0.5, 0.25),  # few cores do not leave the GPU idle
        ({"gpu_share": 1.0}, 16, 2, 2, 1.0, 1.0),
        ({"gpu_share": 0.33}, 16, 2, 6, 1.0, 1 / 3),
    ],
)
def test_shares_fill_the_devices(execution, n_cores, n_gpus, slots, cpus, gpus):
    share = choose_share(Execution(**execution), n_cores=n_cores, n_gpus=n_gpus, device="d")
    assert (share.slots, share.cpus, share.gpus) == (slots, cpus, gpus)
    assert share.slots * share.cpus <= max(n_cores, share.threads)
    assert share.slots * share.gpus <= n_gpus + 1e-9


def test_this_machine_has_cores():
    assert cores() >= 1


def test_packs_hold_equal_shapes_the_unknown_first_then_the_longest():
    runs = [make_run(seed, samples) for samples in (1, 2, 3) for seed in range(3)]
    of = {run.key: shape(run) for run in runs}
    known = {(shape(make_run(0, 1)), "d"): 5.0, (shape(make_run(0, 2)), "d"): 50.0}
    packs = make_packs(runs, of, 2, known, "d")
    assert [[(run.data.samples_per_class, run.seed) for run in pack] for pack in packs] == [
        [(3, 0), (3, 1)],
        [(3, 2)],
        [(2, 0), (2, 1)],
        [(2, 2)],
        [(1, 0), (1, 1)],
        [(1, 2)],
    ]


def make_entry(run, wall_s, device="d", status="FINISHED"):
    return Entry("id", "sweep", status, 0, {"kind": "run", "shape": shape(run), "device": device}, {"wall_s": wall_s})


def test_times_are_means_of_finished_runs_of_one_device():
    run = make_run()
    entries = [
        make_entry(run, 1.0),
        make_entry(run, 3.0),
        make_entry(run, 9.0, "e"),
        make_entry(run, 99.0, status="FAILED"),
    ]
    assert times(entries) == {(shape(run), "d"): 2.0, (shape(run), "e"): 9.0}


def test_a_plan_adds_up_and_says_what_is_unknown():
    runs = {run.key: run for samples in (1, 2) for run in (make_run(seed, samples) for seed in range(4))}
    cells = {key: f"digits/{run.data.samples_per_class}/described" for key, run in runs.items()}
    assert set(shapes(runs.values(), cells).items()) == {(key, shape(run)) for key, run in runs.items()}
    done, to_train = list(runs)[:1], list(runs)[1:]
    share = choose_share(Execution(threads=1), n_cores=2, n_gpus=0, device="d")
    known = {(shape(make_run(0, 1)), "d"): 3600.0}
    plan = make_plan(runs, cells, done, to_train, share, known, 2.0)
    assert [(cell.n_wanted, cell.n_finished, cell.n_to_train, cell.run_s) for cell in plan.cells] == [
        (4, 1, 3, 3600.0),
        (4, 0, 4, None),
    ]
    assert (plan.n_unmeasured, plan.wall_s, plan.price) == (4, None, None)
    known[shape(make_run(0, 2)), "d"] = 7200.0
    plan = make_plan(runs, cells, done, to_train, share, known, 2.0)
    work_s = 3 * 3600 + 4 * 7200
    assert (plan.work_s, plan.wall_s, plan.price) == (work_s, work_s / 2, work_s / 2 / 3600 * 2.0)
