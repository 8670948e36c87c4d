"""Levels of the networks and the pairs behind the names."""

import pytest

from l2t_ray.models import build
from l2t_ray.registry import SIZES, missing_level, resolve_pairs

RESNET, VGG, VIT = SIZES["resnet32"], SIZES["vgg9"], SIZES["vit"]


@pytest.mark.parametrize(
    ("pairs", "source", "target", "expected"),
    [
        ("all", RESNET, VGG, [(m, n) for m in range(3) for n in range(5)]),
        ("one_to_one", RESNET, VGG, [(0, 0), (1, 1), (2, 2)]),  # 32, 16 and 8 pixels
        ("single", RESNET, VGG, [(2, 4)]),
        ("one_to_one", RESNET, VIT, [(2, 5)]),  # 8 pixels, the last of each
        ("one_to_one", VIT, RESNET, [(5, 2)]),
        ("one_to_one", VIT, VIT, [(n, n) for n in range(6)]),
        ("one_to_one", VGG, VGG, [(n, n) for n in range(5)]),
        ("single", VIT, RESNET, [(5, 2)]),
        (((2, 0), (0, 1), (2, 0)), RESNET, VGG, [(0, 1), (2, 0)]),
    ],
    ids=str,
)
def test_pairs_of_levels(pairs, source, target, expected):
    assert list(resolve_pairs(pairs, source, target)) == expected


def test_the_thesis_networks_are_meant_unless_others_are_given():
    assert resolve_pairs("all") == resolve_pairs("all", RESNET, VGG)


def test_levels_that_do_not_exist_are_told_with_those_that_do():
    assert missing_level([(2, 4)], "resnet32", "vgg9") is None
    assert missing_level("all", "vit", "vit") is None
    told = missing_level([(0, 0), (3, 0), (1, 6)], "resnet20", "vit")
    assert told == "must name source levels 0 to 2 of resnet20 and target levels 0 to 5 of vit, got [3, 0], [1, 6]"


@pytest.mark.parametrize("arch", SIZES)
def test_every_architecture_can_be_built_with_its_levels(arch):
    network = build(arch, 0.1, 3)
    assert network.arch == arch
    assert len(network.channels) == len(SIZES[arch])
