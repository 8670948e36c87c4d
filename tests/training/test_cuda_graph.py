"""A step replayed as a CUDA graph against the same step called: the first test needs a card."""

import pytest
import torch

from l2t_ray import registry
from l2t_ray.config import Data, Run, Source, Target, Training
from l2t_ray.data.streams import stream
from l2t_ray.models import ResNet, initialise
from l2t_ray.training.cuda_graph import Replay
from l2t_ray.training.learner import Learner

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def learner(method, device, precision="float32"):
    registry.load()
    source = ResNet(20, 0.25, 5)
    initialise(source, stream(9, "init"))
    run = Run(
        data=Data(name="digits", samples_per_class=4),
        method=method,
        seed=0,
        source=Source(arch="resnet20", width=0.25),
        target=Target(width=0.125),
        training=Training(batch_size=8, lr=0.05, precision=precision),
    )
    return Learner(run, 3, source.to(device).requires_grad_(False).eval(), device)


@pytest.mark.gpu
@CUDA
@pytest.mark.parametrize("method", ["scratch", "ufm", "l2t_ww", "l2t_www"])
def test_a_replayed_step_equals_a_called_one(method):
    device = torch.device("cuda")
    called, replayed = (learner(method, device, "float64") for _ in range(2))  # sums by atomics: float32's part far
    with torch.no_grad():
        step = Replay(replayed.step, replayed.tensors(), captured=True)
        g = torch.Generator().manual_seed(5)
        for n_images in (8, 8, 5, 8):  # the last batch of an epoch is smaller
            images = torch.randn(n_images, 3, 32, 32, generator=g).to(
                device, torch.float64, memory_format=torch.channels_last
            )
            labels = torch.randint(3, (n_images,), generator=g).to(device)
            lr = torch.tensor(0.05, dtype=torch.float64, device=device)
            expected, found = called.step(images, labels, lr), step(images, labels, lr)
            torch.testing.assert_close(found[0], expected[0], rtol=1e-8, atol=1e-10)
        for ours, theirs in zip(replayed.tensors(), called.tensors(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["scratch", "ufm", "l2t_www"])
def test_the_state_names_every_tensor_that_a_step_changes(method):
    """What is not named would keep the warm-ups' values when a graph is captured."""
    found = learner(method, torch.device("cpu"))
    images, labels = torch.randn(8, 3, 32, 32), torch.randint(3, (8,))
    lr = torch.tensor(0.05)
    with torch.no_grad():
        before = [tensor.clone() for tensor in found.tensors()]
        first = found.step(images, labels, lr)
        after = [tensor.clone() for tensor in found.tensors()]
        for tensor, value in zip(found.tensors(), before, strict=True):
            tensor.copy_(value)
        second = found.step(images, labels, lr)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(found.tensors(), after, strict=True))


def test_without_capture_the_function_is_called():
    step = Replay(lambda x: (x + 1,), [], captured=False)
    assert float(step(torch.ones(()))[0]) == 2
