"""Targets without passes of their own: every pass against plain autograd in float64."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from l2t_ray.config import Target
from l2t_ray.errors import InputError
from l2t_ray.methods import hypergrad, matching, meta
from l2t_ray.methods.matching import Matching
from l2t_ray.models import BatchNorm, Traced, build, build_target
from l2t_ray.models.target import Adjoints
from l2t_ray.registry import SIZES, resolve_pairs
from tests.support import oracles

CHANNELS, SOURCE_SIZES, B, N = (3, 4, 5), (32, 16, 8), 4, 3
ALPHA, BETA, MU, KAPPA = 0.05, 0.5, 0.9, 1e-2
TWINS = {"resnet20": oracles.resnet, "vit": oracles.vit}
WIDTHS = {"resnet20": 0.2, "vit": 0.05}
ALL_NETWORKS = frozenset({"what", "where", "which"})


class Problem(oracles.Problem):
    """The thesis' losses for another target."""

    def __init__(self, arch, *given):
        super().__init__((), *given)
        self.arch, self.sizes = arch, SIZES[arch]

    def outputs(self, theta):
        return TWINS[self.arch](theta, self.images)


class Case:
    """Random parameters and one batch."""

    def __init__(self, arch, pairs="all"):
        g = torch.Generator().manual_seed(7)
        self.arch = arch
        self.network = build_target(Target(arch=arch, width=WIDTHS[arch]), N)
        chosen = resolve_pairs(pairs, SOURCE_SIZES, SIZES[arch])
        self.pairs = Matching(chosen, CHANNELS, self.network.feature_channels)

        def draw(*shape):
            return torch.randn(*shape, generator=g, dtype=torch.float64)

        def moved(tensors):
            return {name: p.double() + 0.1 * draw(*p.shape) for name, p in tensors.items()}

        self.theta = moved(self.network.initial_theta(g) | matching.initial_projections(self.pairs, g))
        self.buffers = {name: 0.1 * draw(*p.shape) for name, p in self.theta.items()}
        self.phi = moved(meta.initial_phi(self.pairs, ALL_NETWORKS, SOURCE_SIZES, g))
        self.images = draw(B, 3, 32, 32)
        self.labels = torch.randint(N, (B,), generator=g)
        self.source = [draw(B, c, s, s) for c, s in zip(CHANNELS, SOURCE_SIZES, strict=True)]

    def problem(self):
        return Problem(self.arch, self.pairs.pairs, CHANNELS, self.images, self.labels, self.source)

    def hypergradient(self, inner, n_steps):
        phi = {name: p.detach().requires_grad_() for name, p in self.phi.items()}
        weights = meta.weigh(self.pairs, phi, self.source)
        targets = matching.resize_sources(self.pairs, self.source, SIZES[self.arch])
        v = meta.pixel_weights(weights, SIZES[self.arch])
        at_distances = hypergrad.distance_gradient(
            self.network, self.pairs, self.theta, self.buffers,
            hypergrad.Batch(self.images, self.labels, targets, v), inner, n_steps,
        )  # fmt: skip
        return meta.phi_gradient(phi, weights, at_distances, inner.scale)


def distance(ours, theirs):
    """Relative, over all parameters together."""
    difference = sum(((ours[name] - theirs[name]) ** 2).sum() for name in theirs)
    return float((difference / sum((tensor**2).sum() for tensor in theirs.values())).sqrt())


@pytest.mark.parametrize("arch", TWINS)
def test_features_and_logits_are_the_papers(arch):
    case = Case(arch)
    values = case.network.forward(case.theta, case.images)
    assert [f.shape[-1] for f in values.features] == list(SIZES[arch])
    features, logits = case.problem().outputs(case.theta)
    torch.testing.assert_close(values.logits, logits, rtol=1e-9, atol=1e-10)
    for ours, theirs in zip(values.features, features, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("inner", ["sgd", "published"])
@pytest.mark.parametrize(
    ("arch", "pairs"), [("resnet20", "all"), ("vit", "all"), ("resnet20", ((2, 0), (0, 1)))], ids=str
)
def test_hypergradients_equal_double_backprop(arch, pairs, inner):
    """T = 2: `torch.func` on all levels or some, against autograd through the unrolled steps."""
    case, one = Case(arch, pairs=pairs), torch.ones((), dtype=torch.float64)
    rule = {"alpha": ALPHA, "n_steps": 2}
    chosen = hypergrad.Inner(ALPHA * one, one)
    if inner == "published":
        rule |= {"buffers": case.buffers, "decay": KAPPA, "momentum": MU, "scale": BETA}
        chosen = hypergrad.Inner(ALPHA * one, BETA * one, MU * one, KAPPA * one)
    expected = case.problem().hypergradient(case.theta, case.phi, **rule)
    assert distance(case.hypergradient(chosen, 2), expected) < 1e-9


@pytest.mark.parametrize("arch", TWINS)
def test_hessian_vector_product_equals_double_backprop(arch):
    case = Case(arch)
    theta = {name: case.theta[name].detach().requires_grad_() for name in case.network.names}
    direction = {name: torch.randn_like(p) for name, p in theta.items()}
    gradients = torch.autograd.grad(case.problem().org(theta), list(theta.values()), create_graph=True)
    along = sum((g * direction[name]).sum() for name, g in zip(theta, gradients, strict=True))
    expected = dict(zip(theta, torch.autograd.grad(along, list(theta.values())), strict=True))

    none = [None] * len(SIZES[arch])
    values, adjoints = case.network.forward(case.theta, case.images), Adjoints()
    at_logits = hypergrad.logit_gradient(values.logits, case.labels)
    found = case.network.backward(case.theta, values, none, at_logits, adjoints)
    first = {name: g.detach() for name, g in zip(theta, gradients, strict=True)}
    assert distance(found, first) < 1e-11
    tangents = case.network.tangent(case.theta, direction, values, adjoints=adjoints)
    moved = hypergrad.logit_tangent(values.logits, tangents.logits)
    ours = case.network.backward_tangent(case.theta, direction, values, adjoints, tangents, none, moved)
    assert distance(ours, expected) < 1e-10


def test_running_statistics_and_predictions_are_those_of_the_modules():
    """Two batches through torch's own batch norm in training, then its evaluation."""
    torch.manual_seed(0)
    module = build("resnet20", 0.2, N).double().train()
    network = build_target(Target(arch="resnet20", width=0.2), N)
    theta, values = network.values_of(module)
    statistics = {name: value.clone() for name, value in values.items()}
    assert {n: s.shape for n, s in network.initial_statistics(theta["fc.bias"]).items()} == {
        n: s.shape for n, s in statistics.items()
    }
    g = torch.Generator().manual_seed(1)
    for _ in range(2):
        images = torch.randn(B, 3, 32, 32, generator=g, dtype=torch.float64)
        network.forward(theta, images, statistics=statistics)
        module(images)
    for name, expected in network.values_of(module)[1].items():
        torch.testing.assert_close(statistics[name], expected, rtol=1e-9, atol=1e-11)
    logits = network.predict(theta, statistics, images)
    torch.testing.assert_close(logits, module.eval()(images), rtol=1e-9, atol=1e-10)


def test_a_vgg_as_a_module_is_the_chain():
    module = build("vgg11", 0.1, N).double().train()
    chain = build_target(Target(arch="vgg11", width=0.1), N)
    theta, statistics = chain.values_of(module)
    statistics = {name: s.clone() for name, s in statistics.items()}
    images = torch.randn(B, 3, 32, 32, dtype=torch.float64)
    values = chain.forward(theta, images, statistics=statistics)
    for ours, theirs in zip(values.features, module.features(images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
    for name, expected in chain.values_of(module)[1].items():
        torch.testing.assert_close(statistics[name], expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(
        F.softmax(chain.predict(theta, statistics, images), 1), F.softmax(module.eval()(images), 1)
    )


def test_eleven_layers_are_ten_convolutions_and_one_linear():
    assert len(build_target(Target(arch="vgg11"), 10).channels) == 10
    assert len(build_target(Target(), 10).channels) == 8


def test_values_serve_one_backward_pass():
    """A second one would find no outputs, and no gradients."""
    case = Case("resnet20")
    values, at_logits = case.network.forward(case.theta, case.images), torch.ones(B, N, dtype=torch.float64)
    none = [None] * len(SIZES["resnet20"])
    assert case.network.backward(case.theta, values, none, at_logits)
    with pytest.raises(AssertionError, match="have been used"):
        case.network.backward(case.theta, values, none, at_logits)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (nn.BatchNorm2d(4), "got BatchNorm2d; use l2t_ray.models.BatchNorm"),
        (nn.InstanceNorm2d(4, track_running_stats=True), "got InstanceNorm2d; use l2t_ray.models.BatchNorm"),
        (BatchNorm(4, momentum=None), "momentum must be a number, got None; leave it out"),
        (nn.Dropout(0.5), "must draw nothing, got Dropout"),
    ],
    ids=["batch-norm", "instance-norm", "momentum", "dropout"],
)
def test_a_module_whose_passes_cannot_be_repeated_is_refused(part, told):
    """Torch's own batch norm had kept its statistics to itself, so that predictions were made with 0 and 1."""
    module = build("resnet20", 0.1, N)
    module.extra = nn.Sequential(part)
    with pytest.raises(InputError, match=f"extra.0: .*{re.escape(told)}"):
        Traced(module)


def test_a_module_that_draws_nothing_and_keeps_nothing_is_taken():
    module = build("resnet20", 0.1, N)
    module.extra = nn.Sequential(nn.Dropout(0.0), nn.InstanceNorm2d(4), nn.GroupNorm(2, 4))
    Traced(module)


class _Passing(nn.Module):
    """Does something beside its result."""

    def __init__(self, do):
        super().__init__()
        self.do = do
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, x):
        return self.do(self, x)


def _rebind(part, x):
    part.mean = 0.9 * part.mean + 0.1 * x.detach().mean()
    return x - part.mean


@pytest.mark.parametrize(
    ("do", "told"),
    [
        (lambda part, x: F.dropout(x, 0.5, part.training), "features must draw nothing"),
        (lambda part, x: x + torch.randn(1), "features must draw nothing"),
        (lambda part, x: x - part.mean.lerp_(x.detach().mean(), 0.1), "leave its buffers as they are"),
        (_rebind, "leave its buffers as they are"),
    ],
    ids=["dropout", "noise", "a buffer in place", "another buffer"],
)
def test_a_pass_that_draws_or_changes_a_buffer_is_refused(do, told):
    """Predictions were made with the buffer as it was at the start, and draws did not come from the run's seed."""
    module = build("resnet20", 0.1, N)
    module.conv1 = nn.Sequential(module.conv1, _Passing(do))
    network = Traced(module)
    theta = network.initial_theta(torch.Generator().manual_seed(0))
    statistics = network.initial_statistics(theta["fc.bias"])
    with pytest.raises(InputError, match=told):
        network.forward(theta, torch.ones(2, 3, 32, 32), statistics=statistics)
