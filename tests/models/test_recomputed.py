"""Passes that compute their parts again: the same bits, and less memory."""

import pytest
import torch

from l2t_ray.config import Target
from l2t_ray.methods.hypergrad import logit_gradient, logit_tangent
from l2t_ray.models import build_target
from l2t_ray.models.target import Adjoints
from l2t_ray.registry import ZOO

N, B = 3, 4


def passes(arch, *, recompute, n_levels=None):
    """All that the four passes and the running statistics give."""
    network = build_target(Target(arch=arch), N, image_size=64, recompute=recompute)
    g = torch.Generator().manual_seed(3)
    theta = network.initial_theta(g)
    direction = {name: 0.01 * torch.randn(p.shape, generator=g) for name, p in theta.items()}
    images, labels = torch.randn(B, 3, 64, 64, generator=g), torch.randint(N, (B,), generator=g)
    statistics = network.initial_statistics(theta["fc.bias"])
    with torch.no_grad():
        values = network.forward(theta, images, statistics=None if n_levels else statistics, n_levels=n_levels)
        at_maps = [torch.randn(f.shape, generator=g) for f in values.features]
        moves = [torch.randn(f.shape, generator=g) for f in values.features]
        at_logits = None if n_levels else logit_gradient(values.logits, labels)
        adjoints = Adjoints()
        gradients = network.backward(theta, values, at_maps, at_logits, adjoints)
        tangents = network.tangent(theta, direction, values, adjoints=adjoints, n_levels=n_levels)
        moved = None if n_levels else logit_tangent(values.logits, tangents.logits)
        products = network.backward_tangent(theta, direction, values, adjoints, tangents, moves, moved)
    maps = {f"map {n}": f for n, f in enumerate(values.features)}
    moved_maps = {f"moved map {n}": f for n, f in enumerate(tangents.features)}
    named = {f"product {name}": p for name, p in products.items() if p.abs().sum() > 0}
    return {**gradients, **maps, **moved_maps, **named, **statistics}


@pytest.mark.parametrize("n_levels", [None, 2])
@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v3_small"])
def test_passes_give_the_same_bits(arch, n_levels):
    kept, again = (passes(arch, recompute=recompute, n_levels=n_levels) for recompute in (False, True))
    assert kept.keys() == again.keys()
    unlike = [name for name in kept if not torch.equal(kept[name], again[name])]
    assert not unlike


def peak_mib(network, theta, images, *, twice):
    """The most that the allocator has held at once beyond what was there before."""
    none, size = [None] * len(network.feature_sizes), 0
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profile:
        values, adjoints = network.forward(theta, images), Adjoints()
        at_logits = torch.ones_like(values.logits)
        direction = network.backward(theta, values, none, at_logits, adjoints)
        if twice:
            tangents = network.tangent(theta, direction, values, adjoints=adjoints)
            network.backward_tangent(theta, direction, values, adjoints, tangents, none, at_logits)
    events = sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    held = [event.nbytes() for event in events if event.name() == "[memory]"]
    return max(size := size + nbytes for nbytes in held) / 2**20


@pytest.mark.parametrize(
    ("arch", "twice", "share"),
    [
        ("mobilenet_v3_small", False, 0.7),
        ("mobilenet_v3_small", True, 0.5),
        ("resnet18", True, 0.8),
        ("convnext_tiny", False, 0.8),
        ("convnext_tiny", True, 0.5),
    ],
)
def test_the_peak_falls(arch, twice, share):
    """Beside activations it holds the gradients, 45 MB of a ResNet-18 and 111 MB of a ConvNeXt-Tiny."""
    found = []
    for recompute in (False, True):
        network = build_target(Target(arch=arch), N, image_size=64, recompute=recompute)
        theta = network.initial_theta(torch.Generator().manual_seed(0))
        found.append(peak_mib(network, theta, torch.randn(16, 3, 64, 64), twice=twice))
    print(f"{arch}: {found[0]:.1f} MiB kept, {found[1]:.1f} computed again")
    assert found[1] < share * found[0]


def test_every_parameter_belongs_to_one_part():
    for arch in ("resnet18", "mobilenet_v3_large", "convnext_tiny"):
        network = build_target(Target(arch=arch), N, recompute=True)
        owned = [name for names in network._names for name in names]
        assert sorted(owned) == sorted(network.names)


def test_all_architectures_are_cut_in_several_parts():
    from l2t_ray.models.zoo import plan

    assert all(len(plan(arch, ZOO[arch], 64).segments) > 4 for arch in ZOO)
