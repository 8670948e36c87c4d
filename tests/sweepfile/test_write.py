"""The sweep file that a search writes: exactly the runs that were chosen, whatever the cells are made of."""

import textwrap
from pathlib import Path

import pytest

from l2t_ray.errors import InputError
from l2t_ray.sweepfile.read import read_sweep
from l2t_ray.sweepfile.write import Choice, check_best_file, write_best

FILE = """
sweep: s
methods: [mine.py]
run:
  source: {weights: "it's a net.pt", width: 0.5}
  training: {epochs: 3}
grid:
  - data: {name: digits, samples_per_class: [1, {"*": 5, "3": 2}], classes: ["1", "3", "7"]}
    method: [scratch, l2t_www]
    seed: {from: 0, to: 4}
  - data: {name: digits, samples_per_class: 5}
    method: mine
    seed: [3, 9]
    transfer: {look_ahead_steps: [1, 2], inner: [sgd]}
    options: {strength: 2}
search:
  space:
    lr: {low: 0.00001, high: 0.3, log: true}
    transfer.pairs: [all, [[0, 0], [2, 4]]]
    options.strength: {low: 1, high: 4}
  seeds: [100]
  validation_per_class: 20
execution: {retries: 5}
"""
METHOD = """
from dataclasses import dataclass, field
from l2t_ray.registry import register

@dataclass(frozen=True)
class Mine:
    name: str = "mine"
    uses: frozenset = frozenset({"source", "transfer"})
    options: dict = field(default_factory=lambda: {"strength": 1.0, "kind": "no"})

    def laws(self, run):
        return ()

register(Mine())
"""
LABELS = {"training.lr": 1.2345678901234567e-05, "transfer.pairs": "[[0, 0], [2, 4]]", "options.strength": 2.5}


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("it's a net.pt").write_bytes(b"weights")
    Path("mine.py").write_text(METHOD)
    Path("s.yaml").write_text(textwrap.dedent(FILE))
    return read_sweep(Path("s.yaml"))


def choices(sweep):
    return [Choice(study, LABELS, "trial 7") for study in sweep.search.studies]


def test_the_file_reads_back_as_the_chosen_runs_with_the_grids_seeds(sweep):
    write_best(sweep, choices(sweep), Path("s_best.yaml"), untuned=False)
    written = read_sweep(Path("s_best.yaml"))
    expected = {run.key for study in sweep.search.studies for run in study.final_run(LABELS).with_seeds(study.seeds)}
    assert set(written.runs) == expected
    assert (written.name, written.execution.retries, written.search) == ("s_best", 5, None)
    assert "digits/1/scratch/tuned" in set(written.cells.values())
    assert "digits/5/mine/look_ahead_steps=2 inner=sgd tuned" in set(written.cells.values())
    assert {run.data.validation_per_class for run in written.runs.values()} == {None}  # measured on the test set
    assert "# digits/1/scratch: trial 7" in Path("s_best.yaml").read_text()
    assert [path.name for path in Path().glob(".s_best*")] == []


def test_the_grids_own_runs_may_stand_beside_with_the_keys_that_they_always_had(sweep):
    write_best(sweep, choices(sweep), Path("s_best.yaml"), untuned=True)
    written = read_sweep(Path("s_best.yaml"))
    assert set(sweep.runs) < set(written.runs)
    assert len(written.runs) == 2 * len(sweep.runs)


def test_a_file_of_the_users_is_never_overwritten(sweep):
    check_best_file(Path("s_best.yaml"))
    write_best(sweep, choices(sweep), Path("s_best.yaml"), untuned=False)
    check_best_file(Path("s_best.yaml"))
    with pytest.raises(InputError, match="must be free, or written by a search, got a file of yours"):
        check_best_file(Path("s.yaml"))


def test_where_nothing_was_better_than_a_cells_own_settings_its_runs_stand_once(sweep):
    study = sweep.search.studies[0]
    write_best(sweep, [Choice(study, study.own_labels(), "trial 0")], Path("s_best.yaml"), untuned=True)
    written = read_sweep(Path("s_best.yaml"))
    assert {run.key for run in study.run.with_seeds(study.seeds)} == set(written.runs)
    write_best(sweep, [Choice(study, study.own_labels(), "trial 0")], Path("s_best.yaml"), untuned=False)
    assert set(read_sweep(Path("s_best.yaml")).cells.values()) == {"digits/1/scratch/tuned"}


# whatever a cell is called

PLAIN = """
sweep: s
run: {source: {weights: net.pt}, training: {epochs: 2}}
grid:
  - data: {name: digits, samples_per_class: 5}
    method: [scratch, l2t_ww]
    seed: {from: 0, to: 1}
search:
  space: {lr: {low: 0.001, high: 0.3, log: true}}
  seeds: [100]
  validation_per_class: 20
"""


@pytest.mark.parametrize("untuned", [False, True])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("_class: 5", "_class: 5, classes: [['0', '1', '2'], ['3', '4']]"),
        ("    method", "    transfer: {pairs: [all, [[2, 3], [2, 4]], [[2, 3, ], [1, 4]]]}\n    method"),
        ("net.pt", "['a@b.pt', 'a#b.pt', net.pt]"),
        ("net.pt", f"['{'x' * 80}.pt', net.pt]"),
        ("net.pt", "[net².pt, net.pt]"),
        ("    method", f"    variant: {'v' * 100}\n    method"),
        ("    method", "    variant: '1e3'\n    method"),
        ("_class: 5", "_class: 5, title: '1e3'"),
        ("_class: 5", "_class: 5, title: '0o17'"),
        (
            "epochs: 2}",
            "epochs: 2, momentum: [0.9, 0.8], weight_decay: [1e-4, 1e-3], batch_size: [64, 32]}, "
            "transfer: {beta: [0.1, 0.5], look_ahead_steps: [1, 2], inner: [sgd, published]}",
        ),
    ],
    ids=["classes", "pairs", "signs", "long", "no letter", "longest", "number", "title", "octal", "many"],
)
def test_every_cell_gets_a_variant_whatever_it_is_called(tmp_path, monkeypatch, old, new, untuned):
    monkeypatch.chdir(tmp_path)
    for name in ("net", "a@b", "a#b", "x" * 80, "net²"):
        Path(f"{name}.pt").write_bytes(name.encode())
    assert old in PLAIN
    Path("s.yaml").write_text(PLAIN.replace(old, new))
    sweep = read_sweep(Path("s.yaml"))
    labels = {"training.lr": 0.0123}
    write_best(
        sweep, [Choice(study, labels, "trial 7") for study in sweep.search.studies], Path("b.yaml"), untuned=untuned
    )
    cells = set(read_sweep(Path("b.yaml")).cells.values())
    tuned = {cell for cell in cells if cell.endswith("tuned")}
    assert len(tuned) == len(sweep.search.studies)
    if untuned:  # the report finds the one by the other's name
        assert {cell.removesuffix("tuned").rstrip(" /") for cell in tuned} == cells - tuned


def test_each_seed_keeps_the_trace_that_it_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.pt").write_bytes(b"weights")
    block = "  - {data: {name: digits, samples_per_class: 5}, method: l2t_ww, seed: 0, trace: {lambda: true}}\n"
    Path("s.yaml").write_text(PLAIN.replace("grid:\n", f"grid:\n{block}"))
    sweep = read_sweep(Path("s.yaml"))
    study = next(study for study in sweep.search.studies if study.run.method == "l2t_ww")
    write_best(sweep, [Choice(study, {"training.lr": 0.0123}, "trial 7")], Path("b.yaml"), untuned=True)
    written = read_sweep(Path("b.yaml"))
    assert sorted((run.seed, run.trace.lambda_) for run in written.runs.values()) == [
        (0, True), (0, True), (1, False), (1, False),
    ]  # fmt: skip
    assert len(set(written.cells.values())) == 2
