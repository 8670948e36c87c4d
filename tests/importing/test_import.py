"""`l2t import`: runs of other tools become a sweep of the ledger; what is not clear is refused with its line."""

import json
import math
from pathlib import Path

import pytest
from scipy.stats import mannwhitneyu

from analysis import stats
from l2t_ray.files import HOME, Lock
from l2t_ray.ledger.client import connect
from tests.support.exports import ERRORS, bring, lines, report, write_csv
from tests.support.launches import call


def test_a_table_is_judged_as_a_sweep_that_was_trained_here():
    write_csv()
    code, out, _ = bring()
    assert (code, out.splitlines()) == (
        0,
        ["mine: 12 runs in 2 cells, 12 new in the ledger", "result: l2t report mine"],
    )
    code, found = report()
    assert code == 0
    (one,) = found["comparisons"]
    assert {one["a"], one["b"]} == {"resnet", "vit"}
    assert one["mann_whitney"]["p"] == pytest.approx(
        mannwhitneyu(ERRORS["vit"], ERRORS["resnet"], method="exact").pvalue
    )
    code, out, _ = call(stats.main, "mine")
    assert "vit" in out
    assert "worse than resnet" in out  # lower is better


def test_the_same_export_again_adds_nothing_and_further_seeds_are_added():
    write_csv(lines()[:5] + lines()[6:11])
    assert bring()[0] == 0
    assert "10 runs in 2 cells, 0 new" in bring()[1]
    write_csv()
    assert "12 runs in 2 cells, 2 new" in bring()[1]
    tags = connect(f"sqlite:///{Path('mlflow.db').resolve()}").get_experiment_by_name("mine").tags
    shown = json.loads(tags["mlflow.sharedViewState.l2t"])["selectedColumns"]
    assert shown == ["params.`settings.model`", "params.`seed`", "metrics.`error_percent`"]
    write_csv(lines()[:-1])
    _, _, err = bring()
    assert "1 run of an earlier import: not in this one" in err
    assert len(report()[1]["cells"][1]["values"]) == 5


def test_a_changed_result_and_a_sweep_that_was_trained_are_refused():
    write_csv()
    bring()
    write_csv([lines()[0].replace("20.0", "20.5"), *lines()[1:]])
    code, _, err = bring()
    assert code == 2
    assert "runs.csv:2: error_percent must be 20.0, as imported before, got 20.5" in err
    assert report()[1]["cells"][0]["values"]["0"] == 20.0


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            ["a/b,0.1,0,20", "a/b,0.1,1,21", "a b,0.1,0,22", "a b,0.1,1,23"],
            "runs.csv:4: a cell's runs must differ in their seed alone, got mine/-/a_b as at runs.csv:2 but with other",
        ),
        (
            ["a,0.1,0,20", "a,0.1,x,21"],
            'runs.csv:3: seed must be a seed, a whole number >= 0 and below 2147483648, got "x"',
        ),
        (["a,0.1,0,20", "a,0.1,1.5,21"], "runs.csv:3: seed must be a seed"),
        (["a,0.1,0,20", "a,0.1,1,n/a"], 'runs.csv:3: error_percent must be a number, got "n/a"'),
        (
            ["a,0.1,0,20", "a,0.1,1,NA"],
            'got "NA"; correct it; leave it empty, or write nan, for a run without a result',
        ),
        (["a,0.1,0,20", "a,0.1,1,80%"], 'error_percent must be a number, got "80%"; write it without %'),
        (["a,0.1,0,20", 'a,0.1,1,"80,5"'], 'got "80,5"; write a decimal point, and nothing between thousands'),
        (["a,0.1,3735928559,20"], "below 2147483648, got 3735928559; number the seeds anew"),
        (["a,0.1,0,20", "a,0.1,1"], "runs.csv:3: must have 4 values, as the heading, got 3"),
        (["a,0.1,0,20", '"a,0.1,1,21'], "runs.csv:3: must be a line of CSV"),
        (["a,0.1,0,20", "a,0.1,0,21"], "runs.csv:3: a setting must have each seed once, got seed 0 as in runs.csv:2"),
        ([], "runs.csv: must have a run a line below its heading, got none"),
        (["a,0.1,0,20", "a,0.2,1,21", "b,0.3,0,2"], "these columns vary: lr (3 values), model (2 values); name those"),
        (
            ["a,0.1,0,20", "a,0.1,1,20", "b,0.2,0,2", "b,0.2,1,2"],
            "--method must say which setting is compared where several vary, got model, lr; add e.g. --method model",
        ),
    ],
)
def test_what_is_not_clear_is_refused_with_its_line_and_nothing_is_written(rows, told):
    write_csv(rows)
    before = Path("mlflow.db").read_bytes()
    code, _, err = bring()
    assert code == 2
    assert told in err
    assert Path("mlflow.db").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--metric", "eror_percent"], "did you mean error_percent?"),
        (["--metric", "lr"], "--margin must be given for lr"),
        (["--metric", "wall_s", "--margin", "1"], "--metric must not be called wall_s, which every run has; rename"),
        (["--metric", "seed", "--margin", "1", "--seed", "lr"], "--metric must not be called seed, which every run"),
        (["--seed", "sed"], "--seed must name a column of the export, got 'sed'; did you mean seed?"),
        (["--sweep", "a b"], "--sweep must be letters, digits"),
        (["--axis", "size"], "--axis must name a column"),
    ],
)
def test_a_wrong_argument_is_told(arguments, told):
    write_csv()
    code, _, err = bring(*arguments)
    assert code == 2
    assert told in err


def test_a_results_column_is_left_out_by_name_and_an_axis_orders_the_cells():
    rows = [
        f"{model},{size},{seed},{value + size},{math.pi * value}"
        for model, errors in ERRORS.items()
        for size in (30, 10)
        for seed, value in enumerate(errors)
    ]
    write_csv(rows, heading="model,size,seed,error_percent,loss")
    assert bring()[0] == 2  # the loss would make each run a cell
    code, out, _ = bring("--ignore", "loss", "--axis", "size")
    assert code == 0
    assert "24 runs in 4 cells" in out
    assert [cell["samples_per_class"] for cell in report()[1]["cells"]] == ["10", "10", "30", "30"]


def test_another_metric_of_the_same_sweep_is_refused_by_its_name():
    write_csv([f"{line},{seed}" for seed, line in enumerate(lines())], heading="model,lr,seed,error_percent,f1_percent")
    assert bring("--ignore", "f1_percent")[0] == 0
    code, _, err = bring("--ignore", "error_percent", metric="f1_percent")
    assert code == 2
    assert err == (
        "--metric must be error_percent, as mine was imported before, got f1_percent; "
        "import this metric under another --sweep name\n"
    )


def test_an_import_beside_another_is_told():
    write_csv()
    with Lock(HOME / "mine" / "lock"):
        code, _, err = bring()
    assert code == 2
    assert "another import or launch of this sweep runs, by pid" in err
    assert "wait for it or end it, and import again then" in err
    assert "--status" not in err
