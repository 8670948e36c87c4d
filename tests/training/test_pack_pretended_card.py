"""The step on a pretended card: no kernel runs, but every operation is dispatched as on one.

Values are not computed, so a step that reads one on the host raises, and so does one whose shapes depend on values.
What is left for a real card is marked `gpu`.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException

from benchmarks.pretended import CARD, OnCard, one_step, pretended_card, training
from l2t_ray import registry

CAPTURABLE = ("scratch", "ufm", "l2t_ww", "l2t_www")


@pytest.fixture
def card():
    with pretended_card() as device:
        yield device


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("method", "precision"),
    [("scratch", "bf16"), ("ufm", "float32"), ("l2t_ww", "bf16"), ("l2t_www", "float32")],
)
def test_a_step_can_be_recorded(card, method, precision, compiled):
    """It reads no value, moves nothing to the card, and has fixed shapes: what a CUDA graph asks for."""
    found = training(method, precision)
    seen = one_step(found, compiled=compiled)
    assert seen.elsewhere == set()
    assert seen.n_operations > 100
    assert all(tensor.device.type == CARD.type for tensor in found.tensors())


@pytest.mark.parametrize(
    ("method", "most", "most_compiled"),
    [("scratch", 150, 95), ("ufm", 300, 205), ("l2t_ww", 1600, 845), ("l2t_www", 1650, 870)],
)
def test_a_step_launches_few_kernels(card, method, most, most_compiled):
    """At small batches a card waits for kernels' starts and ends, not for their arithmetic."""
    found = training(method, "float32")
    assert one_step(found).n_kernels <= most
    assert one_step(found, compiled=True).n_kernels <= most_compiled


def test_what_cannot_be_recorded_is_found(card):
    x = torch.empty(3, device=card)
    with pytest.raises(DataDependentOutputException):
        x.sum().item()
    with OnCard() as seen:
        x + torch.tensor([1.0, 2.0, 3.0]).to(card)
    assert any("_to_copy" in name for name in seen.elsewhere)


def test_all_methods_that_are_recorded_are_tried(card):
    assert {name for name, method in registry.METHODS.items() if method.capturable} == {*CAPTURABLE}
