"""`l2t import`: runs of other tools become a sweep of the ledger; what is not clear is refused with its line."""

import json
import math
import shutil
from pathlib import Path

import pytest
from scipy.stats import mannwhitneyu

from analysis import stats
from l2t.command import main
from l2t_ray.ledger.client import connect
from tests.support.launches import call

SEEDS = range(6)
ERRORS = {"resnet": (20.0, 21.5, 19.25, 20.75, 22.0, 18.5), "vit": (24.0, 23.5, 25.25, 22.75, 26.0, 21.0)}
WANDB = "Name,State,Created,Runtime,model,lr,seed,error_percent,_step\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path, template, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(template, tmp_path)


def lines():
    return [f"{model},0.10,{seed},{errors[seed]}" for model, errors in ERRORS.items() for seed in SEEDS]


def write_csv(rows=None, heading="model,lr,seed,error_percent"):
    Path("runs.csv").write_text("\n".join([heading, *(lines() if rows is None else rows)]) + "\n")


def bring(*more, file="runs.csv", metric="error_percent"):
    return call(main, "import", file, "--sweep", "mine", "--metric", metric, "--lower-is-better", *more)


def report(*more):
    code, out, err = call(stats.main, "mine", "--json", *more)
    assert err
    return code, json.loads(out)


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


def test_a_number_has_one_spelling():
    write_csv([
        line.replace("0.10", spelling) for line, spelling in zip(lines(), ["0.1", "1e-1", "0.10"] * 4, strict=True)
    ])
    assert "12 runs in 2 cells" in bring()[1]


def test_wandbs_table_leaves_its_own_columns_out_and_lost_runs_are_told():
    rows = [f"run-{n},finished,2026-01-0{n % 9 + 1},{100 + n},{line},{n}" for n, line in enumerate(lines())]
    rows[3] = rows[3].replace("finished", "crashed")
    rows[7] = rows[7].replace("finished", "running")
    rows[8] = rows[8].replace(str(ERRORS["vit"][2]), "NaN")
    write_csv(rows, heading=WANDB.strip())
    code, out, err = bring()
    assert code == 1
    assert "12 runs in 2 cells, 11 new" in out
    assert "runs.csv:5: crashed in the export" in err
    assert "runs.csv:9: still running" in err
    assert "runs.csv:10: error_percent is nan in the export" in err
    code, found = report()
    assert code == 1  # gaps
    assert sorted(gap["state"] for gap in found["missing"]) == ["diverged", "failed", "missing"]


def test_wandbs_json_keeps_settings_and_results_apart():
    runs = [
        {
            "name": f"{model}-{seed}",
            "state": "finished",
            "config": {"model": {"value": model}, "opt": {"value": {"lr": 0.1}}, "seed": {"value": seed}, "_wandb": {}},
            "summary": {"error_percent": ERRORS[model][seed], "loss": seed * 0.37 + ERRORS[model][seed], "_step": 9},
        }
        for model in ERRORS
        for seed in SEEDS
    ]
    Path("runs.json").write_text(json.dumps(runs))
    assert "12 runs in 2 cells, 12 new" in bring(file="runs.json")[1]
    Path("runs.jsonl").write_text("\n".join(json.dumps({**run, "config": json.dumps(run["config"])}) for run in runs))
    assert "12 runs in 2 cells, 0 new" in bring(file="runs.jsonl")[1]
    Path("runs.json").write_text(json.dumps([runs[0], {"config": {}}]))
    code, _, err = bring(file="runs.json")
    assert code == 2
    assert "runs.json: run 2: must be an object with config and summary, got no summary" in err


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_multirun_of_hydra_is_read_from_its_folders(kind):
    for number, (model, seed) in enumerate((model, seed) for model in ERRORS for seed in SEEDS):
        job = Path("multirun/2026-01-01/10-00-00", str(number))
        (job / ".hydra").mkdir(parents=True)
        (job / ".hydra/config.yaml").write_text(f"model: {{name: {model}, lr: 1e-1}}\nseed: {seed}\n")
        value = ERRORS[model][seed]
        if kind == "json":
            (job / "results.json").write_text(json.dumps({"test": {"error_percent": value}, "loss": 1.5 * value}))
        else:  # as Lightning's CSVLogger writes it
            (job / "results.csv").write_text(f"epoch,loss,test.error_percent\n0,{value},\n1,0.5,\n1,,{value}\n")
    shutil.rmtree(job)
    code, out, _ = bring("--result", f"results.{kind}", file="multirun", metric="test.error_percent")
    assert code == 0
    assert "11 runs in 2 cells, 11 new" in out
    values = report()[1]["cells"][0]["values"]
    assert [values[str(seed)] for seed in SEEDS] == [*ERRORS["resnet"]]
    code, _, err = bring("--result", "other.json", file="multirun", metric="test.error_percent")
    assert code == 2
    assert "a job must hold other.json, got none in 11; name the file: --result FILE" in err


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            ["a/b,0.1,0,20", "a/b,0.1,1,21", "a b,0.1,0,22", "a b,0.1,1,23"],
            "runs.csv:4: a cell's runs must differ in their seed alone, got mine/-/a_b as at runs.csv:2 but with other",
        ),
        (["a,0.1,0,20", "a,0.1,x,21"], 'runs.csv:3: seed must be a seed, a whole number >= 0, got "x"'),
        (["a,0.1,0,20", "a,0.1,1.5,21"], "runs.csv:3: seed must be a seed"),
        (["a,0.1,0,20", "a,0.1,1,n/a"], 'runs.csv:3: error_percent must be a number, got "n/a"'),
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


def wandb_runs(summary):
    return [
        {"state": "finished", "config": {"model": model, "seed": seed}, "summary": {"acc": {"max": 1.0 + seed}}}
        if (model, seed) == ("vit", 3)
        else {"state": "finished", "config": {"model": model, "seed": seed}, "summary": summary}
        for model in ERRORS
        for seed in SEEDS
    ]


def test_an_absent_metric_is_refused_and_a_metric_that_is_nan_has_diverged():
    Path("runs.json").write_text(json.dumps(wandb_runs({"acc": 2.0})))
    code, _, err = bring("--margin", "1", file="runs.json", metric="acc")
    assert code == 2
    assert "runs.json: run 10: acc must be among the results of a run that has ended; there are acc.max; " in err
    assert "did you mean acc.max?" in err
    runs = wandb_runs({"acc": 2.0})
    runs[9]["summary"] = {"acc": math.nan}
    Path("runs.json").write_text(json.dumps(runs))
    code, _, err = bring("--margin", "1", file="runs.json", metric="acc")
    assert code == 1
    assert "runs.json: run 10: acc is nan in the export" in err


def test_a_job_of_hydra_whose_results_lack_the_metric_is_refused():
    for number in range(4):
        job = Path("multirun", str(number))
        (job / ".hydra").mkdir(parents=True)
        (job / ".hydra/config.yaml").write_text(f"model: a\nseed: {number}\n")
        (job / "results.json").write_text(json.dumps({"los" if number == 2 else "loss": 1.0}))
    code, _, err = bring("--margin", "1", file="multirun", metric="loss")
    assert code == 2
    assert "multirun/2: loss must be among the results of a run that has ended; there are los; did you mean los?" in err


def test_a_comma_that_is_missing_in_a_list_is_told_at_its_line():
    Path("runs.json").write_text('[\n {"config": {"seed": 0} "summary": {}},\n {}\n]')
    code, _, err = bring(file="runs.json")
    assert code == 2
    assert "runs.json:2: must be a list in JSON, got Expecting ',' delimiter at column 25; correct it" in err
