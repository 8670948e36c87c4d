"""Hydra's folders of jobs."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.exports import ERRORS, SEEDS, bring, imported_settings, report


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


def test_a_job_of_hydra_whose_results_lack_the_metric_is_refused():
    for number in range(4):
        job = Path("multirun", str(number))
        (job / ".hydra").mkdir(parents=True)
        (job / ".hydra/config.yaml").write_text(f"model: a\nseed: {number}\n")
        (job / "results.json").write_text(json.dumps({"los" if number == 2 else "loss": 1.0}))
    code, _, err = bring("--margin", "1", file="multirun", metric="loss")
    assert code == 2
    assert "multirun/2: loss must be among the results of a run that has ended; there are los; did you mean los?" in err


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
