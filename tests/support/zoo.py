"""torchvision's networks with few channels, from its own classes, and their outputs without our code."""

import itertools
from functools import partial

import torch
import torchvision
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchvision.models import ResNet, VisionTransformer, vgg
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.resnet import BasicBlock, Bottleneck

from l2t_ray.config import Target
from l2t_ray.methods import hypergrad, matching, meta
from l2t_ray.methods.matching import Matching
from l2t_ray.models import build_target
from l2t_ray.registry import ZOO, resolve_pairs
from tests.support import oracles
from tests.support.hypergradients import distance

SIZE = {arch: 64 if arch.startswith(("vit", "mobilenet")) else 32 for arch in ZOO}  # of images, for tests
_CHANNELS = [4, 4, "M", 5, 5, "M", 6, 6, 6, "M", 7, 7, 7, "M", 8, 8, 8, "M"]
_real = torchvision.models.get_model
CHANNELS, SOURCE_SIZES, B, N = (3, 4), (8, 4), 3, 3
ALPHA, BETA, MU, KAPPA = 0.02, 0.5, 0.9, 1e-2
ALL_NETWORKS = frozenset({"what", "where", "which"})


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
    """The thesis' losses for a network of another library, whose maps hooks take.

    Args:
        names: gives our parameters their names there.
        levels: modules that return maps.
        official: the network.
    """

    def __init__(self, names, levels, official, sizes, *given):
        super().__init__((), *given)
        self.names, self.levels, self.sizes = names, levels, sizes
        self.official = without_draws(official).double().train()

    def outputs(self, theta):
        maps = []
        hooks = [
            self.official.get_submodule(level).register_forward_hook(lambda _m, _i, out: maps.append(out.clone()))
            for level in self.levels
        ]
        logits = torch.func.functional_call(self.official, self.names(theta), (self.images,))
        for hook in hooks:
            hook.remove()
        side = self.sizes[0]
        tokens = [m.dim() == 3 for m in maps]  # the class' before those of the patches
        maps = [
            m[:, 1:].transpose(1, 2).reshape(len(m), -1, side, side) if of_patches else m
            for m, of_patches in zip(maps, tokens, strict=True)
        ]
        return maps, getattr(logits, "logits", logits)


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


class Case:
    """Random parameters and one batch."""

    def __init__(self, arch, *, recompute=False, **more):
        g = torch.Generator().manual_seed(7)
        size = SIZE.get(arch, 64)
        self.network = build_target(Target(arch=arch, **more), N, image_size=size, recompute=recompute)
        self.sizes = self.network.feature_sizes
        chosen = resolve_pairs("all", SOURCE_SIZES, self.sizes)
        self.pairs = Matching(chosen, CHANNELS, self.network.feature_channels)

        def draw(*shape):
            return torch.randn(*shape, generator=g, dtype=torch.float64)

        def moved(tensors):
            return {name: p.double() + 0.05 * draw(*p.shape) for name, p in tensors.items()}

        self.theta = moved(self.network.initial_theta(g) | matching.initial_projections(self.pairs, g))
        self.buffers = {name: 0.1 * draw(*p.shape) for name, p in self.theta.items()}
        self.phi = moved(meta.initial_phi(self.pairs, ALL_NETWORKS, SOURCE_SIZES, g))
        self.images, self.labels = draw(B, 3, size, size), torch.randint(N, (B,), generator=g)
        self.source = [draw(B, c, s, s) for c, s in zip(CHANNELS, SOURCE_SIZES, strict=True)]
        given = (self.pairs.pairs, CHANNELS, self.images, self.labels, self.source)
        self.problem = self.official_problem(arch, size)(self.sizes, *given)

    def official_problem(self, arch, size):
        sized = {"image_size": size} if arch == "vit_b_16" else {}
        official = torchvision.models.get_model(arch, num_classes=N, **sized)
        return partial(Problem, partial(official_names, arch), ZOO[arch], official)

    def hypergradient(self, inner, n_steps):
        phi = {name: p.detach().requires_grad_() for name, p in self.phi.items()}
        weights = meta.weigh(self.pairs, phi, self.source)
        targets = matching.resize_sources(self.pairs, self.source, self.sizes)
        v = meta.pixel_weights(weights, self.sizes)
        batch = hypergrad.Batch(self.images, self.labels, targets, v)
        found = hypergrad.distance_gradient(self.network, self.pairs, self.theta, self.buffers, batch, inner, n_steps)
        return meta.phi_gradient(phi, weights, found, inner.scale)

    def error(self, inner):
        """How far our hypergradient of two steps is from that of autograd through the library's own network."""
        one = torch.ones((), dtype=torch.float64)
        rule = {"alpha": ALPHA, "n_steps": 2}
        chosen = hypergrad.Inner(ALPHA * one, one)
        if inner == "published":
            rule |= {"buffers": self.buffers, "decay": KAPPA, "momentum": MU, "scale": BETA}
            chosen = hypergrad.Inner(ALPHA * one, BETA * one, MU * one, KAPPA * one)
        twice_differentiable(self.problem.official)
        with sdpa_kernel(SDPBackend.MATH):  # the fused attention cannot be differentiated twice
            expected = self.problem.hypergradient(self.theta, self.phi, **rule)
        return distance(self.hypergradient(chosen, 2), expected)
