"""The `search:` of a sweep file: what is searched, and every mistake at its line with its remedy."""

import json
import re
import textwrap
from pathlib import Path

import jsonschema
import optuna
import pytest
import yaml

from l2t_ray import registry
from l2t_ray.errors import InputError
from l2t_ray.sweepfile.read import read_sweep
from l2t_ray.sweepfile.schema import sweep_schema
from l2t_ray.sweepfile.search import FEW_CLASSES
from l2t_ray.training import run_training
from tests.support.places import ROOT

METHOD = """
from dataclasses import dataclass, field
from l2t_ray.registry import register

@dataclass(frozen=True)
class Mine:
    name: str = "mine"
    uses: frozenset = frozenset({"transfer.beta"})
    options: dict = field(default_factory=lambda: {"strength": 1.0, "steps": 3})

    def laws(self, run):
        if run.options["strength"] < 0:
            yield "options.strength", f"must be >= 0, got {run.options['strength']}; correct it"

register(Mine())
"""
FILE = """
sweep: s
run: {source: {weights: net.pt}, data: {name: digits, samples_per_class: 5}}
grid:
  - method: [scratch, l2t_www]
    seed: {from: 0, to: 29}
search:
  space:
    lr: {low: 0.001, high: 0.3, log: true}
    transfer.look_ahead_steps: {low: 1, high: 3}
    transfer.pairs: [all, [[0, 0], [2, 4]]]
  trials: 4
  seeds: {from: 100, to: 102}
  validation_per_class: 20
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.pt").write_bytes(b"weights")
    Path("mine.py").write_text(METHOD)


def read(text, **selection):
    Path("s.yaml").write_text(textwrap.dedent(text).lstrip("\n"))
    return read_sweep(Path("s.yaml"), **selection)


def told(old, new):
    assert old in FILE
    with pytest.raises(InputError) as caught:
        read(FILE.replace(old, new))
    return caught.value.problems


# gate


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("lr:", "learning_rate:", "s.yaml:8: search.space must name settings of a run, got 'learning_rate'; "),
        ("lr:", "training.lrr:", "did you mean training.lr?"),
        ("lr:", "seed:", "s.yaml:8: search.space must name settings beside data, method, seed, trace, got 'seed'"),
        ("lr:", "data.samples_per_class:", "got 'data.samples_per_class'; list it in `grid:`, for a study each"),
        ("low: 0.001", "low: 0.5", "s.yaml:8: search.space: training.lr: low must be < high, got {"),
        ("low: 0.001", "low: -1", "s.yaml:8: training.lr must be > 0, got -1"),
        ("low: 0.001", "lwo: 0.001", "training.lr must be a list of values, or have low and high"),
        ("log: true", "logg: true", "'logg' must be one of low, high, log, step; did you mean log?"),
        ("log: true", "log: true, step: 0.1", "step must be a number > 0, without log: true"),
        ("log: true", "step: .inf", "step must be a number > 0, without log: true"),
        ("log: true", "step: .nan", "step must be a number > 0, without log: true"),
        ("low: 1, high: 3", "low: 1, high: 2.5", "transfer.look_ahead_steps must be a whole number, got 2.5"),
        ("[all, [[", "[al, [[", "did you mean all?"),
        ("[all, [[0, 0], [2, 4]]]", "[all]", "must have at least two values, each once"),
        ("trials: 4", "trials: 0", "s.yaml:11: search.trials must be >= 1, got 0"),
        ("trials: 4", "trails: 4", "s.yaml:11: 'trails' must be a setting of search; did you mean trials?"),
        ("trials: 4", "sampler: tpa", "must be one of tpe, gp, random, qmc, nsgaii, got"),
        ("trials: 4", "pruner: medan", "did you mean median?"),
        (
            "trials: 4",
            "objective: test_accuracy_percent",
            "s.yaml:11: search.objective must be measured on validation images, got 'test_accuracy_percent'; settings "
            "chosen by the test set would make its accuracy a training result; write validation_accuracy_percent",
        ),
        ("trials: 4", "objective: wall_s", "search.objective must be a metric on validation images, got 'wall_s'"),
        ("trials: 4", "objective: validation_loss", "must be a metric on validation images, got 'validation_loss'; "),
        ("trials: 4", "objective: validation_accuracy", "did you mean validation_accuracy_percent?"),
        (
            "trials: 4",
            "objective: validation_accuracy_class_77_percent",
            "s.yaml:11: search.objective must name a class of digits, got '77'; did you mean 7?",
        ),
        ("trials: 4", "second_objective: wall_s\n  pruner: asha", "search.pruner must be none with a second"),
        ("from: 100, to: 102", "from: 29, to: 31", "s.yaml:12: search.seeds must differ from the grid's, whose runs"),
        ("  validation_per_class: 20", "", "s.yaml:6: search.validation_per_class must be given"),
        ("trials: 4", "trials: 20000000", "s.yaml:11: a search must have at most 1,000,000 runs, studies x"),
        ("{from: 100, to: 102}", "[]", "s.yaml:12: search.seeds must have at least one value, got []; add one"),
        ("{from: 0, to: 29}", "0\n    training: {lr: [a, b]}", "s.yaml:6: training.lr must be a number, got "),
        ("to: 102", "to: 2000000000", "s.yaml:12: search.seeds must be at most 1,000,000, got 1,999,999,901; shorten"),
        ("[[0, 0], [2, 4]]]", "[[9, 9]]]", "s.yaml:10: transfer.pairs must name source levels 0 to 2 of resnet32 and"),
        ("lr: {low: 0.001, high: 0.3, log: true}", "target.arch: [vgg9, resnet20]", "0 to 2 of resnet20, got [2, 4]"),
        (
            "lr: {low: 0.001, high: 0.3, log: true}",
            "target.arch: [vgg9, resnet20]\n    training.precision: [float32, bf16]",
            "s.yaml:9: training.precision must be float32, tf32 or float64 for resnet20, got bf16",
        ),
        ("per_class: 20", "per_class: 83", "s.yaml:13: data.validation_per_class must be <= 82, which digits has"),
        ("per_class: 5}", "per_class: 5, validation_per_class: 9}", "must not stand beside `search:`"),
        ("{from: 0, to: 29}", "0\n    training: {lr: [0.1, 0.2]}", "training.lr must be one value where a search"),
        ("lr: {low: 0.001, high: 0.3, log: true}", "beta: {low: 0, high: 1}", "must have a setting that scratch reads"),
        ("{from: 0, to: 29}", "0\n    variant: tuned", "a cell of a searched grid must not be called 'tuned'"),
        ("trials: 4", "space: 4", "a key must stand once"),
        ("transfer.pairs: [all, [[0, 0], [2, 4]]]", "options.depth: [1, 2]", "options.depth must be read by a method"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_at_its_line_with_the_remedy(old, new, line):
    found = told(old, new)
    assert any(line in problem for problem in found), found


@pytest.mark.parametrize(
    ("data", "title", "problem"),
    [
        ("digits, classes: ['3', '5']", "4", "search.objective must name a class of digits, got '4'; "),
        ("digits, classes: ['3', '5']", "5", None),
        ("cifar100", "apple", "more than 20 are recorded, and cifar100 has 100; add `record: {per_class: true}`"),
        ("cifar100, samples_per_class: 5}, record: {per_class: true", "apple", None),
    ],
)
def test_the_accuracy_of_a_class_must_be_of_a_class_that_is_recorded(data, title, problem):
    text = FILE.replace("digits", data).replace("[scratch, l2t_www]", "scratch")
    text = text.replace("true, samples_per_class: 5", "true")  # the data set's own, moved before `record:`
    text = re.sub(r"\n    transfer.*", "", text).replace(
        "trials: 4", f"objective: validation_accuracy_class_{title}_percent"
    )
    if problem is None:
        assert read(text).search.settings.objective == f"validation_accuracy_class_{title}_percent"
    else:
        with pytest.raises(InputError, match=re.escape(problem)):
            read(text)


def test_few_classes_are_as_many_as_a_run_records():
    assert FEW_CLASSES == run_training.FEW_CLASSES


def test_a_search_stands_without_a_design():
    found = told("search:\n", "design: {looks: [10, 30], compare: [l2t_www, scratch]}\nsearch:\n")
    assert any("search must stand without `design:`" in problem for problem in found)


# basics


def test_there_is_a_study_for_each_cell_with_what_its_method_reads():
    search = read(FILE).search
    assert [study.name for study in search.studies] == ["digits/5/scratch", "digits/5/l2t_www"]
    names = [[dimension.name for dimension in study.space] for study in search.studies]
    assert names == [["training.lr"], ["training.lr", "transfer.look_ahead_steps", "transfer.pairs"]]
    assert [dimension.kind for dimension in search.studies[1].space] == ["float", "int", "list"]
    assert (search.seeds, search.n_runs, search.best_file) == ((100, 101, 102), 24, Path("s_best.yaml"))
    assert [len(study.seeds) for study in search.studies] == [30, 30]


def test_a_trial_is_a_run_with_the_labels_values_on_validation_images_and_the_best_one_on_the_test_set():
    study = read(FILE).search.studies[1]
    drawn = {}
    for dimension in study.space:
        trial = optuna.trial.FixedTrial({
            "training.lr": 0.01,
            "transfer.look_ahead_steps": 3,
            "transfer.pairs": "[[0, 0], [2, 4]]",
        })
        drawn[dimension.name] = dimension.suggest(trial)
    run, final = study.trial_run(drawn, 101), study.final_run(drawn)
    assert (run.training.lr, run.transfer.look_ahead_steps, run.transfer.pairs) == (0.01, 3, ((0, 0), (2, 4)))
    assert (run.seed, run.data.validation_per_class) == (101, 20)
    assert (final.seed, final.data.validation_per_class) == (0, None)
    assert final.source.sha256 == run.source.sha256 is not None


def test_the_files_own_settings_are_a_point_of_the_space_where_it_holds_them():
    first, second = read(FILE).search.studies
    assert first.own_labels() == {"training.lr": 0.1}
    assert second.own_labels() == {"training.lr": 0.1, "transfer.look_ahead_steps": 2, "transfer.pairs": "all"}
    outside = read(FILE.replace("high: 0.3", "high: 0.05")).search.studies[0]
    assert outside.own_labels() is None
    listed = read(FILE.replace("lr: {low: 0.001, high: 0.3, log: true}", "training.lr: [0.1, 0.2]")).search.studies[0]
    assert listed.own_labels() == {"training.lr": 0.1}


@pytest.mark.parametrize(
    "dimension",
    ["momentum: {low: 0.8, high: 0.9, step: 0.1}", "momentum: {low: 0.3, high: 0.9, step: 0.1}"],
)
def test_the_files_own_settings_are_on_a_grid_of_tenths(dimension):
    study = read(FILE.replace("lr: {low: 0.001, high: 0.3, log: true}", dimension)).search.studies[0]
    assert study.own_labels() == {"training.momentum": 0.9}
    between = FILE.replace("lr: {low: 0.001, high: 0.3, log: true}", "momentum: {low: 0.8, high: 0.98, step: 0.06}")
    assert read(between).search.studies[0].own_labels() is None


def test_weights_and_options_may_be_searched():
    Path("other.pt").write_bytes(b"other weights")
    text = FILE.replace(
        "lr: {low: 0.001",
        "source.weights: [net.pt, other.pt]\n    options.strength: {low: 1, high: 4}\n    lr: {low: 0.001",
    )
    search = read("methods: [mine.py]\n" + text.lstrip().replace("l2t_www]", "l2t_www, mine]")).search
    _, www, mine = search.studies
    labels = {"source.weights": "other.pt", "training.lr": 0.1, "transfer.look_ahead_steps": 1, "transfer.pairs": "all"}
    assert www.trial_run(labels, 100).source.sha256 != www.run.source.sha256
    strength = next(dimension for dimension in mine.space if dimension.name == "options.strength")
    assert (strength.kind, strength.low) == ("float", 1.0)  # in the type of the option's default
    with pytest.raises(InputError) as caught:
        read(
            "methods: [mine.py]\n"
            + text.lstrip().replace("l2t_www]", "l2t_www, mine]").replace("low: 1, high: 4", "low: -1, high: 4")
        )
    law = "search.space draws what mine refuses: options.strength must be >= 0, got -1.0; correct it"
    assert f"s.yaml:10: {law}" in caught.value.problems
    registry.METHODS.pop("mine")
    missing = told("lr: {low: 0.001", "source.weights: [net.pt, gone.pt]\n    lr: {low: 0.001")
    assert any("s.yaml:8: source.weights must be a file" in problem for problem in missing)


def test_the_command_line_chooses_studies_and_overrides_the_search():
    search = read(FILE, where=["method=scratch"], overrides=["search.trials=2", "search.pruner=none"]).search
    assert ([study.name for study in search.studies], search.settings.trials) == (["digits/5/scratch"], 2)


def test_the_schema_takes_what_the_reader_takes():
    schema = sweep_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for name in ("search", "fair_baseline", "digits_fair_baseline"):
        jsonschema.validate(yaml.safe_load((ROOT / f"sweeps/{name}.yaml").read_text()), schema)
    for old, new in [("trials: 4", "trails: 4"), ("low: 1,", "lw: 1,"), ("trials: 4", "sampler: best")]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(FILE.replace(old, new)), schema)


# the shipped files


@pytest.mark.parametrize(
    ("name", "n_studies", "n_runs", "n_final"),
    [("search", 1, 1 * 50 * 4, 30), ("fair_baseline", 12, 12 * 20 * 3, 2 * 360), ("digits_fair_baseline", 3, 60, 60)],
)
def test_the_shipped_searches_are_planned_as_they_say(name, n_studies, n_runs, n_final, capsys):
    from l2t_ray import sweep

    for weights in ("resnet32-tinyimagenet", "quickstart_digits"):
        Path("weights").mkdir(exist_ok=True)
        Path(f"weights/{weights}.pt").write_bytes(b"weights")
    assert sweep.main([str(ROOT / f"sweeps/{name}.yaml"), "--plan", "--json"]) == 0
    captured = capsys.readouterr()
    plan = json.loads(captured.out)
    assert (len(plan["studies"]), sum(cell["n_to_train"] for cell in plan["cells"])) == (n_studies, n_runs)
    assert plan["final"]["n_runs"] == n_final
    assert f"{n_studies} stud" in captured.err
    assert not Path(".l2t").exists()  # a plan starts nothing
