"""The trained network and its predictions, kept beside a run's numbers; and the program that works alone."""

import base64
import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from l2t_ray import registry
from l2t_ray.config import PREDICTIONS, TARGET, Augment, Data, Record, Run, Source, Target, Training
from l2t_ray.data import augment
from l2t_ray.data.load import load_data
from l2t_ray.errors import InputError
from l2t_ray.models.weights import source_state
from l2t_ray.training.kept import export, load_predictor, target_file
from l2t_ray.training.learner import Learner
from l2t_ray.training.pack import train
from tests.support.learners import source as make_source

CPU = torch.device("cpu")
CLASSES = ("0", "1", "2")
RIVALS = ("linear_probe", "surgical", "bss", "stochnorm", "co_tuning", "delta")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    registry.load()
    return load_data(Data(name="digits", classes=CLASSES, samples_per_class=4), tmp_path_factory.mktemp("data"))


def run(method="scratch", seed=0, arch="vgg9", width=0.1, weights=None, **record):
    return Run(
        data=Data(name="digits", classes=CLASSES, samples_per_class=4), method=method, seed=seed,
        source=Source(arch="resnet20", width=0.25, weights=weights), target=Target(arch=arch, width=width),
        training=Training(epochs=2, batch_size=8), augment=Augment(flip=False),
        record=Record(**{"evaluations": 1, "weights": "last", "predictions": True, **record}),
    )  # fmt: skip


def file_of(outcome, name):
    return base64.b64decode(outcome.artifacts[name])


def test_keeping_files_changes_no_key_and_no_result(digits):
    keeping = run()
    plain = keeping.model_copy(update={"record": Record(evaluations=1)})
    assert plain.key == keeping.key
    results = [train([one], digits, None, device=CPU)[0] for one in (plain, keeping)]
    assert results[0].metrics == results[1].metrics
    assert [sorted(one.artifacts) for one in results] == [[], sorted([TARGET, PREDICTIONS])]


@pytest.mark.parametrize(("arch", "width"), [("vgg9", 0.1), ("resnet20", 0.25), ("vit", 0.25)])
def test_the_kept_network_predicts_what_was_measured(digits, arch, width):
    (outcome,) = train([run(arch=arch, width=width)], digits, None, device=CPU)
    table = pd.read_parquet(io.BytesIO(file_of(outcome, PREDICTIONS)))
    assert len(table) == len(digits.test_labels)
    accuracy = 100 * (table["label"] == table["predicted"]).mean()
    assert accuracy == pytest.approx(outcome.metrics["test_accuracy_percent"][-1][1])
    shares = table[[f"probability of {name}" for name in CLASSES]].to_numpy()
    assert np.allclose(shares.sum(1), 1)
    with torch.no_grad():
        logits = load_predictor(file_of(outcome, TARGET))(digits.test_images)
    assert np.abs(logits.softmax(-1).numpy() - shares).max() < 1e-5


def test_each_run_of_a_pack_keeps_its_own(digits):
    runs = [run(seed=seed) for seed in (0, 1)]
    together = train(runs, digits, None, device=CPU)
    alone = train(runs[1:], digits, None, device=CPU)
    first, second, expected = (
        load_predictor(file_of(one, TARGET))(digits.test_images[:9]) for one in (*together, *alone)
    )
    assert not torch.equal(first, second)
    assert torch.equal(second, expected)


def test_a_transferred_network_is_kept_without_its_projections(digits):
    (outcome,) = train([run("l2t_www")], digits, make_source(), device=CPU)
    names = [name for name in load_predictor(file_of(outcome, TARGET)).places if name.startswith("theta.")]
    assert all(name.startswith(("theta.conv.", "theta.bn.", "theta.fc.")) for name in names)


def test_the_exported_program_predicts_without_this_project(digits, tmp_path):
    (outcome,) = train([run()], digits, None, device=CPU)
    content = file_of(outcome, TARGET)
    assert export(content, tmp_path / "net.pt2").classes == CLASSES
    torch.save(digits.test_images[:7], tmp_path / "images.pt")
    code = (
        "import sys, torch; sys.modules['l2t_ray'] = None; files = {'classes.json': ''}\n"
        "net = torch.export.load('net.pt2', extra_files=files).module()\n"
        "print(files['classes.json']); torch.save(net(torch.load('images.pt')), 'logits.pt')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == '["0", "1", "2"]'
    with torch.no_grad():
        expected = load_predictor(content)(digits.test_images[:7])
    assert (torch.load(tmp_path / "logits.pt") - expected).abs().max() < 1e-5


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v3_small", "vit_b_16"])
@pytest.mark.usefixtures("narrow")
def test_networks_of_torchvision_are_exported_in_a_process_that_has_computed_nothing_yet(digits, tmp_path, arch):
    data = Data(name="digits", samples_per_class=1, classes=CLASSES, image_size=64)
    learner = Learner(Run(data=data, method="scratch", seed=0, target=Target(arch=arch)), 3, None, torch.device("cpu"))
    augment._constants.cache_clear()
    content = target_file(learner, CLASSES)
    export(content, tmp_path / "net.pt2")
    images = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        exported = torch.export.load(tmp_path / "net.pt2").module()(images)
        torch.testing.assert_close(exported, learner.predict(learner.normalized(images)))


def trained_with_source(method, digits, folder):
    """The outcome of a run whose source's weights are `source.pt` in the folder."""
    network = make_source().float()
    torch.save(source_state(network), folder / "source.pt")
    keeping = run(method, arch="resnet20", width=0.25, weights=str(folder / "source.pt"))
    if method == "surgical":
        keeping = keeping.model_copy(update={"options": {"block": "stages.0"}})
    return train([keeping], digits, network, device=CPU)[0]


def test_a_network_that_needs_its_source_reads_it_again(digits, tmp_path):
    outcome = trained_with_source("spottune", digits, tmp_path)
    with torch.no_grad():
        logits = load_predictor(file_of(outcome, TARGET))(digits.test_images)
    table = pd.read_parquet(io.BytesIO(file_of(outcome, PREDICTIONS)))
    assert (np.array(CLASSES)[logits.argmax(-1)] == table["predicted"].astype(str)).all()


@pytest.mark.parametrize("method", [*RIVALS, "spottune", "finetune", "l2t_www"])
def test_a_network_is_exported_alike_after_its_source_has_moved(digits, tmp_path, method):
    outcome = trained_with_source(method, digits, tmp_path)
    content = file_of(outcome, TARGET)
    with torch.no_grad():
        expected = load_predictor(content)(digits.test_images)
        (tmp_path / "source.pt").rename(tmp_path / "moved.pt")
        if method in {"spottune", "co_tuning"}:  # its blocks, and its number of classes
            with pytest.raises(InputError, match=r"source\.pt: source.weights does not exist"):
                export(content, tmp_path / "net.pt2")
            return
        export(content, tmp_path / "net.pt2")
        assert torch.equal(load_predictor(content)(digits.test_images), expected)
        logits = torch.export.load(tmp_path / "net.pt2").module()(digits.test_images)
    assert (logits - expected).abs().max() < 1e-5


@pytest.mark.parametrize("method", RIVALS)
def test_what_a_rivals_own_network_keeps_predicts_and_is_exported(digits, tmp_path, method):
    outcome = trained_with_source(method, digits, tmp_path)
    content = file_of(outcome, TARGET)
    export(content, tmp_path / "net.pt2")
    with torch.no_grad():
        logits = torch.export.load(tmp_path / "net.pt2").module()(digits.test_images)
    table = pd.read_parquet(io.BytesIO(file_of(outcome, PREDICTIONS)))
    assert (np.array(CLASSES)[logits.argmax(-1)] == table["predicted"].astype(str)).all()


@pytest.mark.parametrize("content", [b"", b"no file", b"\x08\0\0\0\0\0\0\0{}      "], ids=["empty", "text", "bare"])
def test_another_file_is_refused(content):
    with pytest.raises(InputError, match=r"target.safetensors: must be a file that a run of l2t-ray kept"):
        load_predictor(content)
