"""Batched crops and flips against a loop over images."""

import pytest
import torch

from l2t_ray.config import Augment
from l2t_ray.data.augment import crop_and_flip, epoch_draws, normalize

SETTINGS = Augment()


def loop(images, offsets, flips, padding):
    """The slow twin: pads, cuts and flips one image at a time."""
    _, _, height, width = images.shape
    out = []
    for image, (top, left), flip in zip(images, offsets.tolist(), flips.tolist(), strict=True):
        padded = torch.zeros(3, height + 2 * padding, width + 2 * padding, dtype=images.dtype)
        padded[:, padding : padding + height, padding : padding + width] = image
        crop = padded[:, top : top + height, left : left + width]
        out.append(crop.flip(2) if flip else crop)
    return torch.stack(out)


def pictures(n, height=32, width=32):
    return torch.randint(256, (n, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("padding", [0, 1, 4, 16])
@pytest.mark.parametrize("size", [(32, 32), (8, 5)], ids=["32x32", "8x5"])
def test_the_batched_gather_equals_the_loop(padding, size):
    images = pictures(40, *size)
    _, offsets, flips = epoch_draws(3, 1, 40, Augment(crop_padding=padding))
    assert torch.equal(crop_and_flip(images, offsets, flips, padding), loop(images, offsets, flips, padding))


def test_an_offset_of_the_padding_leaves_the_image_where_it_is():
    images = pictures(5)
    offsets = torch.full((5, 2), 4)
    still = torch.zeros(5, dtype=torch.bool)
    assert torch.equal(crop_and_flip(images, offsets, still, 4), images)
    assert torch.equal(crop_and_flip(images, offsets, ~still, 4), images.flip(3))


def test_a_corner_crop_is_zero_where_the_image_ends():
    moved = crop_and_flip(pictures(1) | 1, torch.tensor([[0, 8]]), torch.tensor([False]), 4)
    assert (moved[0, :, :4] == 0).all()  # 4 rows of padding on top
    assert (moved[0, :, :, -4:] == 0).all()  # and 4 columns at the right
    assert (moved[0, :, 4:, :-4] > 0).all()


def test_an_epochs_draws_depend_on_seed_and_epoch_alone():
    first, again = epoch_draws(0, 5, 100, SETTINGS), epoch_draws(0, 5, 100, SETTINGS)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (epoch_draws(0, 6, 100, SETTINGS), epoch_draws(1, 5, 100, SETTINGS)):
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_order_visits_every_position_once_and_draws_cover_their_ranges():
    order, offsets, flips = epoch_draws(0, 0, 5000, SETTINGS)
    assert order.sort().values.tolist() == list(range(5000))
    assert order.dtype == offsets.dtype == torch.int64
    assert offsets.shape == (5000, 2)
    assert flips.dtype == torch.bool
    # 9 offsets a side: 556 expected each, sd sqrt(5000 * 1/9 * 8/9) = 22; 5 sd either way
    for side in offsets.T:
        counts = torch.bincount(side)
        assert len(counts) == 9
        assert ((counts - 5000 / 9).abs() < 5 * 22.3).all()
    assert abs(int(flips.sum()) - 2500) < 5 * 35.4  # sd sqrt(5000 / 4) = 35.4


def test_switching_flips_off_changes_no_other_draw():
    order, offsets, flips = epoch_draws(2, 3, 50, SETTINGS)
    plain_order, plain_offsets, plain_flips = epoch_draws(2, 3, 50, Augment(flip=False))
    assert torch.equal(order, plain_order)
    assert torch.equal(offsets, plain_offsets)
    assert flips.any()
    assert not plain_flips.any()


def test_another_padding_changes_neither_order_nor_flips():
    order, _, flips = epoch_draws(2, 3, 50, SETTINGS)
    other_order, _, other_flips = epoch_draws(2, 3, 50, Augment(crop_padding=2))
    assert torch.equal(order, other_order)
    assert torch.equal(flips, other_flips)


@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_an_images_crop_belongs_to_its_position_and_not_to_its_place_in_the_batch(batch_size):
    images = pictures(50)
    order, offsets, flips = epoch_draws(2, 3, 50, SETTINGS)
    seen = torch.empty_like(images)
    for rows in order.split(batch_size):
        seen[rows] = crop_and_flip(images[rows], offsets[rows], flips[rows], 4)
    assert torch.equal(seen, crop_and_flip(images, offsets, flips, 4))


def test_normalised_pixels_have_imagenets_mean_and_deviation():
    """(x / 255 - mean) / std: white is (1 - 0.485) / 0.229 = 2.2489 in red, black -0.485 / 0.229 = -2.1179."""
    x = normalize(torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 4, 4), torch.float64)
    assert x.shape == (2, 3, 4, 4)
    assert x[:, 0, 0, 0].tolist() == pytest.approx([-0.485 / 0.229, (1 - 0.485) / 0.229], rel=1e-14)
    assert x[:, 1, 0, 0].tolist() == pytest.approx([-0.456 / 0.224, (1 - 0.456) / 0.224], rel=1e-14)
    assert x[:, 2, 0, 0].tolist() == pytest.approx([-0.406 / 0.225, (1 - 0.406) / 0.225], rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_normalising_keeps_to_the_formula_in_every_type(dtype):
    images = pictures(3)
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]
    formula = (images.double() / 255 - mean) / std
    x = normalize(images, dtype)
    assert x.dtype == dtype
    assert (x.double() - formula).abs().max() < 16 * torch.finfo(dtype).eps  # terms of up to 4.5 cancel


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
def test_on_a_gpu_nothing_waits_and_the_pixels_are_the_same():
    images = pictures(64)
    _, offsets, flips = epoch_draws(3, 1, 64, SETTINGS)
    there = [tensor.cuda() for tensor in (images, offsets, flips)]
    normalize(there[0])  # the constants of the first call
    torch.cuda.set_sync_debug_mode("error")
    try:
        moved = crop_and_flip(*there, 4)
        x = normalize(moved)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(moved.cpu(), loop(images, offsets, flips, 4))
    torch.testing.assert_close(x.cpu(), normalize(moved.cpu()))
