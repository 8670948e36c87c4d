"""Source networks are trained as a plain loop would, and resumed bitwise."""

import functools
import tarfile

import pytest
import torch
import yaml
from torch.nn import functional as F

from l2t_ray import models
from l2t_ray.config import Augment, Source
from l2t_ray.data.augment import epoch_draws
from l2t_ray.data.load import load_data
from l2t_ray.data.streams import stream
from l2t_ray.data.subsets import stratified_subset
from l2t_ray.sweepfile.source_file import read_pretraining
from l2t_ray.training import pretraining
from l2t_ray.training.cuda_graph import Replay
from l2t_ray.training.pretraining import learning_rate, train_source
from l2t_ray.training.source_settings import Pretraining, SourceNetwork, SourceTraining
from tests.support.places import SHARED
from tests.support.recording import pretended_graphs
from tests.support.small_source import SMALL

SMALL_SETTINGS = {**SMALL, "data": {**SMALL["data"], "classes": ("0", "1")}}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def slow_twin(settings, data):
    """The recipe as one would write it first: one image at a time, SGD with momentum by its formula, float64."""
    network = models.ResNet(20, settings.source.width, len(data.classes))
    models.initialise(network, stream(settings.seed, "init"))
    network.double().train()
    velocity = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    rows = stratified_subset(data.train_labels, data.classes, settings.data.samples_per_class, settings.seed)
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]
    for epoch in range(settings.training.epochs):
        order, offsets, flips = epoch_draws(settings.seed, epoch, len(rows), settings.augment)
        for start in range(0, len(order), settings.training.batch_size):
            images, labels = [], []
            for place in order[start : start + settings.training.batch_size].tolist():
                padded = F.pad(data.train_images[rows[place]], (2, 2, 2, 2))
                top, left = offsets[place].tolist()
                image = padded[:, top : top + 32, left : left + 32]
                image = image.flip(2) if flips[place] else image
                images.append((image.double() / 255 - mean) / std)
                labels.append(data.train_labels[rows[place]])
            loss = F.cross_entropy(network(torch.stack(images)), torch.stack(labels))
            gradients = torch.autograd.grad(loss, list(network.parameters()))
            with torch.no_grad():
                for (name, p), gradient in zip(network.named_parameters(), gradients, strict=True):
                    velocity[name] = 0.9 * velocity[name] + gradient + 1e-4 * p
                    p.sub_(0.1 * 0.1 ** [0, 0, 1, 2][epoch] * velocity[name])  # of 4 epochs: milestones at 2 and 3
    return network.eval()


def train(settings, folder, data_dir, on_epoch=lambda progress: None):
    data = load_data(settings.data, data_dir)
    return train_source(settings, data, device=CPU, checkpoint=folder / "checkpoint", on_epoch=on_epoch)


def settings_with(**training):
    return Pretraining(**{**SMALL_SETTINGS, "training": SourceTraining(**{**SMALL["training"], **training})})


def test_training_is_what_a_plain_loop_does(tmp_path, data_dir):
    """float64 throughout; what is left is the rounding of the weights to float32 at the end, 6e-8 of each."""
    settings = settings_with(precision="float64")
    network, _ = train(settings, tmp_path, data_dir)
    expected = slow_twin(settings, load_data(settings.data, data_dir)).state_dict()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor.double(), expected[name].double(), rtol=1e-6, atol=1e-7)


def test_steps_that_are_recorded_and_replayed_are_those_called(tmp_path, data_dir, monkeypatch):
    """A CUDA graph pretended on the CPU; rates and draws change with the epochs, and the last batch is smaller."""
    settings, found = settings_with(), {}
    monkeypatch.setattr(pretraining, "_captures", lambda device: True)
    for name, captured in (("called", False), ("replayed", True)):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(pretraining, "Replay", functools.partial(_replay, force=captured))
        with pretended_graphs(monkeypatch) as recordings:
            network, progress = train(settings, tmp_path / name, data_dir)
        found[name] = network.state_dict(), progress.metrics
        assert sum(recording.n_replays for recording in recordings) >= captured * settings.training.epochs
    (called, metrics), (replayed, its_metrics) = found.values()
    assert its_metrics == metrics
    assert all(torch.equal(replayed[name], tensor) for name, tensor in called.items())


def _replay(functions, state, *, captured, force):
    assert captured
    return Replay(functions, state, captured=force)


def test_the_rate_falls_tenfold_at_half_and_three_quarters():
    """The published networks: 0.1, times 0.1 at 50 % and 75 % of 200 epochs."""
    rates = [learning_rate(SourceTraining(), epoch) for epoch in (0, 99, 100, 149, 150, 199)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_defaults_are_the_published_recipe():
    training = SourceTraining()
    assert (training.epochs, training.batch_size, training.lr, training.momentum) == (200, 128, 0.1, 0.9)
    assert (training.milestones, training.weight_decay) == ((0.5, 0.75), 1e-4)
    assert Pretraining(out="x", data=SMALL_SETTINGS["data"]).augment == Augment(crop_padding=4, flip=True)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_training_that_was_stopped_continues_bitwise(tmp_path, data_dir, stop):
    class StoppedError(Exception):
        pass

    def stop_at(progress):
        if progress.epoch == stop:
            raise StoppedError

    settings = settings_with()
    whole, undisturbed = train(settings, tmp_path / "a", data_dir)
    with pytest.raises(StoppedError):
        train(settings, tmp_path / "b", data_dir, stop_at)
    epochs = []
    resumed, progress = train(settings, tmp_path / "b", data_dir, lambda progress: epochs.append(progress.epoch))
    assert epochs == list(range(stop + 1, 5))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert progress.metrics == undisturbed.metrics


def test_a_checkpoint_of_other_settings_is_not_continued(tmp_path, data_dir):
    train(settings_with(), tmp_path, data_dir)
    epochs = []
    train(settings_with(weight_decay=0.0), tmp_path, data_dir, lambda progress: epochs.append(progress.epoch))
    assert epochs == [1, 2, 3, 4]


@pytest.mark.parametrize(("arch", "width"), [("vgg9", 0.1), ("vgg11", 0.1), ("vit", 0.1)])
def test_every_architecture_trains_and_comes_back(tmp_path, data_dir, arch, width):
    source = SourceNetwork(arch=arch, width=width)
    network, progress = train(settings_with(epochs=1).model_copy(update={"source": source}), tmp_path, data_dir)
    assert progress.metrics["train_loss"][0][1] == pytest.approx(0.69, abs=0.5)  # ln 2 = 0.69 at chance
    torch.save(models.source_state(network), tmp_path / "own.pt")
    loaded = models.load_source(Source(arch=arch, width=width, weights=str(tmp_path / "own.pt")))
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(x), network(x))
    assert [f.shape[-1] for f in loaded.features(x)] == list(loaded.sizes)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_every_precision_trains(tmp_path, data_dir, precision):
    network, progress = train(settings_with(precision=precision, epochs=1), tmp_path, data_dir)
    assert network.fc.weight.dtype == torch.float32
    assert progress.metrics["train_loss"][0][1] == pytest.approx(0.69, abs=0.5)  # ln 2 = 0.69 at chance


def test_the_seed_changes_the_weights(tmp_path, data_dir):
    one, _ = train(settings_with(epochs=1), tmp_path / "a", data_dir)
    two, _ = train(settings_with(epochs=1).model_copy(update={"seed": 4}), tmp_path / "b", data_dir)
    assert not torch.equal(one.fc.weight, two.fc.weight)


@pytest.mark.parametrize("arch", ["resnet20", "resnet32", "resnet44", "resnet56"])
def test_every_depth_trains(tmp_path, data_dir, arch):
    settings = settings_with(epochs=1, batch_size=40)
    settings = settings.model_copy(update={"source": settings.source.model_copy(update={"arch": arch})})
    network, _ = train(settings, tmp_path, data_dir)
    n_convolutions = sum(name.endswith("weight") and p.dim() == 4 for name, p in network.named_parameters())
    assert n_convolutions == int(arch.removeprefix("resnet")) - 1 + 2  # all but the linear layer, and two shortcuts


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "data" / "tiny-imagenet-subset.tar").is_file(), reason="needs ../shared/data")
def test_tiny_imagenet_in_its_official_layout_is_learned(tmp_path, data_dir):
    """Ten of its classes, 25 images each: guessing has a loss of ln 10 = 2.30."""
    archive = SHARED / "data" / "tiny-imagenet-subset.tar"
    path = tmp_path / "source.yaml"
    with tarfile.open(archive) as tar:
        parts = [name.split("/") for name in tar.getnames()]
    classes = sorted({part[2] for part in parts if part[1:2] == ["train"] and len(part) > 3})[:10]
    path.write_text(
        yaml.safe_dump({
            "out": str(tmp_path / "tiny.pt"),
            "data": {"name": "tiny_imagenet", "path": str(archive), "classes": classes},
            "source": {"arch": "resnet20", "width": 0.5},
            "training": {"epochs": 20, "batch_size": 50},
        })
    )
    settings = read_pretraining(path, data_dir=data_dir)
    _, progress = train(settings, tmp_path, data_dir)
    losses = [value for _, value in progress.metrics["train_loss"]]
    assert losses[-1] < 2.15 < losses[0]
