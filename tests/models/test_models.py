"""The networks: shapes, the published checkpoint, damaged weights."""

import subprocess
import sys

import pytest
import torch

from l2t_ray import models
from l2t_ray.config import Data, Source, Target
from l2t_ray.data.augment import normalize
from l2t_ray.data.load import load_data
from l2t_ray.data.streams import stream
from l2t_ray.errors import InputError
from tests.support.places import SHARED

PUBLISHED = SHARED / "weights" / "l2t-ww-resnet32-tinyimagenet.pth.tar"
TINY = SHARED / "data" / "tiny-imagenet-subset.tar"
NARROW_SHORTCUTS = """
import torch
from l2t_ray.models.backbone import Shortcut

torch.set_num_threads(2)
for n_inputs, n_images in ((8, 29), (4, 7), (4, 127), (8, 3)):
    layer = Shortcut(n_inputs, 2 * n_inputs, 2).to(memory_format=torch.channels_last)
    x = torch.randn(n_images, n_inputs, 32, 32).contiguous(memory_format=torch.channels_last)
    for _ in range(10):
        (found,) = torch.autograd.grad(layer(x).square().sum(), [layer.weight])
    layer.double()
    (exact,) = torch.autograd.grad(layer(x.double()).square().sum(), [layer.weight])
    assert float((found - exact).abs().max() / exact.abs().max()) < 1e-4, (n_inputs, n_images)
"""


def test_source_features_have_the_paper_shapes():
    features = models.ResNet(32, 1.0, 200).eval().features(torch.zeros(2, 3, 32, 32))
    assert [tuple(f.shape[1:]) for f in features] == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_target_has_the_paper_channels_and_as_many_multiply_adds():
    chain = models.build_target(Target(), 10)
    assert chain.feature_channels == (64, 128, 256, 512, 512)
    theta = chain.initial_theta(stream(0, "init"))
    values = chain.forward(theta, torch.zeros(2, 3, 32, 32))
    assert [f.shape[-1] for f in values.features] == [32, 16, 8, 4, 2]
    kernels = [theta[f"conv.{i}.weight"].numel() * x.shape[-1] ** 2 for i, x in enumerate(values.inputs)]
    assert round(sum(kernels) / 1e6) == 153  # method.md section 1: 153 M multiply-adds an image


def test_initial_weights_have_the_stated_spread():
    theta = models.build_target(Target(), 10).initial_theta(stream(3, "init"))
    assert float(theta["conv.3.weight"].std()) == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)
    assert float(theta["fc.weight"].std()) == pytest.approx(0.01, rel=0.03)
    assert float(theta["fc.bias"].abs().max()) == 0


@pytest.mark.parametrize("arch", ["vgg9", "vgg11", "resnet20", "vit"])
def test_shapes_are_known_without_the_parameters(arch):
    target = Target(arch=arch, width=0.25)
    theta = models.build_target(target, 1).initial_theta(stream(0, "init"))
    assert models.parameter_shapes(target) == {name: tuple(tensor.shape) for name, tensor in theta.items()}
    assert set(models.parameter_shapes(Target(arch=arch, width=1000.0))) == {*theta}  # fits on no machine


@pytest.mark.skipif(not (PUBLISHED.is_file() and TINY.is_file()), reason="needs ../shared/weights and ../shared/data")
def test_published_checkpoint_classifies_472_of_1000_validation_images(tmp_path):
    data = load_data(Data(name="tiny_imagenet", path=str(TINY), samples_per_class=1), tmp_path)
    network = models.load_source(Source(weights=str(PUBLISHED)))
    with torch.no_grad():
        hits = network(normalize(data.test_images, torch.float32)).argmax(1) == data.test_labels
    assert (len(hits), int(hits.sum())) == (1000, 472)


def test_own_weights_come_back_as_saved(tmp_path):
    network = models.ResNet(20, 0.25, 7)
    models.initialise(network, stream(1, "init"))
    torch.save(models.source_state(network), tmp_path / "own.pt")
    loaded = models.load_source(Source(arch="resnet20", width=0.25, weights=str(tmp_path / "own.pt")))
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(x), network.eval()(x))


def test_missing_truncated_and_foreign_weights_are_told_apart(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        models.load_source(Source(weights=str(tmp_path / "absent.pt")))
    torch.save(models.source_state(models.ResNet(20, 0.25, 7)), tmp_path / "own.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "own.pt").read_bytes()[:1000])
    with pytest.raises(InputError, match="not a readable file of weights"):
        models.load_source(Source(weights=str(tmp_path / "cut.pt")))
    with pytest.raises(InputError, match=r"which are resnet20, width 0\.25; got resnet32, width 1\.0"):
        models.load_source(Source(weights=str(tmp_path / "own.pt")))


def test_narrow_shortcuts_have_the_gradient_of_float64_and_do_not_crash():
    words = [sys.executable, "-c", NARROW_SHORTCUTS]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
