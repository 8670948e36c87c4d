"""Images of other sizes, other normalisation and other changes in training: what the networks see."""

import base64

import pytest
import torch

from l2t_ray import registry
from l2t_ray.config import TARGET, Augment, Data, Record, Run, Source, Target, Training
from l2t_ray.data.augment import normalize
from l2t_ray.data.load import load_data
from l2t_ray.training.kept import export, load_predictor
from l2t_ray.training.learner import Learner
from l2t_ray.training.pack import train
from tests.support.learners import source as make_source

CPU = torch.device("cpu")
CLASSES = ("0", "1", "2")
HALF = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    registry.load()
    return tmp_path_factory.mktemp("data")


def run(method="scratch", *, augment=None, **data):
    return Run(
        data=Data(name="digits", classes=CLASSES, samples_per_class=4, **data), method=method, seed=0,
        source=Source(arch="resnet20", width=0.25), target=Target(arch="resnet20", width=0.25),
        training=Training(epochs=2, batch_size=5), augment=augment or Augment(),
        record=Record(evaluations=0, weights="last"),
    )  # fmt: skip


def test_a_run_trains_on_images_of_another_size_and_its_network_works_alone(data_dir, tmp_path):
    settings = run(image_size=48)
    data = load_data(settings.data, data_dir)
    (outcome,) = train([settings], data, None, device=CPU)
    content = base64.b64decode(outcome.artifacts[TARGET])
    network = export(content, tmp_path / "net.pt2")
    assert (network.side, network.classes) == (48, CLASSES)
    alone = torch.export.load(tmp_path / "net.pt2").module()
    right = alone(data.test_images).argmax(1) == data.test_labels
    assert 100 * right.double().mean() == pytest.approx(outcome.metrics["test_accuracy_percent"][-1][1])


def test_images_are_normalised_as_the_source_expects_where_it_is_read(data_dir):
    """(255 / 255 - 0.5) / 0.25 = 2, and (0 - 0.5) / 0.25 = -2."""
    white = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 4, 4)
    source = make_source()
    seen = {}
    for given in (None, HALF):
        source.normalization = given
        for method in ("scratch", "ufm"):
            for rule in ("imagenet", "from_source"):
                learner = Learner(run(method, normalize=rule), 3, source, CPU)
                seen[given, method, rule] = learner.normalized(white)
    for (given, method, rule), x in seen.items():
        if (given, method, rule) == (HALF, "ufm", "from_source"):
            torch.testing.assert_close(x[:, 0, 0, 0], torch.tensor([-2.0, 2.0]))
        else:
            assert torch.equal(x, normalize(white))


def test_the_kept_network_normalises_as_it_was_trained(data_dir):
    source = make_source()
    source.normalization = HALF
    settings = run("ufm", normalize="from_source")
    data = load_data(settings.data, data_dir)
    (outcome,) = train([settings], data, source, device=CPU)
    predictor = load_predictor(base64.b64decode(outcome.artifacts[TARGET]))
    assert predictor.normalization == HALF
    right = predictor(data.test_images).argmax(1) == data.test_labels
    assert 100 * right.double().mean() == pytest.approx(outcome.metrics["test_accuracy_percent"][-1][1])
