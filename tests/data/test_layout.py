"""A folder without test images is split by class, always in the same way."""

import hashlib

import pytest
import torch

from l2t_ray.data.layout import n_trained
from l2t_ray.data.load import load_data
from l2t_ray.errors import InputError
from tests.support.image_files import animals, folder_settings, png, write_folder, write_tar


def untested(n_images):
    return animals(n_train=n_images, n_test=0)


def shades(images):
    return sorted(image.amax(0)[0, 0].item() - 100 for image in images)


def test_the_test_set_is_the_named_part_of_each_class(tmp_path):
    """Of 10 images, 0.2 is 2: those whose SHA-256 of `l2t-ray/test/train/<class>/<file>` comes first."""
    path = write_tar(tmp_path / "a.tar", untested(10))
    data = load_data(folder_settings(path, test_fraction=0.2), tmp_path)
    assert data.train_labels.bincount().tolist() == [8, 8]
    assert data.test_labels.bincount().tolist() == [2, 2]
    for label, title in enumerate(("cat", "dog")):
        names = [f"train/{title}/{number}.png" for number in range(10)]
        first = sorted(names, key=lambda name: hashlib.sha256(f"l2t-ray/test/{name}".encode()).hexdigest())[:2]
        expected = sorted(names.index(name) for name in first)
        assert shades(data.test_images[data.test_labels == label]) == expected
        assert shades(data.train_images[data.train_labels == label]) == [k for k in range(10) if k not in expected]


def test_the_split_is_the_same_from_every_form_and_for_every_run(tmp_path):
    folder = write_folder(tmp_path / "a", untested(7))
    tar = write_tar(tmp_path / "a.tar", dict(reversed(untested(7).items())), top="pets/")
    one, two = (
        load_data(folder_settings(path, title="x", test_fraction=0.3), tmp_path / path.name) for path in (folder, tar)
    )
    assert one.sha256 == two.sha256
    assert torch.equal(one.test_images, two.test_images)


def test_two_fractions_have_two_caches_and_the_larger_test_set_holds_the_smaller(tmp_path):
    path = write_tar(tmp_path / "a.tar", untested(10))
    small, large = (load_data(folder_settings(path, test_fraction=share), tmp_path) for share in (0.2, 0.5))
    for label in (0, 1):
        less, more = (shades(data.test_images[data.test_labels == label]) for data in (small, large))
        assert {*less} < {*more}
        assert (len(less), len(more)) == (2, 5)


def test_a_class_keeps_an_image_to_train_on_and_gives_one_to_the_test_if_it_can():
    """round(0.1 * 3) = 0, so 1; round(0.9 * 2) = 2, so 1; of one image none."""
    assert n_trained({"a": 3, "b": 2, "c": 1, "d": 20}, 0.1) == {"a": 2, "b": 1, "c": 1, "d": 18}
    assert n_trained({"a": 3, "b": 2, "c": 1}, 0.9) == {"a": 1, "b": 1, "c": 1}
    assert n_trained({"a": 3}, None) == {"a": 3}


def test_a_class_of_one_image_is_trained_on_alone(tmp_path):
    path = write_folder(tmp_path / "a", untested(4) | {"train/emu/0.png": png("blue")})
    data = load_data(folder_settings(path, test_fraction=0.25), tmp_path)
    assert data.classes == ("cat", "dog", "emu")
    assert data.train_labels.bincount().tolist() == [3, 3, 1]
    assert data.test_labels.bincount(minlength=3).tolist() == [1, 1, 0]


def test_a_folder_with_two_kinds_of_test_images_or_none_is_refused(tmp_path):
    path = write_folder(tmp_path / "a", animals())
    with pytest.raises(InputError, match=r"data.test_fraction must stand with train/ alone, got test/ too; remove one"):
        load_data(folder_settings(path, test_fraction=0.25), tmp_path)
    path = write_folder(tmp_path / "b", untested(3))
    with pytest.raises(InputError, match=r"test/<class>/ must hold images, .* split train/ with data.test_fraction"):
        load_data(folder_settings(path), tmp_path)
