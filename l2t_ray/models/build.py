"""Networks by name: the module for a source, and the target with its passes."""

from collections.abc import Sequence
from functools import lru_cache

import torch

from l2t_ray.config import Target
from l2t_ray.models.backbone import Backbone
from l2t_ray.models.recomputed import Recomputed
from l2t_ray.models.resnet import ResNet
from l2t_ray.models.traced import Traced
from l2t_ray.models.vgg import LEVELS, Vgg, VggTarget, initial_theta, vgg_levels
from l2t_ray.models.vit import Vit
from l2t_ray.models.zoo import Zoo
from l2t_ray.registry import IMAGE_SIZE, has_places

TargetNetwork = VggTarget | Traced


def build(
    arch: str,
    width: float,
    n_classes: int,
    image_size: int = IMAGE_SIZE,
    levels: Sequence[str] | None = None,
) -> Backbone:
    """Returns a network by its architecture's name, with PyTorch's default initialisation; see `Backbone.redraw`.

    Args:
        arch: one of `registry.Arch`.
        width: factor on the channels.
        n_classes: outputs of the last layer.
        image_size: H = W of the images.
        levels: where a network of the zoo gives its maps; its own places by default.

    Raises:
        InputError: if a level does not exist, or the image size does not suit the network.
    """
    if has_places(arch):
        return Zoo(arch, n_classes, image_size, levels)
    network: Backbone
    if arch == "vit":
        network = Vit(width, n_classes, image_size)
    elif arch in LEVELS:
        network = Vgg(arch, width, n_classes)
    else:
        network = ResNet(int(arch.removeprefix("resnet")), width, n_classes)
    network.image_size = image_size
    return network


def build_target(
    target: Target,
    n_classes: int,
    operands: torch.dtype | None = None,
    *,
    image_size: int = IMAGE_SIZE,
    recompute: bool = False,
) -> TargetNetwork:
    """Returns the target network: a VGG as a chain with passes of its own, any other through `torch.func`.

    Args:
        target: architecture, width and levels.
        n_classes: classes of the data set.
        operands: type in which its convolutions multiply; the parameters' if None, which only a VGG may differ from.
        image_size: H = W of the images.
        recompute: whether passes keep little, and compute it again; of torchvision's networks alone.
    """
    if target.arch in LEVELS:
        return VggTarget(vgg_levels(target.arch, target.width), n_classes, operands, image_size)
    assert operands is None, "the sweep file's checks refuse bf16 for other targets"
    network = build(target.arch, target.width, n_classes, image_size, target.levels)
    return Recomputed(network) if recompute and isinstance(network, Zoo) else Traced(network)


@lru_cache(maxsize=16)
def parameter_shapes(target: Target) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a target's parameters by name, with one class."""
    with torch.device("meta"):  # allocates nothing, however wide the target is
        if target.arch in LEVELS:
            theta = initial_theta(VggTarget(vgg_levels(target.arch, target.width), 1, None), None)
        else:
            theta = dict(build(target.arch, target.width, 1, levels=target.levels).named_parameters())
    return {name: tuple(parameter.shape) for name, parameter in theta.items()}
