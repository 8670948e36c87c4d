"""Random changes: each image's is torchvision's of that image alone, and the draws depend on seed and epoch alone."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from l2t_ray.config import Augment
from l2t_ray.data import transforms
from l2t_ray.data.transforms import OF_OPERATIONS, change, crop, draw_changes, mix

N, SIZE = 300, 40
ALL = Augment(resized_crop=0.2, rand_augment=2, color_jitter=0.4, hue_jitter=0.1, mixup=0.3)


def pictures(n=N):
    """Smooth images with every range of values, as photographs have."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, 6, 6, generator=g) * torch.rand(n, 3, 1, 1, generator=g)
    return (255 * F.interpolate(coarse, (SIZE, SIZE), mode="bicubic").clamp(0, 1)).to(torch.uint8)


def largest_difference(ours, theirs):
    return (ours.int() - torch.stack(theirs).int()).abs().max()


def test_a_crop_is_torchvisions_resized_crop():
    images, boxes = pictures(), draw_changes(0, 0, N, SIZE, ALL).boxes
    theirs = [
        v2.functional.resized_crop(image, *box, [SIZE, SIZE], antialias=False)
        for image, box in zip(images, boxes.tolist(), strict=True)
    ]
    assert largest_difference(crop(images, boxes), theirs) <= 1  # rounding of uint8


def test_crops_have_the_areas_and_ratios_that_are_asked_for():
    """RandomResizedCrop: 0.2 to 1 of 40 x 40, width / height 3/4 to 4/3, up to rounding of sides to whole pixels."""
    top, left, height, width = draw_changes(0, 0, 20000, SIZE, Augment(resized_crop=0.2)).boxes.T
    area, ratio = height * width / SIZE**2, width / height
    assert ((top >= 0) & (top + height <= SIZE) & (left >= 0) & (left + width <= SIZE)).all()
    assert 0.18 < area.min() < 0.22
    assert area.max() > 0.95
    assert 0.70 < ratio.min() < 0.80
    assert 1.25 < ratio.max() < 1.43
    # 20,000 x v2.RandomResizedCrop(40, scale=(0.2, 1)).make_params: mean 0.549, deviation 0.206; large ones fit rarely
    assert area.mean() == pytest.approx(0.549, abs=0.01)
    assert area.std() == pytest.approx(0.206, abs=0.01)
    assert top.float().mean() == pytest.approx(float(((SIZE - height) / 2).mean()), abs=0.15)


@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_rand_augments_operations_are_torchvisions(magnitude):
    theirs = v2.RandAugment(magnitude=magnitude)
    names = {"Identity": "identity", "ShearX": "shear_x", "ShearY": "shear_y", "TranslateX": "translate_x",
             "TranslateY": "translate_y", "Rotate": "rotate", "Brightness": "brightness", "Color": "color",
             "Contrast": "contrast", "Sharpness": "sharpness", "Posterize": "posterize", "Solarize": "solarize",
             "AutoContrast": "autocontrast", "Equalize": "equalize"}  # fmt: skip
    space = theirs._AUGMENTATION_SPACE
    assert sorted(names[name] for name in space) == sorted(OF_OPERATIONS)
    images = pictures(6)
    for name, (magnitudes, signed) in space.items():
        table = magnitudes(31, SIZE, SIZE)
        value = float(table[magnitude]) if table is not None else 0.0
        for sign in (1, -1) if signed else (1,):
            number = torch.full((6,), OF_OPERATIONS.index(names[name]))
            ours = transforms._rand_augmented(images, number, torch.full((6,), sign < 0), magnitude)
            expected = theirs._apply_image_or_video_transform(
                images, name, sign * value, interpolation=v2.InterpolationMode.NEAREST, fill=theirs._fill
            )
            assert torch.equal(ours, expected), (name, sign)


def test_every_image_gets_its_own_operations_in_their_order():
    images, settings = pictures(), Augment(rand_augment=3)
    changes = draw_changes(0, 0, N, SIZE, settings)
    rows = torch.arange(N)
    together = change(images, rows, changes, settings)
    alone = [change(images[row : row + 1], rows[row : row + 1], changes, settings)[0] for row in range(N)]
    assert torch.equal(together, torch.stack(alone))
    assert changes.operations.flatten().bincount(minlength=14).min() > 40  # of 900 draws, 64 each


@pytest.mark.parametrize("settings", [Augment(color_jitter=0.4), Augment(hue_jitter=0.5), Augment(color_jitter=1.0)])
def test_colours_are_changed_as_by_torchvision(settings):
    images, changes = pictures(), draw_changes(0, 0, N, SIZE, settings)
    functions = [getattr(v2.functional, f"adjust_{name}") for name in ("brightness", "contrast", "saturation", "hue")]
    theirs = []
    for image, order, factors in zip(images, changes.order.tolist(), changes.factors.tolist(), strict=True):
        changed = image
        for number in order:
            changed = functions[number](changed, factors[number])
        theirs.append(changed)
    found = change(images, torch.arange(N), changes, settings)
    differences = (found.int() - torch.stack(theirs).int()).abs()
    assert differences.double().mean() < 0.05
    assert differences.max() <= 7  # values are cut to whole ones three times: 1, and before it 2 and 4 times 1


def test_colours_have_the_strength_that_is_asked_for():
    changes = draw_changes(0, 0, 20000, SIZE, Augment(color_jitter=0.4, hue_jitter=0.1))
    assert changes.factors[:, :3].min() == pytest.approx(0.6, abs=0.01)
    assert changes.factors[:, :3].max() == pytest.approx(1.4, abs=0.01)
    assert changes.factors[:, 3].abs().max() == pytest.approx(0.1, abs=0.01)
    assert torch.equal(changes.order.sort(1).values, torch.arange(4).expand(20000, 4))


def test_a_mixture_has_the_shares_of_its_images():
    x, labels = torch.rand(4, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2, 2, 1])
    shares = torch.tensor([0.75, 1.0, 0.5, 0.0])
    mixed, targets = mix(x, labels, shares, 3)
    for place, share in enumerate(shares.tolist()):
        torch.testing.assert_close(mixed[place], share * x[place] + (1 - share) * x[place - 1])
    assert targets.tolist() == [[0.75, 0.25, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]]


def test_shares_follow_the_beta_distribution():
    """Beta(0.3, 0.3): mean 1/2, variance 1 / (4 (2 * 0.3 + 1)) = 0.15625."""
    shares = draw_changes(0, 0, 50000, SIZE, Augment(mixup=0.3)).shares
    assert shares.mean() == pytest.approx(0.5, abs=0.01)
    assert shares.var() == pytest.approx(0.15625, abs=0.003)


def draws(changes):
    return {name: value for name, value in vars(changes).items() if value is not None}


def test_draws_depend_on_seed_and_epoch_alone():
    first, again = (draws(draw_changes(0, 5, 60, SIZE, ALL)) for _ in range(2))
    assert len(first) == 6
    for other in (draw_changes(0, 6, 60, SIZE, ALL), draw_changes(1, 5, 60, SIZE, ALL)):
        for name, value in draws(other).items():
            assert torch.equal(first[name], again[name])
            assert not torch.equal(first[name], value), name


def test_no_change_moves_the_draws_of_another():
    both = draws(draw_changes(0, 5, 60, SIZE, ALL))
    for alone in (Augment(resized_crop=0.2), Augment(rand_augment=2), Augment(mixup=0.3)):
        for name, value in draws(draw_changes(0, 5, 60, SIZE, alone)).items():
            assert torch.equal(both[name], value)


@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_an_images_changes_belong_to_its_position_and_not_to_its_batch(batch_size):
    images, changes = pictures(60), draw_changes(2, 3, 60, SIZE, ALL)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    seen = torch.empty_like(images)
    for rows in order.split(batch_size):
        seen[rows] = change(images[rows], rows, changes, ALL)
    assert torch.equal(seen, change(images, torch.arange(60), changes, ALL))


@pytest.mark.gpu
def test_on_a_gpu_the_changes_are_the_same_up_to_rounding():
    images, changes, rows = pictures(), draw_changes(0, 0, N, SIZE, ALL), torch.arange(N)
    here, there = (change(given, rows, changes, ALL) for given in (images, images.cuda()))
    differences = (here.int() - there.cpu().int()).abs().double()
    assert differences.mean() < 0.5
