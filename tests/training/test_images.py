"""Images of other sizes, other normalisation and other changes in training: what the networks see."""

import base64

import pytest
import torch
from torch.nn import functional as F

from l2t_ray import registry
from l2t_ray.config import TARGET, Augment, Data, Record, Run, Source, Target, Training
from l2t_ray.data import load, place
from l2t_ray.data.augment import normalize
from l2t_ray.data.load import load_data
from l2t_ray.methods.hypergrad import logit_gradient
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


CHANGES = {
    "crops": Augment(resized_crop=0.3),
    "rand-augment": Augment(rand_augment=2),
    "colours": Augment(color_jitter=0.4, hue_jitter=0.1),
    "mixtures": Augment(mixup=0.2),
}


@pytest.mark.parametrize(("change", "method"), [*((change, "scratch") for change in CHANGES), ("mixtures", "l2t_www")])
def test_every_change_trains_and_a_run_continues_as_if_it_had_not_stopped(data_dir, change, method):
    settings = run(method, augment=CHANGES[change])
    data, source = load_data(settings.data, data_dir), make_source() if method != "scratch" else None
    snapshots = []
    (whole,) = train([settings], data, source, device=CPU, on_epoch=lambda epoch, take: snapshots.append(take()))
    (again,) = train([settings], data, source, device=CPU, states=snapshots[0])
    assert whole.status == "finished"
    assert again.metrics == whole.metrics
    (plain,) = train([run(method)], data, source, device=CPU)
    assert plain.metrics["train_loss"] != whole.metrics["train_loss"]


@pytest.mark.parametrize("augment", [Augment(), CHANGES["colours"]], ids=["plain", "colours"])
def test_images_that_do_not_fit_change_no_result(data_dir, monkeypatch, augment):
    settings = run("ufm", augment=augment, validation_per_class=3)
    data, source = load_data(settings.data, data_dir), make_source()
    (there,) = train([settings], data, source, device=CPU)
    monkeypatch.setattr(place, "fits", lambda n_bytes, device: False)
    (apart,) = train([settings], data, source, device=CPU)
    assert apart.metrics == there.metrics


def test_a_mixtures_loss_is_its_labels_by_their_shares(data_dir):
    """Zhang et al. 2018: the loss of a mixture is the labels' losses by their shares; linear, so is its gradient."""
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first, second, share = torch.tensor([0, 1, 2, 1]), torch.tensor([1, 1, 0, 2]), 0.3
    shares = share * F.one_hot(first, 3) + (1 - share) * F.one_hot(second, 3)
    expected = share * logit_gradient(logits, first) + (1 - share) * logit_gradient(logits, second)
    torch.testing.assert_close(logit_gradient(logits, shares.double()), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("fit", [True, False])
def test_on_a_gpu_large_images_train_with_every_change(data_dir, monkeypatch, fit):
    monkeypatch.setattr(place, "fits", lambda n_bytes, device: fit)
    monkeypatch.setattr(load, "fits", lambda n_bytes, device: fit)
    every = Augment(resized_crop=0.3, rand_augment=2, color_jitter=0.4, hue_jitter=0.1, mixup=0.2)
    for augment in (Augment(), every):
        settings = run(image_size=224, augment=augment)
        (outcome,) = train([settings], load_data(settings.data, data_dir), None, device=torch.device("cuda"))
        assert outcome.status == "finished"
