"""Digits, and what every data set does: classes chosen and renumbered."""

import pytest
import torch
from torch.nn import functional as F

from l2t_ray.config import Data
from l2t_ray.data.load import load_data
from l2t_ray.errors import InputError
from l2t_ray.registry import DATA_SETS


@pytest.fixture(scope="module")
def digits_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("digits")


@pytest.fixture(scope="module")
def digits(digits_dir):
    return load_data(Data(name="digits", samples_per_class=1), digits_dir)


def test_digits_are_split_in_halves_class_by_class(digits):
    """np.bincount(sklearn.datasets.load_digits().target) gave the counts; 1,797 is in its documentation."""
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert sum(counts) == 1797
    assert torch.bincount(digits.train_labels).tolist() == [(count + 1) // 2 for count in counts]
    assert torch.bincount(digits.test_labels).tolist() == [count // 2 for count in counts]
    assert min(torch.bincount(digits.train_labels)) == DATA_SETS["digits"].least_train == 87


def test_digits_are_grey_images_of_the_whole_range(digits):
    from sklearn.datasets import load_digits

    assert digits.train_images.shape == (901, 3, 32, 32)
    assert (digits.train_images[:, 0] == digits.train_images[:, 2]).all()
    first = torch.from_numpy(load_digits().images[0]).float() * 255 / 16  # the first of its class: for training
    resized = F.interpolate(first[None, None], (32, 32), mode="bilinear")[0, 0]
    assert (digits.train_images[0, 0].float() - resized).abs().max() <= 1  # two roundings
    assert digits.train_images.max() > 250


def test_classes_are_renumbered_in_the_order_given(digits, digits_dir):
    data = load_data(Data(name="digits", classes=("7", "2"), samples_per_class=80), digits_dir)
    assert data.classes == ("7", "2")
    assert torch.equal(data.train_images[data.train_labels == 0], digits.train_images[digits.train_labels == 7])
    assert torch.equal(data.test_images[data.test_labels == 1], digits.test_images[digits.test_labels == 2])
    assert len(data.train_labels) == (digits.train_labels == 7).sum() + (digits.train_labels == 2).sum()
    assert data.sha256 != digits.sha256
    assert data.sha256 == digits.subset_of_classes(["7", "2"]).sha256 != digits.subset_of_classes(["2", "7"]).sha256


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"classes": ("7", "seven"), "samples_per_class": 1}, r"data.classes must name classes of digits, got 'seven'"),
        ({"samples_per_class": 88}, r"must be >= 1 and <= 87 for class '8' of digits, got 88; ask for fewer"),
        ({"samples_per_class": {"3": 5}}, r"must give a number for every class of digits, or for '\*', '0' has none"),
        ({"samples_per_class": {"*": 5, "8": 90}}, r"<= 87 for class '8' of digits, got 90"),
        ({"samples_per_class": {"*": 5, "33": 9}}, r"data.samples_per_class must name .*'33'; did you mean 3\?"),
    ],
)
def test_classes_and_numbers_that_cannot_be_had_are_refused(digits, digits_dir, settings, told):
    with pytest.raises(InputError, match=told):
        load_data(Data(name="digits", **settings), digits_dir)


def test_all_problems_are_told_at_once(digits, digits_dir):
    with pytest.raises(InputError) as caught:
        load_data(Data(name="digits", samples_per_class=91), digits_dir)
    few = [problem.split("'")[1] for problem in caught.value.problems]  # train counts 89 91 89 92 91 91 91 90 87 90
    assert few == ["0", "2", "7", "8", "9"]
