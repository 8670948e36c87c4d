"""Random parameters and batches whose hypergradient is computed by our code and by the oracle, in float64."""

import torch

from l2t_ray.methods import hypergrad, matching, meta
from l2t_ray.methods.matching import Matching
from l2t_ray.models import initial_theta
from l2t_ray.models.chain import Chain
from l2t_ray.registry import resolve_pairs
from tests.support.oracles import Problem

LEVELS = ((4,), (5,), (6, 6), (7, 7), (8, 8))
CHANNELS, SOURCE_SIZES, B, N = (3, 4, 5), (32, 16, 8), 6, 4
ALPHA, BETA, MU, KAPPA = 0.05, 0.5, 0.9, 1e-2
CHAIN = Chain(LEVELS, N)
SIZES = [32, 16, 8, 4, 2]

METHODS = {
    "l2t_ww": frozenset({"what", "where"}),
    "l2t_www": frozenset({"what", "where", "which"}),
}


class Case:
    """Random parameters and one batch, and the oracle."""

    def __init__(self, method, inner, pairs, n_steps):
        g = torch.Generator().manual_seed(7)
        self.n_steps, self.kind = n_steps, inner
        self.pairs = Matching(resolve_pairs(pairs), CHANNELS, CHAIN.feature_channels)

        def draw(*shape):
            return torch.randn(*shape, generator=g, dtype=torch.float64)

        def moved(tensors):
            return {name: p.double() + 0.1 * draw(*p.shape) for name, p in tensors.items()}

        self.theta = moved(initial_theta(CHAIN, g) | matching.initial_projections(self.pairs, g))
        self.buffers = {name: 0.1 * draw(*p.shape) for name, p in self.theta.items()}
        self.phi = moved(meta.initial_phi(self.pairs, METHODS[method], SOURCE_SIZES, g))
        self.images = draw(B, 3, 32, 32)
        self.labels = torch.randint(N, (B,), generator=g)
        self.source = [draw(B, c, s, s) for c, s in zip(CHANNELS, SOURCE_SIZES, strict=True)]

    def problem(self):
        return Problem(LEVELS, self.pairs.pairs, CHANNELS, self.images, self.labels, self.source)

    def rule(self):
        rule = {"alpha": ALPHA, "n_steps": self.n_steps}
        if self.kind == "published":
            rule |= {"buffers": self.buffers, "decay": KAPPA, "momentum": MU, "scale": BETA}
        return rule

    def inner(self):
        one = torch.ones((), dtype=torch.float64)
        if self.kind == "published":
            return hypergrad.Inner(ALPHA * one, BETA * one, MU * one, KAPPA * one)
        return hypergrad.Inner(ALPHA * one, one)

    def batch(self, weights):
        targets = matching.resize_sources(self.pairs, self.source, SIZES)
        images = self.images.contiguous(memory_format=torch.channels_last)
        return hypergrad.Batch(images, self.labels, targets, meta.pixel_weights(weights, SIZES))

    def hypergradient(self):
        phi = {name: p.detach().requires_grad_() for name, p in self.phi.items()}
        weights = meta.weigh(self.pairs, phi, self.source)
        inner = self.inner()
        at_distances = hypergrad.distance_gradient(
            CHAIN, self.pairs, self.theta, self.buffers, self.batch(weights), inner, self.n_steps
        )
        return meta.phi_gradient(phi, weights, at_distances, inner.scale)


def distance(ours, theirs):
    """Relative, over all parameters together."""
    difference = sum(((ours[name] - theirs[name]) ** 2).sum() for name in theirs)
    return float((difference / sum((tensor**2).sum() for tensor in theirs.values())).sqrt())
