"""What a sweep file may ask to be traced."""

import pytest

from l2t_ray.config import Run
from tests.support.sweepfiles import changed, grid, keys, problems, read

pytestmark = pytest.mark.usefixtures("sweep_folder")


TRACED = (
    "{data: {name: digits, samples_per_class: 5}, method: l2t_www, source: {weights: net.pt}, seed: [0, 1], trace: T}"
)


@pytest.mark.parametrize(
    ("block", "law"),
    [
        (changed(TRACED, trace="{weights: ['conv.0.weight[1,']}"), "trace.weights must match"),
        (changed(TRACED, trace="{gamma: ['3-']}"), "trace.gamma must match"),
        (changed(TRACED, trace="{gamma: ['2-4[1,3,0]']}"), "trace.gamma must match"),
        (changed(TRACED, trace="{gamma: ['2-4', '2-4']}"), "trace.gamma must name each one once"),
        (
            changed(TRACED, trace="{weights: [conv.99.weight]}"),
            "must name parameters of the target, got 'conv.99.weight'",
        ),
        (
            changed(TRACED, trace="{weights: ['conv.0.weight[64,0,1,1]']}"),
            "below [64, 3, 3, 3] for conv.0.weight",
        ),
        (changed(TRACED, trace="{weights: ['fc.weight[3,512]']}"), "have an index below [classes, 512] for fc.weight"),
        (changed(TRACED, trace="{lambda: 1}"), "trace.lambda must be true or false, got 1"),
        (changed(TRACED, trace="{every: 0}"), "trace.every must be >= 1, got 0"),
        (changed(TRACED, trace="{lamda: true}"), "'lamda' must be a setting of trace; did you mean lambda?"),
        (
            changed(TRACED, trace="{lambda: true}", method="ufm"),
            "trace.lambda must stand with a method that learns 'where'",
        ),
        (
            changed(TRACED, trace="{gamma: ['2-4']}", method="l2t_ww"),
            "a method that learns 'which', got l2t_ww; remove it",
        ),
        (
            changed(TRACED, trace="{gamma: ['2-4', '2-1[0,1,1]']}", transfer="{pairs: [[2, 4]]}"),
            "trace.gamma must name pairs of transfer.pairs, 2-4, got '2-1'",
        ),
    ],
    ids=[
        "index", "pair", "grid", "twice", "parameter", "entry", "of-classes", "type", "every", "name", "no-where",
        "no-which", "unmatched",
    ],
)  # fmt: skip
def test_a_trace_that_cannot_be_is_told(block, law):
    (told,) = problems(grid(block))
    assert law in told


def test_a_trace_belongs_to_runs_and_is_no_part_of_their_keys():
    plain, wanted = changed(TRACED, trace="{}"), changed(TRACED, trace="{lambda: true, weights: [fc.bias]}", seed="1")
    sweep = read(grid(plain, wanted))
    assert [run.traced for run in sweep.runs.values()] == [(), ("lambda", "theta.fc.bias")]
    assert set(sweep.runs) == keys(grid(plain))
    assert set(sweep.cells.values()) == {"digits/5/l2t_www"}  # the lists of a trace make no cells
    assert [run.key for run in sweep.runs.values()] == [Run(**run.model_dump()).key for run in sweep.runs.values()]
    chosen = read(grid(plain, wanted), where=["seed=1"])
    assert [run.traced for run in chosen.runs.values()] == [("lambda", "theta.fc.bias")]


def test_one_trace_for_all_methods_is_as_much_as_each_has():
    block = changed(
        TRACED, method="[scratch, l2t_ww, l2t_www]", trace="{gamma: ['2-4'], omega: true, every: 5}", seed="0"
    )
    traced = {run.method: run.traced for run in read(grid(block)).runs.values()}
    assert traced == {"scratch": (), "l2t_ww": ("omega@5",), "l2t_www": ("gamma.2-4@5", "omega@5")}


def test_two_traces_of_one_run_are_refused():
    one, other = (changed(TRACED, trace=f"{{every: {n}, lambda: true}}") for n in (1, 2))
    (told,) = problems(grid(one, changed(other, seed="[1, 2]")))
    assert told == (
        "sweep.yaml:4: a run must have one trace, got two for digits/5/l2t_www seed 1, the first at sweep.yaml:3; "
        "ask for all of it in one block"
    )
