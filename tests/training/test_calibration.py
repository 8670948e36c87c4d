"""The calibration error: its twin, the paper's formula at its ends, and batches."""

import pytest
import torch

from l2t_ray.training.calibration import BINS, Bins
from tests.support.oracles import calibration_error_percent

CPU = torch.device("cpu")


def error(logits, labels, split=1000):
    bins = Bins(CPU)
    for some, wanted in zip(logits.split(split), labels.split(split), strict=True):
        bins.add(some, wanted)
    return float(bins.error_percent())


def drawn(seed, n_images=400, n_classes=5, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(n_classes, (n_images,), generator=generator)
    logits = scale * torch.randn(n_images, n_classes, generator=generator)
    logits[torch.arange(n_images), labels] += 1
    return logits, labels


@pytest.mark.parametrize("scale", [0.1, 2.0, 10.0], ids=["shy", "middling", "sure"])
def test_the_error_is_its_slow_twins(scale):
    logits, labels = drawn(1, scale=scale)
    assert error(logits, labels) == pytest.approx(calibration_error_percent(logits, labels), abs=1e-4)


@pytest.mark.parametrize(
    ("confidence", "n_right", "expected"),
    [(0.75, 75, 0.0), (0.75, 50, 25.0), (1.0, 100, 0.0), (1.0, 0, 100.0), (0.5, 50, 0.0)],
    ids=["calibrated", "too-sure", "certain-and-right", "certain-and-wrong", "a-coin"],
)
def test_one_bin_gives_the_distance_of_confidence_and_accuracy(confidence, n_right, expected):
    """100 images of two classes, all in one bin: ECE = |acc - conf|."""
    odds = torch.tensor(confidence / max(1 - confidence, 1e-30)).log()
    logits = torch.stack([odds.expand(100), torch.zeros(100)], 1)
    labels = (torch.arange(100) >= n_right).long()
    assert error(logits, labels) == pytest.approx(expected, abs=1e-3)


def test_opposite_errors_in_one_bin_cancel_and_in_two_do_not():
    """Guo et al. sum over bins: confidences 0.8 and 0.9 are 15 bins' 12th and 14th, not neighbours of one."""
    logits = torch.tensor([[0.8, 0.2], [0.9, 0.1]]).log()
    assert error(logits, torch.tensor([0, 1])) == pytest.approx(50 * (0.2 + 0.9), abs=1e-3)


def test_batches_change_nothing():
    logits, labels = drawn(2)
    assert error(logits, labels, split=77) == pytest.approx(error(logits, labels), abs=1e-4)


def test_confidence_on_a_bins_upper_edge_belongs_to_it():
    """Intervals are open below and closed above; 0.6 is 9 / 15 to the last digit in float64."""
    bins = Bins(CPU)
    bins.add(torch.tensor([[0.6, 0.4]], dtype=torch.float64).log(), torch.tensor([0]))
    assert bins.right.nonzero().flatten().tolist() == [8]
    assert BINS == 15
