"""A design declared in a sweep file: the sweep obeys it, and the report decides by the same rule."""

import json
import shutil
from pathlib import Path

import pytest

from analysis.report.evidence import gather
from analysis.stats import main as stats_main
from l2t_ray import sweep
from l2t_ray.errors import InputError
from l2t_ray.ledger.entries import Entry
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.sweepfile.read import read_sweep
from tests.support.launches import OF_RAY, call
from tests.support.ledgers import Logged, write_through_mlflow

pytestmark = OF_RAY

FILE = """
sweep: declared
run:
  data: {name: digits, samples_per_class: 4}
  training: {epochs: 1}
grid:
  - method: [scratch, no_transfer]
    data: {samples_per_class: [4, 8]}
    seed: {from: 0, to: 14}
  - method: other
    data: {samples_per_class: 4}
    seed: {from: 0, to: 14}
methods: [arms.py]
design: {looks: [5, 10, 15], compare: [no_transfer, scratch]}
execution: {retries: 0}
"""
ARMS = """
from l2t_ray.methods import Method
from l2t_ray.registry import METHODS, register

for name in ("no_transfer", "other"):
    if name not in METHODS:
        register(Method(name))
"""


PRETEND = """
def train(settings, seed, context):
    # 8 samples tell the methods apart, 4 do not
    apart = settings["method"] == "no_transfer" and settings["n"] == 8
    return {"error_percent": 50.0 + seed * 7 % 15 - 40 * apart}
"""
PRETENDED = """
sweep: declared
trainer: pretended.py
metric: {name: error_percent, lower_is_better: true}
method: settings.method
axis: settings.n
grid:
  - settings: {method: [scratch, no_transfer], n: [4, 8]}
    seed: {from: 0, to: 14}
  - settings: {method: other, n: 4}
    seed: {from: 0, to: 14}
design: {looks: [5, 10, 15], compare: [no_transfer, scratch]}
execution: {retries: 0}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    Path("arms.py").write_text(ARMS)
    Path("declared.yaml").write_text(FILE)
    from l2t_ray.registry import METHODS

    before = dict(METHODS)
    yield tmp_path
    METHODS.clear()
    METHODS.update(before)


def entries_of(read, values):
    """Finished entries of the runs for which `values` returns an accuracy."""
    return [
        Entry(key, "declared", "FINISHED", 0, {"kind": "run", "key": key}, {"test_accuracy_percent": value})
        for key, run in read.runs.items()
        if (value := values(read.cells[key], run.seed)) is not None
    ]


def held_by_method(read, entries):
    held = read.looks.held(entries)
    names = {key: read.cells[key] for key in read.runs}
    count = lambda keys: {cell: sum(names[key] == cell for key in keys) for cell in sorted({names[k] for k in keys})}  # noqa: E731
    return count(held.waiting), count(held.spared)


def test_before_the_first_look_the_rest_waits(folder):
    read = read_sweep(Path("declared.yaml"))
    waiting, spared = held_by_method(read, [])
    assert waiting == {f"digits/{n}/{m}": 10 for n in (4, 8) for m in ("no_transfer", "scratch")}
    assert spared == {}  # the third method, which the design does not name, does not wait


def test_a_decided_cell_is_spared_and_an_open_one_goes_to_the_next_look(folder):
    read = read_sweep(Path("declared.yaml"))

    def values(cell, seed):
        if seed >= 10 or cell.endswith("other") or (seed >= 5 and "/4/" in cell):
            return None
        return float(seed) + (100 if cell == "digits/8/no_transfer" else 0.5 * ("no_transfer" in cell))

    waiting, spared = held_by_method(read, entries_of(read, values))
    assert spared["digits/8/scratch"] == spared["digits/8/no_transfer"] == 5
    assert sum(waiting.values()) + sum(spared.values()) in {20, 30}  # futile at once, or ten seeds more


def test_one_missing_seed_holds_the_look_up(folder):
    read = read_sweep(Path("declared.yaml"))
    entries = entries_of(read, lambda cell, seed: None if seed > 4 or (seed == 2 and "scratch" in cell) else seed)
    assert all(decision.look == 0 for decision in read.looks.held(entries).decisions.values())


def test_a_diverged_run_is_looked_past_unless_it_is_tried_again(folder):
    read = read_sweep(Path("declared.yaml"))
    entries = entries_of(read, lambda cell, seed: None if seed > 4 or (seed == 2 and "scratch" in cell) else seed)
    lost = [
        Entry(k, "declared", "FAILED", 0, {"kind": "run", "key": k, "outcome": "diverged"}, {})
        for k, run in read.runs.items()
        if run.seed == 2 and run.method == "scratch"
    ]
    looks = [read.looks.held([*entries, *lost], retry_failed=again).decisions.values() for again in (False, True)]
    assert [{decision.look for decision in found} for found in looks] == [{1}, {0}]


def test_a_finished_run_without_a_number_is_looked_past(folder, template):
    shutil.copy(template, folder)
    read = read_sweep(Path("declared.yaml"))
    runs = [
        Logged(key=key, seed=run.seed, accuracy=float("nan") if run.seed == 2 else run.seed)
        for key, run in read.runs.items()
        if run.seed <= 4
    ]
    write_through_mlflow(f"sqlite:///{folder}/mlflow.db", folder, "declared", runs)
    decisions = read.looks.held(Ledger("declared").entries()).decisions.values()
    assert [decision.n for decision in decisions] == [(4, 4), (4, 4)]


def test_a_part_of_the_sweep_has_the_looks_of_the_whole(folder):
    part = read_sweep(Path("declared.yaml"), where=["seed=14"])
    assert len(part.runs) == 5
    held = part.looks.held([])
    assert {key for key, run in part.runs.items() if key not in held.waiting} == {
        key for key, run in part.runs.items() if run.method == "other"
    }


@pytest.mark.parametrize(
    ("design", "message"),
    [
        ("[10]", "design must be a map, got"),
        ("{looks: [5, 10], compare: [no_transfer, scratch]}", "design.looks must end at the number of seeds of every"),
        ("{looks: [15]}", "design.compare must name two methods of the grid, got none; they are no_transfer, "),
        ("{looks: [15], compare: [no_transfer, scrtch]}", "got 'scrtch'; did you mean scratch?"),
        ("{looks: [15], compare: [ufm, scratch]}", "design.compare must name methods of the grid, got 'ufm'"),
        ("{looks: [10, 5], compare: [no_transfer, scratch]}", "looks must be rising numbers of seeds, got [10, 5]"),
        ("{looks: [2, 15], compare: [no_transfer, scratch]}", "looks must begin at 5 seeds or more, got 2"),
        ("{alpha: 5 %, compare: [no_transfer, scratch]}", "alpha must be a number, got '5 %'"),
        ("{look: [15]}", "look must be one of alpha, compare, futility, looks"),
        ("{looks: {a: 1}}", "looks must be a list of whole numbers"),
    ],
)
def test_an_impossible_design_is_refused_at_its_line(folder, design, message):
    text = "\n".join(f"design: {design}" if line.startswith("design") else line for line in FILE.splitlines())
    Path("declared.yaml").write_text(text)
    with pytest.raises(InputError) as error:
        read_sweep(Path("declared.yaml"))
    (problem,) = error.value.problems
    assert problem.startswith("declared.yaml:14: ")
    assert message in problem


def test_a_design_on_validation_images_is_refused(folder):
    Path("declared.yaml").write_text(FILE.replace("samples_per_class: 4}\n  training", "samples_per_class: 4, "
                                                  "validation_per_class: 3}\n  training"))  # fmt: skip
    with pytest.raises(InputError, match="must be of runs that are measured on the test set, got digits/4/no_transfer"):
        read_sweep(Path("declared.yaml"))


def test_two_methods_without_a_common_cell_are_refused(folder):
    Path("declared.yaml").write_text(FILE.replace("[4, 8]", "8").replace("scratch, no_transfer]", "scratch]").replace(
        "method: other", "method: no_transfer"))  # fmt: skip
    with pytest.raises(InputError, match="must have a cell in common"):
        read_sweep(Path("declared.yaml"))


def command(*arguments):
    return call(sweep.main, "declared.yaml", *arguments)


@pytest.mark.slow
def test_a_sweep_stops_training_decided_cells_and_the_report_says_so(folder, capsys):
    Path("pretended.py").write_text(PRETEND)
    Path("declared.yaml").write_text(PRETENDED)
    code, _, err = command("--no-probe")  # on a Ray of its own for every look
    assert code == 0, err
    again = command("--no-probe")
    assert "nothing to train" in again[2]
    done = [entry for entry in Ledger("declared").entries() if entry.kind == "run" and entry.status == "FINISHED"]
    counts = {cell: sum(entry.tags["cell"] == cell for entry in done) for cell in {e.tags["cell"] for e in done}}
    # 5 against 5 without overlap: p = 0.0079 is above the first look's level, 10 against 10: p < 0.0001
    assert counts["pretended/8/scratch"] == counts["pretended/8/no_transfer"] == 10
    assert counts["pretended/4/other"] == 15
    evidence = gather(["declared"])
    state = {item.condition.samples_per_class: item.decision for item in evidence.comparisons}
    assert (state["8"].state, state["8"].look, state["8"].n) == ("significant", 2, (10, 10))
    assert state["4"].state == "futile"
    assert evidence.gaps == ()
    assert stats_main(["declared", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n_spared"] == 75 - len(done) > 10
    assert found["designs"]["declared"]["looks"] == [5, 10, 15]
    assert found["comparisons"][0]["decision"]["level"] < 0.05
