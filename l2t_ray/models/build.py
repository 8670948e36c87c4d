"""Networks by name: the module for a source, and the target with its passes."""

from functools import lru_cache

import torch

from l2t_ray.config import Target
from l2t_ray.models.backbone import Backbone
from l2t_ray.models.resnet import ResNet
from l2t_ray.models.traced import Traced
from l2t_ray.models.vgg import LEVELS, Vgg, VggTarget, initial_theta, vgg_levels
from l2t_ray.models.vit import Vit

TargetNetwork = VggTarget | Traced


def build(arch: str, width: float, n_classes: int) -> Backbone:
    """Returns a network by its architecture's name, with PyTorch's default initialisation; see `initialise`.

    Args:
        arch: one of `registry.SIZES`.
        width: factor on the channels.
        n_classes: outputs of the last layer.
    """
    if arch in LEVELS:
        return Vgg(arch, width, n_classes)
    if arch == "vit":
        return Vit(width, n_classes)
    return ResNet(int(arch.removeprefix("resnet")), width, n_classes)


def build_target(target: Target, n_classes: int, operands: torch.dtype | None = None) -> TargetNetwork:
    """Returns the target network: a VGG as a chain with passes of its own, any other through `torch.func`.

    Args:
        target: architecture and width.
        n_classes: classes of the data set.
        operands: type in which its convolutions multiply; the parameters' if None, which only a VGG may differ from.
    """
    if target.arch in LEVELS:
        return VggTarget(vgg_levels(target.arch, target.width), n_classes, operands)
    assert operands is None, "the sweep file's checks refuse bf16 for other targets"
    return Traced(build(target.arch, target.width, n_classes))


@lru_cache(maxsize=16)
def parameter_shapes(target: Target) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a target's parameters by name, with one class."""
    with torch.device("meta"):  # allocates nothing, however wide the target is
        if target.arch in LEVELS:
            theta = initial_theta(VggTarget(vgg_levels(target.arch, target.width), 1, None), None)
        else:
            theta = dict(build(target.arch, target.width, 1).named_parameters())
    return {name: tuple(parameter.shape) for name, parameter in theta.items()}
