"""A sweep that lacks its source network trains it first: planned, trained by Ray, recorded, resumed, refused."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from l2t_ray import models, sweep
from l2t_ray.config import Source
from l2t_ray.errors import InputError
from l2t_ray.launch.cluster.sources import SourceTrainer
from l2t_ray.launch.worker.source import pretrain as train
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.pretrain import main as pretrain
from l2t_ray.sweepfile.read import read_sweep
from l2t_ray.sweepfile.source_file import read_pretraining
from l2t_ray.training.source_settings import Pretraining
from tests.support.image_files import animals, write_folder
from tests.support.launches import OF_RAY, call
from tests.support.marks import LONG
from tests.support.small_source import SOURCE, TAUGHT

pytestmark = [*OF_RAY, LONG]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write()
    return tmp_path


def write(source=None, **parts):
    Path("small.yaml").write_text(yaml.safe_dump({**SOURCE, **(source or {})}))
    Path("taught.yaml").write_text(yaml.safe_dump({**TAUGHT, **parts}))


def write_chain(**first):
    """small.yaml starts from what first.yaml makes."""
    write(source={"source": {**SOURCE["source"], "weights": "weights/first.pt", "train": "first.yaml"}})
    settings = {**SOURCE, "out": "weights/first.pt", "data": {**SOURCE["data"], "classes": ["4", "5"]}, **first}
    Path("first.yaml").write_text(yaml.safe_dump(settings))


def command(*arguments):
    """Exit code, stdout, stderr."""
    return call(sweep.main, "taught.yaml", "--no-probe", *arguments)


def test_a_sweep_trains_the_source_that_it_lacks_then_its_runs_and_nothing_twice(folder, template, ray_cluster):
    shutil.copy(template, folder)
    code, out, err = command("--plan", "--json")
    assert (code, json.loads(out)["sources"]) == (0, {"weights/small.pt": "small.yaml"})
    assert "weights/small.pt is not there: small.yaml trains it first" in err
    assert not Path("weights").exists()  # a plan starts nothing

    code, out, err = command()
    assert code == 0, err
    assert "weights/small.pt: epoch 2/2: train_loss" in err
    card = json.loads(Path("weights/small.json").read_text())
    assert f"weights/small.pt: {card['test_accuracy_percent']:.2f} % of 180 test images" in err
    assert "2 runs wanted, 0 finished, 2 to train" in err
    entries = Ledger("taught").entries()
    assert sorted(entry.kind for entry in entries) == ["lease", "manifest", "run", "run", "source"]
    keys = {entry.key for entry in entries if entry.kind == "run"}
    assert keys == set(read_sweep(Path("taught.yaml")).runs)  # with the digest of the weights by now

    from mlflow.tracking import MlflowClient

    client = MlflowClient(Ledger("taught").uri)
    logged = client.get_run(next(entry.run_id for entry in entries if entry.kind == "source"))
    assert logged.data.tags["l2t.weights_sha"] == card["weights_sha256"]
    assert logged.data.tags["l2t.git"] == card["git"]
    assert logged.data.params["source.width"] == "0.125"
    history = client.get_metric_history(logged.info.run_id, "train_loss")
    assert [[point.step, point.value] for point in history] == card["metrics"]["train_loss"]
    stored = client.download_artifacts(logged.info.run_id, "card.json", str(folder))
    assert json.loads(Path(stored).read_text()) == card

    content = Path("weights/small.pt").read_bytes()
    code, _, err = command()
    assert (code, "nothing to train" in err, "trains it first" in err) == (0, True, False)
    assert Path("weights/small.pt").read_bytes() == content


def test_a_source_that_starts_from_another_waits_for_it(folder, template, ray_cluster):
    """A chain of two in one launch: the second goes on from the first, and all is in the ledger."""
    shutil.copy(template, folder)
    write_chain()
    code, _, err = command()
    assert code == 0, err
    order = ["weights/first.pt is not", "weights/small.pt is not", "weights/first.pt: epoch", "weights/small.pt: epoch"]
    places = [err.index(line) for line in order]
    assert places == sorted(places)
    network = models.load_source(Source(arch="resnet20", width=0.125, weights="weights/small.pt"))
    assert [part["classes"] for part in network.history] == [["4", "5"], ["0", "1"]]
    entries = Ledger("taught").entries()
    assert sorted(entry.kind for entry in entries) == ["lease", "manifest", "run", "run", "source", "source"]
    card = json.loads(Path("weights/small.json").read_text())
    assert card["settings"]["source"]["sha256"] == json.loads(Path("weights/first.json").read_text())["weights_sha256"]
    code, _, err = command()
    assert (code, "nothing to train" in err) == (0, True)


def test_the_command_that_trains_a_source_trains_what_it_starts_from(folder, template, capsys):
    shutil.copy(template, folder)
    write_chain()
    assert pretrain(["small.yaml"]) == 0
    assert Path("weights/first.pt").exists()
    content = Path("weights/small.pt").read_bytes()
    assert pretrain(["small.yaml"]) == 0
    assert "exists already, trained with the same settings" in capsys.readouterr().err
    assert Path("weights/small.pt").read_bytes() == content


def test_a_machine_that_does_not_see_the_start_is_given_it(folder):
    write_chain()
    first = read_pretraining(Path("first.yaml"))
    train(first, Path("data"))
    second = read_pretraining(Path("small.yaml"))
    start = Path(first.out).read_bytes()
    Path(first.out).unlink()
    trainer = SourceTrainer(second.model_dump_json(), start, str(folder), "data", 1, download=False)
    assert [part["classes"] for part in trainer.train()["card"]["history"]] == [["4", "5"], ["0", "1"]]
    assert Path(first.out).read_bytes() == start


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ({"out": "weights/other.pt"}, "must make weights/first.pt resnet20 0.125, got weights/other.pt resnet20 0.125"),
        ({"source": {"arch": "resnet20", "width": 0.25}}, "got weights/first.pt resnet20 0.25 of first.yaml"),
        (
            {"source": {**SOURCE["source"], "weights": "weights/first.pt", "train": "first.yaml"}},
            "source.train must not lead back to a file before it, got first.yaml twice",
        ),
    ],
    ids=["out", "width", "circle"],
)
def test_a_chain_that_does_not_fit_is_told_at_its_line(folder, first, told):
    write_chain(**first)
    with pytest.raises(InputError) as caught:
        read_sweep(Path("taught.yaml"))
    (problem,) = caught.value.problems
    assert problem.startswith("taught.yaml:")
    assert told in problem


def test_a_source_whose_data_are_refused_ends_the_launch_before_its_runs(folder, template, ray_cluster):
    shutil.copy(template, folder)
    write(source={"data": {"name": "digits", "samples_per_class": 88}})
    code, out, err = command()
    assert (code, out) == (2, "")
    assert "small.yaml: data.samples_per_class must be >= 1 and <= 87 for class '8' of digits, got 88" in err
    assert not [entry for entry in Ledger("taught").entries() if entry.kind == "run"]


SEARCH = {"space": {"training.lr": [0.1, 0.2]}, "trials": 2, "seeds": [100], "validation_per_class": 1}


@pytest.mark.parametrize("more", [{}, {"search": SEARCH}], ids=["sweep", "search"])
def test_no_source_is_trained_for_runs_that_are_refused(folder, template, monkeypatch, more):
    shutil.copy(template, folder)
    monkeypatch.setattr("l2t_ray.launch.cluster.sources.train_sources", lambda *_, **__: pytest.fail("trained"))
    write_folder(Path("pets"), {**animals(), "train/cat/0.png": b"no image"})
    write(run={**TAUGHT["run"], "data": {"name": "image_folder", "path": "pets", "samples_per_class": 2}}, **more)
    for asked in (["--check"], []):
        code, out, err = command(*asked)
        assert (code, out) == (2, "")
        assert "pets: train/cat/0.png" in err


def test_the_plan_of_a_search_counts_the_source_that_it_lacks(folder, template):
    shutil.copy(template, folder)
    write(search=SEARCH)
    code, _, err = command("--plan")
    assert (code, "weights/small.pt is not there: small.yaml trains it first, in " in err) == (0, True)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            {"out": "other.pt"},
            "source.train must be the file that writes 'weights/small.pt', got small.yaml with `out: o",
        ),
        (
            {"source": {"width": 0.25, "arch": "resnet20"}},
            "source.width must be what source.train makes, 0.25, got 0.125",
        ),
        ({"source": {"width": 0.125}}, "source.arch must be what source.train makes, resnet32, got resnet20"),
        ({"seed": -1}, "source.train: small.yaml:8: seed must be >= 0, got -1"),
    ],
    ids=["out", "width", "arch", "seed"],
)
def test_a_training_that_does_not_fit_is_told_at_its_line(folder, source, told):
    write(source=source)
    with pytest.raises(InputError) as caught:
        read_sweep(Path("taught.yaml"))
    (problem,) = caught.value.problems
    assert problem.startswith("taught.yaml:")
    assert told in problem


def test_where_the_weights_are_there_the_training_is_not_looked_at(folder):
    Path("weights").mkdir()
    Path("weights/small.pt").write_bytes(b"some")
    Path("small.yaml").unlink()
    assert read_sweep(Path("taught.yaml")).sources == {}


def test_a_source_that_no_chosen_run_reads_is_not_trained(folder):
    assert read_sweep(Path("taught.yaml"), where=["method=scratch"]).sources == {}
    assert [*read_sweep(Path("taught.yaml"), where=["method=ufm"]).sources] == ["weights/small.pt"]
    write_chain()
    assert read_sweep(Path("taught.yaml"), where=["method=scratch"]).sources == {}
    assert [*read_sweep(Path("taught.yaml"), where=["method=ufm"]).sources] == ["weights/first.pt", "weights/small.pt"]


def test_how_weights_are_trained_is_no_part_of_a_key(folder):
    Path("weights").mkdir()
    Path("weights/small.pt").write_bytes(b"some")
    keys = set(read_sweep(Path("taught.yaml")).runs)
    assert set(read_sweep(Path("taught.yaml"), overrides=["source.train=null"]).runs) == keys


def test_a_sources_key_is_its_settings_and_not_where_it_is_written():
    one, two = (Pretraining.model_validate({**SOURCE, "out": out, "data": {"name": "digits"}}) for out in ("a", "b"))
    assert (one.key, len(one.key)) == (two.key, 16)
    assert one.model_copy(update={"seed": 1}).key != one.key


def test_no_run_is_trained_under_a_key_that_is_provisional(folder, template, monkeypatch):
    """The weights are gone again when the launch reads the file anew."""
    shutil.copy(template, folder)
    monkeypatch.setattr("l2t_ray.launch.cluster.sources.train_sources", lambda *_, **__: None)
    code, out, err = command()
    assert (code, out) == (2, "")
    assert "weights/small.pt: must be there once small.yaml has trained it; launch again" in err
    assert not [entry for entry in Ledger("taught").entries() if entry.kind == "run"]
