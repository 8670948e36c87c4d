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
    """Random parameters and one batch for K runs, and each run's oracle."""

    def __init__(self, method, inner, pairs, n_steps, n_runs=1):
        g = torch.Generator().manual_seed(7)
        self.n_steps, self.n_runs, self.kind = n_steps, n_runs, inner
        self.pairs = Matching(resolve_pairs(pairs), CHANNELS, CHAIN.feature_channels)

        def draw(*shape):
            return torch.randn(*shape, generator=g, dtype=torch.float64)

        def stack(make):
            tensors = [make() for _ in range(n_runs)]
            return {name: torch.stack([t[name].double() for t in tensors]) for name in tensors[0]}

        self.theta = stack(lambda: initial_theta(CHAIN, g) | matching.initial_projections(self.pairs, g))
        self.theta = {name: p + 0.1 * draw(*p.shape) for name, p in self.theta.items()}
        self.buffers = {name: 0.1 * draw(*p.shape) for name, p in self.theta.items()}
        self.phi = stack(lambda: meta.initial_phi(self.pairs, METHODS[method], SOURCE_SIZES, g))
        self.phi = {name: p + 0.1 * draw(*p.shape) for name, p in self.phi.items()}
        self.images = draw(B, 3 * n_runs, 32, 32)
        self.labels = torch.randint(N, (n_runs, B), generator=g)
        self.source = [draw(B, n_runs, c, s, s) for c, s in zip(CHANNELS, SOURCE_SIZES, strict=True)]

    def problem(self, run=0):
        images = self.images[:, 3 * run : 3 * run + 3]
        source = [s[:, run] for s in self.source]
        return Problem(LEVELS, self.pairs.pairs, CHANNELS, images, self.labels[run], source)

    def rule(self, run=0):
        rule = {"alpha": ALPHA, "n_steps": self.n_steps}
        if self.kind == "published":
            buffers = {name: q[run] for name, q in self.buffers.items()}
            rule |= {"buffers": buffers, "decay": KAPPA, "momentum": MU, "scale": BETA}
        return rule

    def inner(self):
        ones = torch.ones(self.n_runs, dtype=torch.float64)
        if self.kind == "published":
            return hypergrad.Inner(ALPHA * ones, BETA * ones, MU * ones, KAPPA * ones)
        return hypergrad.Inner(ALPHA * ones, ones)

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


def of_run(tensors, run=0):
    return {name: tensor[run] for name, tensor in tensors.items()}


def distance(ours, theirs):
    """Relative, over all parameters together."""
    difference = sum(((ours[name] - theirs[name]) ** 2).sum() for name in theirs)
    return float((difference / sum((tensor**2).sum() for tensor in theirs.values())).sqrt())
