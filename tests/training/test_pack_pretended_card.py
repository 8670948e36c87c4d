"""The step on a pretended card: no kernel runs, but every operation is dispatched as on one.

Values are not computed, so a step that reads one on the host raises, and so does one whose shapes depend on values.
What is left for a real card is marked `gpu`.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from l2t_ray import registry
from l2t_ray.config import Data, Run, Source, Target, Training
from l2t_ray.data import augment, place
from l2t_ray.data.load import DataSet
from l2t_ray.models import ResNet, convolutions
from l2t_ray.training import run_training
from l2t_ray.training.run_training import RunTraining

CARD = torch.device("cuda")
N_CLASSES, PER_CLASS, BATCH = 3, 4, 8
CAPTURABLE = ("scratch", "ufm", "l2t_ww", "l2t_www")


class OnCard(TorchDispatchMode):
    """Notes the operations that read or give a tensor elsewhere: each would wait for the card, or move data to it."""

    def __init__(self):
        super().__init__()
        self.n_operations, self.n_kernels, self.elsewhere = 0, 0, set()

    def __torch_dispatch__(self, operation, types, arguments=(), settings=None):
        found = operation(*arguments, **(settings or {}))
        tensors = [x for x in tree_leaves((arguments, settings, found)) if isinstance(x, torch.Tensor)]
        given = {x.untyped_storage()._cdata for x in tree_leaves((arguments, settings)) if isinstance(x, torch.Tensor)}
        makes = any(tensor.untyped_storage()._cdata not in given for tensor in tensors)
        self.n_operations += 1
        self.n_kernels += makes or operation._schema.is_mutable  # what is left are views
        if any(tensor.device.type != CARD.type for tensor in tensors):
            self.elsewhere.add(str(operation))
        return found


@pytest.fixture
def card(monkeypatch):
    """torch's pretended card; what it cannot pretend is left out."""
    registry.load()
    # the engine asks for a driver before it runs the meta-networks' few backward passes, which are torch's own
    monkeypatch.setattr(torch.autograd, "grad", lambda outputs, inputs: [torch.zeros_like(x) for x in inputs])
    # which images a run draws is decided before the training, from labels that are not there
    monkeypatch.setattr(run_training, "stratified_subset", lambda *_: torch.arange(N_CLASSES * PER_CLASS))
    monkeypatch.setattr(place, "fits", lambda n_bytes, device: True)  # asks a driver, too
    constants = (augment._constants, convolutions.standard)  # pretended ones must not stay
    for cached in constants:
        cached.cache_clear()
    with torch.no_grad(), FakeTensorMode():
        yield CARD
    for cached in constants:
        cached.cache_clear()


def training(method, precision):
    """A training on the card, with images that nobody has seen."""
    n_images = N_CLASSES * PER_CLASS
    images, labels = torch.empty(n_images, 3, 32, 32, dtype=torch.uint8), torch.empty(n_images, dtype=torch.long)
    classes = tuple(f"class{number}" for number in range(N_CLASSES))
    data = DataSet("pretended", classes, images, labels, images, labels, sha256="0" * 64)
    with CARD:
        source = ResNet(20, 0.25, 5).requires_grad_(False).eval()
    source.to = lambda *_: source  # pretended parameters cannot be moved, and are there already
    run = Run(
        data=Data(name="digits", samples_per_class=PER_CLASS),
        method=method,
        seed=0,
        source=Source(arch="resnet20", width=0.25),
        target=Target(width=0.125),
        training=Training(batch_size=BATCH, lr=0.05, precision=precision),
    )
    return RunTraining(run, data.to(CARD), source, CARD)


def one_step(found):
    """What the card is asked for in a step, and what the step gives."""
    rows = torch.empty(BATCH, dtype=torch.long, device=CARD)
    offsets = torch.empty(N_CLASSES * PER_CLASS, 2, dtype=torch.long, device=CARD)
    flips = torch.empty(N_CLASSES * PER_CLASS, dtype=torch.bool, device=CARD)
    lr = torch.empty((), dtype=found.learner.dtype, device=CARD)
    found._step(rows, offsets, flips, lr)  # as before a recording: constants are moved once
    with OnCard() as seen:
        result = found._step(rows, offsets, flips, lr)
    return seen, result


@pytest.mark.parametrize(
    ("method", "precision"),
    [("scratch", "bf16"), ("ufm", "float32"), ("l2t_ww", "bf16"), ("l2t_www", "float32")],
)
def test_a_step_can_be_recorded(card, method, precision):
    """It reads no value, moves nothing to the card, and has fixed shapes: what a CUDA graph asks for."""
    found = training(method, precision)
    seen, (loss, n_right) = one_step(found)
    assert seen.elsewhere == set()
    assert seen.n_operations > 200
    assert loss.shape == n_right.shape == ()
    assert all(tensor.device.type == CARD.type for tensor in found.learner.tensors())


@pytest.mark.parametrize(("method", "most"), [("scratch", 250), ("ufm", 450), ("l2t_ww", 2150), ("l2t_www", 2300)])
def test_a_step_launches_few_kernels(card, method, most):
    """At small batches a card waits for kernels' starts and ends, not for their arithmetic."""
    seen, _ = one_step(training(method, "float32"))
    assert seen.n_kernels <= most


def test_what_cannot_be_recorded_is_found(card):
    x = torch.empty(3, device=card)
    with pytest.raises(DataDependentOutputException):
        x.sum().item()
    with OnCard() as seen:
        x + torch.tensor([1.0, 2.0, 3.0]).to(card)
    assert any("_to_copy" in name for name in seen.elsewhere)


def test_all_methods_that_are_recorded_are_tried(card):
    assert {name for name, method in registry.METHODS.items() if method.capturable} == {*CAPTURABLE}
