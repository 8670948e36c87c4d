"""torchvision's networks as sources and targets: the passes against double back-propagation, levels, weights' names."""

import pytest
import torch
import torchvision
from torch.nn.attention import SDPBackend, sdpa_kernel

from l2t_ray.config import Target
from l2t_ray.methods import hypergrad, matching, meta
from l2t_ray.methods.matching import Matching
from l2t_ray.models import build_target, zoo
from l2t_ray.registry import ZOO, resolve_pairs
from tests.support.hypergradients import distance
from tests.support.zoo import SIZE, Problem, small, twice_differentiable

CHANNELS, SOURCE_SIZES, B, N = (3, 4), (8, 4), 3, 3
ALPHA, BETA, MU, KAPPA = 0.02, 0.5, 0.9, 1e-2
ALL_NETWORKS = frozenset({"what", "where", "which"})


@pytest.fixture
def narrow(monkeypatch):
    """torchvision's networks have few channels."""
    zoo.plan.cache_clear()
    monkeypatch.setattr(torchvision.models, "get_model", small)
    yield
    zoo.plan.cache_clear()


class Case:
    """Random parameters and one batch."""

    def __init__(self, arch, **more):
        g = torch.Generator().manual_seed(7)
        size = SIZE[arch]
        self.network = build_target(Target(arch=arch), N, image_size=size, **more)
        self.sizes = self.network.feature_sizes
        chosen = resolve_pairs("all", SOURCE_SIZES, self.sizes)
        self.pairs = Matching(chosen, CHANNELS, self.network.feature_channels)

        def draw(*shape):
            return torch.randn(*shape, generator=g, dtype=torch.float64)

        def moved(tensors):
            return {name: p.double() + 0.1 * draw(*p.shape) for name, p in tensors.items()}

        self.theta = moved(self.network.initial_theta(g) | matching.initial_projections(self.pairs, g))
        self.buffers = {name: 0.1 * draw(*p.shape) for name, p in self.theta.items()}
        self.phi = moved(meta.initial_phi(self.pairs, ALL_NETWORKS, SOURCE_SIZES, g))
        self.images, self.labels = draw(B, 3, size, size), torch.randint(N, (B,), generator=g)
        self.source = [draw(B, c, s, s) for c, s in zip(CHANNELS, SOURCE_SIZES, strict=True)]
        sized = {"image_size": size} if arch == "vit_b_16" else {}
        official = torchvision.models.get_model(arch, num_classes=N, **sized)
        given = (self.pairs.pairs, CHANNELS, self.images, self.labels, self.source)
        self.problem = Problem(arch, official, self.sizes, *given)

    def hypergradient(self, inner, n_steps):
        phi = {name: p.detach().requires_grad_() for name, p in self.phi.items()}
        weights = meta.weigh(self.pairs, phi, self.source)
        targets = matching.resize_sources(self.pairs, self.source, self.sizes)
        v = meta.pixel_weights(weights, self.sizes)
        batch = hypergrad.Batch(self.images, self.labels, targets, v)
        found = hypergrad.distance_gradient(self.network, self.pairs, self.theta, self.buffers, batch, inner, n_steps)
        return meta.phi_gradient(phi, weights, found, inner.scale)


@pytest.mark.parametrize("arch", ZOO)
@pytest.mark.usefixtures("narrow")
def test_maps_and_logits_are_those_of_torchvision(arch):
    case = Case(arch)
    values = case.network.forward(case.theta, case.images)
    maps, logits = case.problem.outputs(case.theta)
    torch.testing.assert_close(values.logits, logits, rtol=1e-9, atol=1e-10)
    assert len(maps) == len(ZOO[arch])
    for ours, theirs in zip(values.features, maps, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("inner", ["sgd", "published"])
@pytest.mark.parametrize("arch", ZOO)
@pytest.mark.usefixtures("narrow")
def test_hypergradients_equal_double_backprop(arch, inner):
    """T = 2: `torch.func` through our segments, against autograd through torchvision's own network."""
    case, one = Case(arch), torch.ones((), dtype=torch.float64)
    rule = {"alpha": ALPHA, "n_steps": 2}
    chosen = hypergrad.Inner(ALPHA * one, one)
    if inner == "published":
        rule |= {"buffers": case.buffers, "decay": KAPPA, "momentum": MU, "scale": BETA}
        chosen = hypergrad.Inner(ALPHA * one, BETA * one, MU * one, KAPPA * one)
    twice_differentiable(case.problem.official)
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention cannot be differentiated twice
        expected = case.problem.hypergradient(case.theta, case.phi, **rule)
    assert distance(case.hypergradient(chosen, 2), expected) < 1e-8
