"""The command that trains source networks: a card describes each, none is overwritten unasked, mistakes are told."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from l2t_ray import models
from l2t_ray.config import Source
from l2t_ray.data.augment import normalize
from l2t_ray.data.load import load_data
from l2t_ray.errors import InputError
from l2t_ray.files import Lock
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.pretrain import main
from l2t_ray.sweepfile.source_file import read_pretraining
from l2t_ray.training import pretraining
from tests.support.marks import LONG
from tests.support.places import ROOT
from tests.support.small_source import SMALL

SWEEPS = ROOT / "sweeps"
SMALL_SETTINGS = {**SMALL, "data": {**SMALL["data"], "classes": ("0", "1")}}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def launch(tmp_path, monkeypatch, data_dir, template):
    """Writes the small file and runs the command on it in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(template, tmp_path)
    Path("source.yaml").write_text(yaml.safe_dump(SMALL))
    return lambda *arguments: main(["source.yaml", "--data-dir", str(data_dir), *arguments])


OUT, CARD = Path(SMALL["out"]), Path("weights/small source's.json")


def test_the_command_writes_weights_that_a_sweep_can_read(launch, data_dir, capsys):
    assert launch() == 0
    card = json.loads(CARD.read_text())
    network = models.load_source(Source(arch="resnet20", width=0.125, weights=str(OUT)))
    data = load_data(read_pretraining(Path("source.yaml")).data, data_dir)
    right = sum(  # one image at a time
        int(network(normalize(image[None])).argmax()) == int(label)
        for image, label in zip(data.test_images, data.test_labels, strict=True)
    )
    assert card["n_test"] == len(data.test_labels) == 89 + 91  # half of 178 zeros and 182 ones
    assert card["test_accuracy_percent"] == pytest.approx(100 * right / 180, abs=1e-9)
    assert card["classes"] == ["0", "1"]
    assert card["data_sha256"] == data.sha256
    assert [epoch for epoch, _ in card["metrics"]["train_loss"]] == [1, 2, 3, 4]
    assert {"git", "versions", "wall_s", "arch", "width"} <= set(card)
    told = capsys.readouterr()
    assert told.out.startswith(f"{OUT}: {card['test_accuracy_percent']:.2f} % of 180 test images of digits (2 classes)")
    assert told.out.count("\n") == 1
    assert "epoch 4/4" in told.err
    names = sorted(path.name for path in Path("weights").iterdir())
    assert names == [f".{OUT.stem}.lock", CARD.name, OUT.name]  # no checkpoint is left


def test_mlflow_knows_the_training_its_curves_and_its_card(launch):
    assert launch() == 0
    card = json.loads(CARD.read_text())
    (entry,) = [entry for entry in Ledger("sources").entries() if entry.kind == "source"]
    assert (entry.experiment, entry.status, entry.tags["outcome"]) == ("sources", "FINISHED", "finished")
    assert entry.key == read_pretraining(Path("source.yaml")).key

    from mlflow.tracking import MlflowClient

    client = MlflowClient(Ledger("sources").uri)
    logged = client.get_run(entry.run_id)
    assert logged.data.tags["l2t.weights_sha"] == card["weights_sha256"]
    assert logged.data.params["training.batch_size"] == "16"
    assert logged.data.metrics["test_accuracy_percent"] == card["test_accuracy_percent"]
    curve = client.get_metric_history(entry.run_id, "train_loss")
    assert [[point.step, point.value] for point in curve] == card["metrics"]["train_loss"]
    assert json.loads(Path(client.download_artifacts(entry.run_id, "card.json", ".")).read_text()) == card
    assert launch() == 0
    assert len([entry for entry in Ledger("sources").entries() if entry.kind == "source"]) == 1


def test_a_ledger_that_is_away_costs_no_training_and_gets_its_entry_later(launch, monkeypatch, capsys):
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        assert launch() == 0
        assert "their entry waits in" in capsys.readouterr().err
        assert OUT.is_file()
    assert launch() == 0
    assert [entry.kind for entry in Ledger("sources").entries()].count("source") == 1
    assert len(Ledger("sources").spool) == 0


def test_launching_again_trains_nothing(launch, monkeypatch, capsys):
    assert launch() == 0
    first, content = capsys.readouterr().out, OUT.read_bytes()
    monkeypatch.setattr("l2t_ray.launch.worker.source.train_source", None)
    assert launch() == 0
    told = capsys.readouterr()
    assert told.out == first
    assert "exists already" in told.err
    assert OUT.read_bytes() == content


def test_weights_of_other_settings_are_kept_unless_forced(launch, capsys):
    assert launch() == 0
    content = OUT.read_bytes()
    assert launch("--set", "training.epochs=1", "--set", "augment.flip=false") == 2
    told = capsys.readouterr().err
    assert "holds weights of other settings: augment.flip is True, not False; training.epochs is 4, not 1; " in told
    assert OUT.read_bytes() == content
    assert launch("--set", "training.epochs=1", "--force") == 0
    assert json.loads(CARD.read_text())["settings"]["training"]["epochs"] == 1


def test_an_interrupted_command_exits_with_1_and_goes_on_when_launched_again(launch, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        assert launch() == 1
    assert not OUT.exists()
    capsys.readouterr()
    assert launch() == 0
    assert "epoch 3/4" in capsys.readouterr().err.splitlines()[1]


def interrupt_after(monkeypatch, epoch):
    real = pretraining.save_state

    def save_and_interrupt(path, state):
        real(path, state)
        if state["epoch"] == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(pretraining, "save_state", save_and_interrupt)


def test_force_that_was_interrupted_goes_on_without_it(launch, monkeypatch, capsys):
    assert launch("--set", "training.epochs=1") == 0
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        assert launch("--force") == 1
    assert "launch again without --force to go on" in capsys.readouterr().err
    assert not OUT.exists()
    assert not CARD.exists()
    assert launch() == 0
    assert "epoch 3/4" in capsys.readouterr().err.splitlines()[1]
    assert json.loads(CARD.read_text())["settings"]["training"]["epochs"] == 4


def test_force_that_cannot_train_removes_nothing(launch):
    assert launch() == 0
    content = OUT.read_bytes()
    assert launch("--force", "--set", "data.samples_per_class=500") == 2
    assert launch("--force", "--set", "training.lr=1e30") == 2
    assert OUT.read_bytes() == content
    assert CARD.exists()


def test_an_address_of_a_ledger_that_is_none_is_told_before_the_training(launch, monkeypatch, capsys):
    monkeypatch.setattr("l2t_ray.launch.worker.source.train_source", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense")
    assert launch() == 2
    assert "MLFLOW_TRACKING_URI must be a database or a server" in capsys.readouterr().err


def test_a_full_disk_is_told_with_its_remedy_and_costs_no_epoch(launch, monkeypatch, capsys):
    def fail(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("l2t_ray.launch.worker.source.write_atomic", fail)
        assert launch() == 1
    assert f"{CARD}: the disk must have room, got 'No space left on device'; free some" in capsys.readouterr().err
    monkeypatch.setattr(pretraining._Steps, "train_epoch", None)
    assert launch() == 0


def test_a_second_command_for_the_same_weights_is_refused_and_told_who_trains_them(launch, monkeypatch, capsys):
    monkeypatch.setattr("l2t_ray.launch.worker.source.train_source", None)
    with Lock(OUT.with_name(f".{OUT.stem}.lock")):
        for force in ([], ["--force"]):
            assert launch(*force) == 2
            assert f"{OUT} is being trained already, by pid {os.getpid()} on" in capsys.readouterr().err


def test_weights_in_a_folder_that_cannot_be_written_are_taken(launch, monkeypatch):
    assert launch() == 0
    monkeypatch.setattr("l2t_ray.launch.worker.source.Lock", None)
    assert launch() == 0


def test_a_loss_that_explodes_is_told_with_its_epoch(launch, capsys):
    assert launch("--set", "training.lr=1e30") == 2
    assert "training.lr must keep the loss finite, got 1e+30: train_loss is nan in epoch 1; lower it" in (
        capsys.readouterr().err
    )
    assert not OUT.exists()


def test_a_folder_that_cannot_be_written_is_told_before_the_training(launch, monkeypatch, capsys):
    monkeypatch.setattr("l2t_ray.launch.worker.source.train_source", None)
    Path("weights").write_text("a file where the folder should be")
    assert launch() == 2
    assert f"{OUT}: must be in a folder that can be written" in capsys.readouterr().err


def test_every_mistake_of_a_file_is_told_at_its_line(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(
        "source: {arch: resnet33, width: -1}\n"
        "data: {name: digits, clases: [a]}\n"
        "training:\n"
        "  epochs: 0\n"
        "  milestones: [0.5, 1.5]\n"
        "  precision: float16\n"
        "augment: 4\n"
        "seed: 1.5\n"
        "outt: x.pt\n"
    )
    with pytest.raises(InputError) as caught:
        read_pretraining(path, overrides=["training.momentum=1", "nonsense"])
    problems = "\n".join(caught.value.problems)
    for told in (
        "bad.yaml:1: source.arch must be timm/NAME, hf/USER/NAME@COMMIT or one of vgg9, vgg11, resnet20, "
        "resnet32, resnet44, resnet56, vit, "
        "resnet18, resnet34, resnet50, vgg16_bn, mobilenet_v3_small, mobilenet_v3_large, convnext_tiny, vit_b_16, "
        'got "resnet33"',
        "bad.yaml:1: source.width must be > 0, got -1",
        "bad.yaml:2: data.clases is no setting; did you mean classes?",
        "bad.yaml:4: training.epochs must be >= 1, got 0",
        "bad.yaml:5: training.milestones must be < 1, got 1.5",
        'bad.yaml:6: training.precision must be one of float32, tf32, bf16, float64, got "float16"',
        "bad.yaml:7: augment. must be a map of settings, got 4",
        "bad.yaml:8: seed must be a whole number, got 1.5",
        "bad.yaml:9: outt is no setting; did you mean out?",
        "bad.yaml:1: out must be given; add it",
        "--set training.momentum=1: training.momentum must be < 1, got 1",
        "--set nonsense: must be dotted.key=VALUE",
    ):
        assert told in problems, problems
    assert len(caught.value.problems) == 12


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("augment: {resized_crop: 0.5, crop_padding: 2}", "augment.crop_padding must stand without augment.resized_"),
        ("augment: {rand_augment_magnitude: 20}", "augment.rand_augment_magnitude must stand with augment.rand_aug"),
        ("data: {name: digits, test_fraction: 0.2}", "data.test_fraction must stand with image_folder, got data.name"),
        ("data: {name: digits, path: x}", "data.path must stand with image_folder or tiny_imagenet, got data.name"),
        ("training: {accumulate: 2}", "training.accumulate is no setting of a source network; remove it"),
        ("source: {arch: resnet20, levels: [a]}", "source.levels must be left out for resnet20"),
    ],
)
def test_a_setting_without_an_effect_is_refused_at_its_line(tmp_path, given, told):
    path = tmp_path / "source.yaml"
    path.write_text(f"out: x.pt\nseed: 0\n{given}\n" + ("" if "data:" in given else "data: {name: digits}\n"))
    with pytest.raises(InputError) as caught:
        read_pretraining(path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}:3: {told}")


def test_a_missing_file_is_told(tmp_path, capsys):
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: must be a file that can be read" in capsys.readouterr().err


def test_what_an_image_folder_contains_is_part_of_the_settings(tmp_path):
    from PIL import Image

    for split in ("train", "test"):
        (tmp_path / "images" / split / "cat").mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "images" / split / "cat" / "0.png")
    path = tmp_path / "source.yaml"
    path.write_text(yaml.safe_dump({"out": "x.pt", "data": {"name": "image_folder", "path": str(tmp_path / "images")}}))
    settings = read_pretraining(path, data_dir=tmp_path)
    assert len(settings.data.sha256) == 64
    assert "path" not in settings.resolved()["data"]
    Image.new("RGB", (32, 32), "red").save(tmp_path / "images" / "train" / "cat" / "1.png")
    assert read_pretraining(path, data_dir=tmp_path).data.sha256 != settings.data.sha256


@pytest.mark.slow
@LONG
def test_the_quick_starts_source_learns_its_digits(tmp_path):
    command = [sys.executable, "-m", "l2t_ray.pretrain", str(SWEEPS / "quickstart_source.yaml")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1000, check=True)
    card = json.loads((tmp_path / "weights" / "quickstart_digits.json").read_text())
    assert card["test_accuracy_percent"] > 97, done.stderr
