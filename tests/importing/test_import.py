"""`l2t import`: runs of other tools become a sweep of the ledger; what is not clear is refused with its line."""

import json
import math
import shutil
from pathlib import Path

import pytest
from scipy.stats import mannwhitneyu

from analysis import stats
from l2t.command import main
from l2t_ray.files import HOME, Lock
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


def imported_settings(name):
    """A setting of every run in the ledger, as MLflow's text."""
    client = connect(f"sqlite:///{Path('mlflow.db').resolve()}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "mine"]
    runs = client.search_runs([experiment.experiment_id], "tags.`l2t.kind` = 'run'")
    return {run.data.params[f"settings.{name}"] for run in runs}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12e4567", "34e8901"),  # short hashes of git: both overflow
        ("0e12345", "0e67890"),
        ("1e-400", "2e-400"),
        ("007", "7"),
        ("012345678901234567890", "012345678901234567891"),
        ("12345678901234567890", "12345678901234567891"),
        ("+12345678901234567890", "+12345678901234567891"),
        ('"""01"""', "1"),  # JSON's text in a cell
    ],
)
def test_texts_that_look_like_one_number_are_different_settings(one, other):
    write_csv([f"{text},0.1,{seed},{20 + seed}" for text in (one, other) for seed in SEEDS])
    assert "12 runs in 2 cells" in bring()[1]


def test_numbers_are_the_settings_that_they_were():
    from l2t_ray.importing.rows import value_of

    texts = [
        "0.10",
        "1e-1",
        ".5",
        "7.",
        "+7",
        "1e3",
        "-0.0",
        "0.0e+00",
        "1e-005",
        "inf",
        "-Infinity",
        "1_0",
        "true",
        "a",
    ]
    values = [0.1, 0.1, 0.5, 7, 7, 1000, 0, 0, 1e-5, math.inf, -math.inf, "1_0", True, "a"]
    assert [value_of(text) for text in texts] == values
    assert [type(value_of(text)) for text in texts] == [type(value) for value in values]
    assert value_of('["01", 1.0]') == ["01", 1]


def test_seeds_and_results_are_numbers_however_they_are_written():
    write_csv([f"{model},0.1,00{seed},0{errors[seed]}" for model, errors in ERRORS.items() for seed in SEEDS])
    assert bring()[0] == 0
    values = report()[1]["cells"][0]["values"]
    assert [values[str(seed)] for seed in SEEDS] == [*ERRORS["resnet"]]


def write_wandb(config, summary=lambda model, seed: {"error_percent": ERRORS[model][seed]}, **more):
    runs = [
        {"state": "finished", "config": {"seed": seed, **config(model)}, "summary": summary(model, seed), **more}
        for model in ERRORS
        for seed in SEEDS
    ]
    Path("runs.json").write_text(json.dumps(runs))


def test_a_quoted_number_in_json_is_a_text():
    write_wandb(lambda model: {"tag": "01" if model == "vit" else "1"})
    assert "12 runs in 2 cells" in bring(file="runs.json")[1]
    write_wandb(lambda model: {"tag": "1" if model == "vit" else 1})
    assert "12 runs in 2 cells" in bring("--sweep", "other", file="runs.json")[1]


def write_jobs(settings, results):
    for number, (model, seed) in enumerate((model, seed) for model in ERRORS for seed in SEEDS):
        job = Path("multirun", str(number))
        (job / ".hydra").mkdir(parents=True)
        (job / ".hydra/config.yaml").write_text(f"{settings(model)}\nseed: {seed}\n")
        (job / "results.json").write_text(json.dumps(results(model, seed)))


def test_what_stands_in_quotes_in_hydras_settings_is_a_text_and_dates_are_texts():
    write_jobs(
        lambda model: f"rate: {'1e3' if model == 'vit' else repr('1e3')}\nday: 2026-01-01",
        lambda model, seed: {"error_percent": str(ERRORS[model][seed])},
    )
    assert "12 runs in 2 cells" in bring(file="multirun")[1]
    assert imported_settings("rate") == {"1000", "1e3"}


def test_the_metric_is_the_result_and_not_the_setting_of_its_name():
    write_wandb(lambda model: {"model": model, "error_percent": 0})
    assert bring(file="runs.json")[0] == 0
    assert [*report()[1]["cells"][0]["values"].values()] == [*ERRORS["resnet"]]
    assert imported_settings("error_percent") == {"0"}


def test_a_metric_of_hydra_is_the_result_and_other_names_stay_the_settings():
    write_jobs(
        lambda model: f"loss_percent: {model}\nsize: 5",
        lambda model, seed: {"loss_percent": ERRORS[model][seed], "size": seed, "seed": 99},
    )
    assert bring(file="multirun", metric="loss_percent")[0] == 0
    found = report()[1]["cells"]
    assert [cell["method"] for cell in found] == ["resnet", "vit"]
    assert [*found[1]["values"].values()] == [*ERRORS["vit"]]
    assert imported_settings("size") == {"5"}


def test_a_copy_of_the_metric_among_the_settings_is_no_setting():
    write_wandb(lambda model: {"model": model})
    runs = json.loads(Path("runs.json").read_text())
    Path("runs.json").write_text(json.dumps([{**one, "config": one["config"] | one["summary"]} for one in runs]))
    assert "12 runs in 2 cells" in bring(file="runs.json")[1]


def test_a_setting_is_no_metric():
    write_wandb(lambda model: {"model": model, "lr_percent": 1})
    code, _, err = bring(file="runs.json", metric="lr_percent")
    assert code == 2
    assert "--metric must name a result of the export, got 'lr_percent', a setting; " in err


def test_a_column_that_begins_with_an_underscore_is_a_setting_outside_of_wandbs_tables():
    write_csv(heading="_model,_step,seed,error_percent")
    code, out, err = bring()
    assert code == 0
    assert "12 runs in 2 cells" in out
    assert "left out" not in err
    assert imported_settings("_model") == {*ERRORS}


def test_what_is_left_out_of_wandbs_table_is_told_in_one_line_and_other_underscores_stay():
    rows = [f"run-{n},finished,{n},{line},{n}" for n, line in enumerate(lines())]
    write_csv(rows, heading="Name,State,Runtime,_model,lr,seed,error_percent,_step")
    code, out, err = bring()
    assert code == 0
    assert "12 runs in 2 cells" in out
    assert "columns left out: Name, State, Runtime, _step; name one that counts: --method" in err


def write_groups(seeds=SEEDS):
    rows = [
        f"run-{n},finished,{60 + n},{model},0.1,{seed},{ERRORS[model][n % 6]}"
        for n, (model, seed) in enumerate((model, seed) for model in ERRORS for seed in seeds)
    ]
    write_csv(rows, heading="Name,State,Runtime,Group,lr,seed,error_percent")


def test_wandbs_own_columns_count_where_they_are_named():
    write_groups()
    code, _, err = bring()
    assert code == 2
    assert "got seed 0 as in runs.csv:2; they differ in Group, left out: add --method Group" in err
    code, out, err = bring("--method", "Group")
    assert code == 0
    assert "12 runs in 2 cells" in out
    assert "columns left out: Name, State, Runtime; " in err
    assert [cell["method"] for cell in report()[1]["cells"]] == [*ERRORS]
    code, out, _ = bring("--settings", "Group", "--margin", "1", "--sweep", "times", metric="Runtime")
    assert "12 runs in 2 cells, 12 new" in out
    code, out, _ = call(stats.main, "times", "--json")
    assert [*json.loads(out)["cells"][0]["values"].values()] == [60, 61, 62, 63, 64, 65]


def test_runs_that_differ_in_nothing_but_columns_left_out_are_told():
    write_groups()
    rows = Path("runs.csv").read_text().splitlines()
    rows[7:] = [line.replace(f",0.1,{seed},", f",0.1,{seed + 6},") for seed, line in enumerate(rows[7:])]
    Path("runs.csv").write_text("\n".join(rows))
    code, out, err = bring()
    assert code == 0
    assert "12 runs in 1 cell," in out
    assert "all runs have the same settings; they differ in Group, left out: add --method Group" in err


def test_wandbs_json_has_its_group_as_method():
    write_wandb(lambda model: {"lr": 0.1, "_wandb": {"v": 1}}, name="x")
    runs = json.loads(Path("runs.json").read_text())
    for number, one in enumerate(runs):
        one["group"] = [*ERRORS][number // 6]
    Path("runs.json").write_text(json.dumps(runs))
    code, out, err = bring("--method", "group", file="runs.json")
    assert code == 0
    assert "12 runs in 2 cells" in out
    assert "columns left out: name, _wandb; " in err


def test_a_table_of_ones_own_with_name_and_state_keeps_its_method():
    write_csv(
        [line.replace("0.10", "finished") for line in lines()[:-1]] + ["vit,crashed,5,1"],
        heading="Name,State,seed,error_percent",
    )
    code, out, err = bring()
    assert code == 1
    assert "12 runs in 2 cells" in out
    assert "runs.csv:13: crashed in the export" in err
    assert "columns left out: State; " in err
    write_csv([line.replace("0.10", "Bavaria") for line in lines()], heading="Name,State,seed,error_percent")
    assert "12 runs in 2 cells" in bring("--sweep", "other")[1]


@pytest.mark.parametrize(
    ("values", "size", "told"),
    [
        (["998", "1.012", "1.020", "997"], "5", "runs.csv:3: error_percent must say what its dots are, got 1.012 in a"),
        (["1.112", "1.012", "1.020", "1.997"], "0,5", "is 1.112 a thousand? write 1112 (all of them so), or 1.1120"),
        (["998", "1.0120", "1.020", "997"], "5", ""),
        (["0.998", "1.012", "1.020", "997"], "5", ""),
        (["1.112", "1.012", "1.020", "1.997"], "0.5", ""),
        (["12", "1.012", "1.020", "97"], "5", ""),
    ],
)
def test_dots_that_may_be_thousands_are_refused(values, size, told):
    write_csv(
        [f"a;{size};{seed};{value}" for seed, value in enumerate(values)], heading="model;size;seed;error_percent"
    )
    code, _, err = bring()
    assert (code, told in err) == (2 if told else 0, True)


def test_another_metric_of_the_same_sweep_is_refused_by_its_name():
    write_csv([f"{line},{seed}" for seed, line in enumerate(lines())], heading="model,lr,seed,error_percent,f1_percent")
    assert bring("--ignore", "f1_percent")[0] == 0
    code, _, err = bring("--ignore", "error_percent", metric="f1_percent")
    assert code == 2
    assert err == (
        "--metric must be error_percent, as mine was imported before, got f1_percent; "
        "import this metric under another --sweep name\n"
    )


def test_pandas_index_is_left_out_and_other_columns_need_names():
    numbered = [f"{number},{line}" for number, line in enumerate(lines())]
    for heading in ("", "Unnamed: 0"):
        write_csv(numbered, heading=f"{heading},model,lr,seed,error_percent")
        code, out, err = bring()
        assert code == 0
        assert "12 runs in 2 cells" in out
        assert f"columns left out: {heading or 'the first (it numbers the rows)'}; " in err
    write_csv(numbered[1:], heading=",model,lr,seed,error_percent")
    code, _, err = bring()
    assert code == 2
    assert "runs.csv:1: column 1 must have a name, it has values such as '1'; give the column a name" in err


def test_what_a_spreadsheet_adds_is_no_column():
    write_csv([line.replace(",", ";") + ";;" for line in lines()] + [";;;;;"], heading="model;lr;seed;error_percent;;")
    Path("runs.csv").write_text("\ufeffsep=;\r\n" + Path("runs.csv").read_text())
    assert "12 runs in 2 cells, 12 new" in bring()[1]
    Path("runs.csv").write_text(Path("runs.csv").read_text().replace(";1;", ";x;"))
    assert "runs.csv:4: seed must be a seed" in bring()[2]
    write_csv([*lines()[:-1], f"{lines()[-1]},7"], heading="model,lr,seed,error_percent,")
    assert "runs.csv:1: column 5 must have a name, it has values such as '7'; give" in bring()[2]


def test_what_tells_runs_of_the_ledger_apart_is_left_out_of_their_table():
    write_csv(
        [f"{line},{9 + n}.5,k{n}" for n, line in enumerate(lines())], heading="model,lr,seed,error_percent,wall_s,key"
    )
    code, out, err = bring()
    assert code == 0
    assert "12 runs in 2 cells" in out
    assert "columns left out: wall_s, key; " in err


def test_a_result_that_a_float_cannot_hold_has_diverged():
    write_csv([*lines()[:-1], lines()[-1].replace("21.0", "1e400")])
    code, _, err = bring()
    assert code == 1
    assert "runs.csv:13: error_percent is inf in the export" in err


@pytest.mark.parametrize("first", ["", "sep=|\n"])
def test_other_separators_are_refused(first):
    Path("runs.csv").write_text(first + "model|lr|seed|error_percent\na|0.1|0|20\n")
    code, _, err = bring()
    assert code == 2
    assert "the columns must be separated by commas, semicolons or tabs, got 'model|lr|seed|error_percent'; save" in err


def test_a_line_separator_within_a_text_ends_no_line_of_json():
    write_wandb(lambda model: {"model": model, "text": "a\u2028b"})
    runs = json.loads(Path("runs.json").read_text())
    Path("runs.jsonl").write_text("\r\n".join(json.dumps(run, ensure_ascii=False) for run in runs))
    assert "12 runs in 2 cells" in bring(file="runs.jsonl")[1]


def test_an_import_beside_another_is_told():
    write_csv()
    with Lock(HOME / "mine" / "lock"):
        code, _, err = bring()
    assert code == 2
    assert "another import or launch of this sweep runs, by pid" in err
    assert "wait for it or end it, and import again then" in err
    assert "--status" not in err
