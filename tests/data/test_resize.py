"""Images become squares as torchvision's transforms make them."""

import pytest
import torch
from torchvision.transforms import v2

from l2t_ray.config import Data
from l2t_ray.data.load import load_data
from l2t_ray.data.resize import resized
from tests.support.image_files import animals, folder_settings, jpeg, write_tar

SHAPES = [(64, 96), (96, 64), (50, 50), (20, 31), (301, 40), (7, 90)]


def picture(height, width):
    return torch.randint(256, (2, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(height))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [32, 45])
def test_a_shorter_side_is_resized_and_the_longer_cut_as_by_torchvision(shape, size):
    images = picture(*shape)
    theirs = v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size)])(images)
    found = resized(images, size, "shorter_side")
    assert found.shape == (2, 3, size, size)
    assert (found.int() - theirs.int()).abs().max() <= 1  # uint8 without AVX2 is rounded from floats


@pytest.mark.parametrize("shape", SHAPES)
def test_squashing_is_torchvisions_resize(shape):
    images = picture(*shape)
    assert (resized(images, 40).int() - v2.Resize((40, 40))(images).int()).abs().max() <= 1


def test_padding_keeps_the_whole_image_between_black_bars():
    """60 x 90 at 32 is 21 x 32 (torchvision rounds down); 11 rows of bars, 5 above and 6 below."""
    images = picture(60, 90) | 1
    found = resized(images, 32, "pad")
    assert found.shape == (2, 3, 32, 32)
    assert found[:, :, :5].max() == 0
    assert found[:, :, 26:].max() == 0
    inner = v2.Resize((21, 32))(images)
    assert (found[:, :, 5:26].int() - inner.int()).abs().max() <= 1
    assert (resized(images.mT, 32, "pad").int() - found.mT.int()).abs().max() <= 1


@pytest.mark.parametrize("how", ["squash", "shorter_side", "pad"])
def test_a_square_is_the_same_however_it_is_resized(how):
    assert torch.equal(resized(picture(50, 50), 32, how), resized(picture(50, 50), 32))
    assert torch.equal(resized(picture(32, 32), 32, how), picture(32, 32))


def test_every_set_has_the_size_that_is_asked_for_and_a_cache_of_its_own(tmp_path):
    path = write_tar(tmp_path / "a.tar", animals() | {"train/cat/0.png": jpeg(1, (96, 64))})
    ways = [{}, {"image_size": 48}, {"image_size": 48, "resize": "pad"}, {"image_size": 48, "resize": "shorter_side"}]
    sets = [load_data(folder_settings(path, **way), tmp_path) for way in ways]
    assert [data.train_images.shape[-1] for data in sets] == [32, 48, 48, 48]
    assert len({data.sha256 for data in sets}) == 4
    assert len([*(tmp_path / ".cache").glob("image_folder*.v3")]) == 4
    assert [load_data(folder_settings(path, **way), tmp_path).sha256 for way in ways] == [data.sha256 for data in sets]
    digits = load_data(Data(name="digits", samples_per_class=1, image_size=64), tmp_path)
    assert digits.test_images.shape == (896, 3, 64, 64)
