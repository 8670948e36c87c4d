"""W&B's exports: its table and its JSON, its own columns, runs that it lost."""

import json
import math
from pathlib import Path

from analysis import stats
from tests.support.exports import ERRORS, SEEDS, WANDB, bring, imported_settings, lines, report, write_csv
from tests.support.launches import call


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


def test_a_comma_that_is_missing_in_a_list_is_told_at_its_line():
    Path("runs.json").write_text('[\n {"config": {"seed": 0} "summary": {}},\n {}\n]')
    code, _, err = bring(file="runs.json")
    assert code == 2
    assert "runs.json:2: must be a list in JSON, got Expecting ',' delimiter at column 25; correct it" in err


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


def test_the_metric_is_the_result_and_not_the_setting_of_its_name():
    write_wandb(lambda model: {"model": model, "error_percent": 0})
    assert bring(file="runs.json")[0] == 0
    assert [*report()[1]["cells"][0]["values"].values()] == [*ERRORS["resnet"]]
    assert imported_settings("error_percent") == {"0"}


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


def test_a_line_separator_within_a_text_ends_no_line_of_json():
    write_wandb(lambda model: {"model": model, "text": "a\u2028b"})
    runs = json.loads(Path("runs.json").read_text())
    Path("runs.jsonl").write_text("\r\n".join(json.dumps(run, ensure_ascii=False) for run in runs))
    assert "12 runs in 2 cells" in bring(file="runs.jsonl")[1]
