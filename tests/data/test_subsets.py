"""Stratified subsets: they depend on the seed alone, and are nested."""

import pytest
import torch

from l2t_ray.data.subsets import stratified_subset
from l2t_ray.errors import InputError

LABELS = torch.arange(300) % 3
NAMES = ("cat", "dog", "emu")


def test_a_subset_has_so_many_of_each_class_and_no_image_twice():
    drawn = stratified_subset(LABELS, NAMES, 20, seed=0)
    assert LABELS[drawn].tolist() == [0] * 20 + [1] * 20 + [2] * 20
    assert len(set(drawn.tolist())) == 60
    assert drawn.dtype == torch.int64


def test_a_subset_depends_on_the_seed_alone():
    assert torch.equal(stratified_subset(LABELS, NAMES, 20, 0), stratified_subset(LABELS, NAMES, 20, 0))
    assert not torch.equal(stratified_subset(LABELS, NAMES, 20, 0), stratified_subset(LABELS, NAMES, 20, 1))


def test_subsets_of_one_seed_are_nested_class_by_class():
    five, ten = (stratified_subset(LABELS, NAMES, count, 4).view(3, count) for count in (5, 10))
    assert torch.equal(five, ten[:, :5])


def test_a_map_of_numbers_changes_no_other_class():
    even, uneven = stratified_subset(LABELS, NAMES, 10, 4), stratified_subset(LABELS, NAMES, {"dog": 2, "*": 10}, 4)
    assert torch.equal(uneven, torch.cat([even[:10], even[10:12], even[20:]]))


def test_leaving_a_class_out_keeps_the_other_images():
    labels = torch.where(LABELS == 2, 1, 5)[LABELS != 1]  # emu is 1 now, dog is gone
    labels = torch.where(labels == 5, 0, labels)
    kept = (LABELS != 1).nonzero().flatten()
    assert torch.equal(
        kept[stratified_subset(labels, ("cat", "emu"), 10, 4)],
        stratified_subset(LABELS, NAMES, 10, 4)[[*range(10), *range(20, 30)]],
    )


def test_classes_do_not_share_their_draws():
    ranks = stratified_subset(LABELS, NAMES, 100, 0).view(3, 100) // 3
    assert not torch.equal(ranks[0], ranks[1])


def test_every_image_is_as_likely_as_another():
    """2,000 seeds, 10 of 100 images: 200 expected each, sd sqrt(2000 * 0.1 * 0.9) = 13.4; 5 sd either way."""
    labels = torch.zeros(100, dtype=torch.int64)
    counts = torch.bincount(torch.cat([stratified_subset(labels, ("cat",), 10, seed) for seed in range(2000)]))
    assert ((counts - 200).abs() < 5 * 13.4).all()


def test_all_images_are_a_subset_too():
    assert stratified_subset(LABELS, NAMES, None, 0).sort().values.tolist() == [*range(300)]


def test_too_many_are_refused_by_the_subset_itself():
    with pytest.raises(InputError, match="<= 100 for class 'cat' of this data, got 101"):
        stratified_subset(LABELS, NAMES, 101, 0)
