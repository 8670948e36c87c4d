"""What tests of `l2t import` share: runs of two models, as a table; the import, and the report of what it brought."""

import json
from pathlib import Path

from analysis import stats
from l2t.command import main
from l2t_ray.ledger.client import connect
from tests.support.launches import call

SEEDS = range(6)
ERRORS = {"resnet": (20.0, 21.5, 19.25, 20.75, 22.0, 18.5), "vit": (24.0, 23.5, 25.25, 22.75, 26.0, 21.0)}
WANDB = "Name,State,Created,Runtime,model,lr,seed,error_percent,_step\n"


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


def imported_settings(name):
    """A setting of every run in the ledger, as MLflow's text."""
    client = connect(f"sqlite:///{Path('mlflow.db').resolve()}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "mine"]
    runs = client.search_runs([experiment.experiment_id], "tags.`l2t.kind` = 'run'")
    return {run.data.params[f"settings.{name}"] for run in runs}
