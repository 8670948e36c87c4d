"""torchvision's networks with few channels, from its own classes, and their outputs without our code."""

import itertools

import torch
import torchvision
from torch import nn
from torchvision.models import ResNet, VisionTransformer, vgg
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.resnet import BasicBlock, Bottleneck

from l2t_ray.registry import ZOO
from tests.support import oracles

SIZE = {arch: 64 if arch.startswith(("vit", "mobilenet")) else 32 for arch in ZOO}  # of images, for tests
_CHANNELS = [4, 4, "M", 5, 5, "M", 6, 6, 6, "M", 7, 7, 7, "M", 8, 8, 8, "M"]
_real = torchvision.models.get_model


def small(arch, num_classes, **more):
    """As torchvision.models.get_model, with the layers of the architecture and few channels."""
    if arch.startswith("resnet"):
        block = Bottleneck if arch == "resnet50" else BasicBlock
        return _narrow(ResNet(block, [1, 1, 1, 1], num_classes))
    if arch == "vgg16_bn":
        with torch.device("meta"):  # its linear layers are large, and replaced
            network = vgg.VGG(nn.Sequential(), num_classes)
        network.avgpool, network.features = nn.AdaptiveAvgPool2d(7), vgg.make_layers(_CHANNELS, batch_norm=True)
        network.classifier = nn.Sequential(
            *(nn.Linear(8 * 49, 6), nn.ReLU(inplace=True), nn.Dropout()),
            *(nn.Linear(6, 6), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(6, num_classes)),
        )
        return network
    if arch.startswith("mobilenet"):
        return _real(arch, num_classes=num_classes, width_mult=0.1)
    if arch == "convnext_tiny":
        ends = [4, 5, 6, 7, None]
        blocks = [CNBlockConfig(a, b, 1) for a, b in itertools.pairwise(ends)]
        return ConvNeXt(blocks, stochastic_depth_prob=0.1, num_classes=num_classes)
    return VisionTransformer(more["image_size"], 16, 12, 2, 8, 16, num_classes=num_classes)


def _narrow(network):
    """Divides the channels of a ResNet by 16."""
    for name, part in [*network.named_modules()]:
        above, _, own = name.rpartition(".")
        if isinstance(part, nn.Conv2d):
            n_inputs = 3 if part.in_channels == 3 else part.in_channels // 16
            new = nn.Conv2d(n_inputs, part.out_channels // 16, part.kernel_size, part.stride, part.padding, bias=False)
        elif isinstance(part, nn.BatchNorm2d):
            new = nn.BatchNorm2d(part.num_features // 16)
        elif isinstance(part, nn.Linear):
            new = nn.Linear(part.in_features // 16, part.out_features)
        else:
            continue
        setattr(network.get_submodule(above), own, new)
    return network


def official_names(arch, theta):
    """Our parameters under torchvision's names."""
    head = {"resnet": "fc", "vgg16_": "classifier.6", "mobile": "classifier.3", "convne": "classifier.2"}
    name = head.get(arch[:6], "heads.head")
    own = {n.removeprefix("body."): p for n, p in theta.items() if not n.startswith(("fc.", "project."))}
    return own | {f"{name}.weight": theta["fc.weight"], f"{name}.bias": theta["fc.bias"]}


class Problem(oracles.Problem):
    """The thesis' losses for a network of torchvision, whose maps hooks take."""

    def __init__(self, arch, official, sizes, *given):
        super().__init__((), *given)
        self.arch, self.official, self.sizes = arch, without_draws(official).double().train(), sizes

    def outputs(self, theta):
        maps = []
        hooks = [
            self.official.get_submodule(level).register_forward_hook(lambda _m, _i, out: maps.append(out.clone()))
            for level in ZOO[self.arch]
        ]
        logits = torch.func.functional_call(self.official, official_names(self.arch, theta), (self.images,))
        for hook in hooks:
            hook.remove()
        if self.arch == "vit_b_16":  # without the class token
            maps = [m[:, 1:].transpose(1, 2).reshape(len(m), -1, self.sizes[0], self.sizes[0]) for m in maps]
        return maps, logits


def twice_differentiable(network):
    """Writes hard sigmoids out, whose derivative torch cannot differentiate."""
    for part in network.modules():
        if isinstance(part, nn.Hardsigmoid):
            part.forward = lambda x: (x + 3).clamp(0, 6) / 6
    return network


def without_draws(network):
    """Switches dropout and stochastic depth off."""
    for part in network.modules():
        if isinstance(part, nn.Dropout | torchvision.ops.StochasticDepth):
            part.p = 0.0
    return network
