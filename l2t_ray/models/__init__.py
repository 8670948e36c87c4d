"""Networks: one file for each family; each network can be a source and a target."""

from l2t_ray.models.backbone import Backbone, BatchNorm, initialise
from l2t_ray.models.build import TargetNetwork, build, build_target, parameter_shapes
from l2t_ray.models.resnet import ResNet
from l2t_ray.models.traced import Traced
from l2t_ray.models.vgg import VGG9, VggTarget, initial_theta
from l2t_ray.models.weights import load_source, source_state

__all__ = [
    "VGG9",
    "Backbone",
    "BatchNorm",
    "ResNet",
    "TargetNetwork",
    "Traced",
    "VggTarget",
    "build",
    "build_target",
    "initial_theta",
    "initialise",
    "load_source",
    "parameter_shapes",
    "source_state",
]
