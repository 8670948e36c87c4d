"""The hypergradient by independent routes, in float64."""

import math

import pytest
import torch

from l2t_ray.methods import hypergrad, matching, meta
from l2t_ray.methods.matching import Matching
from l2t_ray.models.target import Adjoints, Values
from tests.support.hypergradients import BETA, CHAIN, LEVELS, Case, distance

CASES = [
    pytest.param(method, inner, pairs, n_steps, id=f"{method}-{inner}-{pairs}-T{n_steps}")
    for method, inner, pairs, n_steps in [
        ("l2t_ww", "sgd", "all", 2),
        ("l2t_ww", "published", "all", 2),
        ("l2t_www", "sgd", "all", 2),
        ("l2t_www", "published", "all", 2),
        ("l2t_www", "sgd", "one_to_one", 3),
        ("l2t_ww", "published", "one_to_one", 1),
        ("l2t_www", "sgd", "single", 1),
    ]
]


@pytest.mark.parametrize(("method", "inner", "pairs", "n_steps"), CASES)
def test_hypergradient_equals_double_backprop(method, inner, pairs, n_steps):
    case = Case(method, inner, pairs, n_steps)
    expected = case.problem().hypergradient(case.theta, case.phi, **case.rule())
    assert distance(case.hypergradient(), expected) < 1e-10


@pytest.mark.parametrize(("method", "inner"), [("l2t_ww", "sgd"), ("l2t_www", "published")])
def test_hypergradient_equals_central_differences(method, inner):
    case = Case(method, inner, "all", 2)
    g = torch.Generator().manual_seed(1)
    phi = case.phi
    direction = {name: torch.randn(p.shape, generator=g, dtype=p.dtype) for name, p in phi.items()}
    h = 1e-7

    def outer(sign):
        moved = {name: p + sign * h * direction[name] for name, p in phi.items()}
        return float(case.problem().outer(case.theta, moved, **case.rule()).detach())

    ours = sum(float((gradient * direction[name]).sum()) for name, gradient in case.hypergradient().items())
    # a step of 1e-7 leaves 1e-16 / 1e-7 of round-off, and rarely crosses a kink of ReLU or max-pool
    assert ours == pytest.approx((outer(1) - outer(-1)) / (2 * h), rel=1e-5)


class Line:
    """A target with one parameter: T^0(x) = theta x, logits (theta x, 0); a network for the closed form alone."""

    def forward(self, theta, x, *, n_levels=None):
        feature = theta["theta"].view(1, 1, 1, 1) * x
        logits = None if n_levels else torch.stack([feature.view(-1), torch.zeros_like(feature.view(-1))], -1)
        return Values(inputs=[x], features=[feature], logits=logits)

    def backward(self, theta, values, feature_gradients, logit_gradient=None, adjoints=None):
        x, (at_feature,) = values.inputs[0], feature_gradients
        slope = logit_gradient[..., 0].sum() if at_feature is None else at_feature.sum()
        return {"theta": (slope * x).view(())}

    def tangent(self, theta, direction, values, *, adjoints=None, n_levels=None):
        return self.forward(direction, values.inputs[0], n_levels=n_levels)

    def backward_tangent(self, theta, direction, values, adjoints, tangents, feature_tangents, logit_tangent=None):
        return self.backward(theta, values, feature_tangents, logit_tangent)


def test_hypergradient_equals_the_closed_form_on_a_quadratic():
    """One image, one pixel: L_wfm = w (theta x - s)^2, L_org = log(1 + exp(-theta x)) for label 0, T = 1.

    theta_1 = theta - 2 alpha w x (theta x - s), theta_2 = theta_1 - alpha g(theta_1), with g and h the first two
    derivatives of L_org: dL/dw = g(theta_2) (1 - alpha h(theta_1)) (-2 alpha x (theta x - s)).
    """
    theta, x, s, w, alpha = 1.3, 0.7, 0.2, 0.6, 0.1

    def g(t):
        return -x / (1 + math.exp(t * x))

    def h(t):
        return x * x * math.exp(t * x) / (1 + math.exp(t * x)) ** 2

    theta_1 = theta - 2 * alpha * w * x * (theta * x - s)
    theta_2 = theta_1 - alpha * g(theta_1)
    closed = g(theta_2) * (1 - alpha * h(theta_1)) * (-2 * alpha * x * (theta * x - s))

    def number(value):
        return torch.full((1, 1, 1, 1), value, dtype=torch.float64)

    one = torch.ones((), dtype=torch.float64)
    parameters = {
        "theta": theta * one,
        "project.0.weight": number(1.0),
        "project.0.bias": torch.zeros(1, dtype=torch.float64),
    }
    batch = hypergrad.Batch(number(x), torch.zeros(1, dtype=torch.long), {0: number(s)}, {0: number(2 * w)})
    # the projection moves too, but with T = 1 nothing reads it after its move
    found = hypergrad.distance_gradient(
        Line(), Matching(((0, 0),), (1,), (1,)), parameters, {}, batch, hypergrad.Inner(alpha * one, one), 1
    )
    assert 2 * float(found[0]) == pytest.approx(closed, rel=1e-12)


@pytest.mark.parametrize("inner", ["sgd", "published"])
def test_look_ahead_leaves_theta_and_buffers_bitwise_untouched(inner):
    case = Case("l2t_www", inner, "all", 2)
    before = {name: p.clone() for name, p in (case.theta | {f"q.{n}": q for n, q in case.buffers.items()}).items()}
    case.hypergradient()
    after = case.theta | {f"q.{n}": q for n, q in case.buffers.items()}
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_gradients_of_both_losses_equal_autograd():
    case = Case("l2t_www", "sgd", "all", 2)
    theta = {name: p.detach().requires_grad_() for name, p in case.theta.items()}
    problem = case.problem()
    loss = problem.org(theta) + BETA * problem.wfm(theta, case.phi)
    expected = dict(zip(theta, torch.autograd.grad(loss, list(theta.values())), strict=True))

    batch = case.batch(meta.weigh(case.pairs, case.phi, case.source))
    values = CHAIN.forward(case.theta, batch.images)
    scaled = {n: BETA * v for n, v in batch.pixel_weights.items()}
    _, at_features, gradients = matching.backward(case.pairs, case.theta, values.features, batch.targets, scaled)
    at_logits = hypergrad.logit_gradient(values.logits, batch.labels)
    gradients |= CHAIN.backward(case.theta, values, at_features, at_logits)
    assert distance(gradients, expected) < 1e-12


def test_hessian_vector_product_equals_double_backprop():
    case = Case("l2t_ww", "sgd", "all", 2)
    theta = {name: p.detach().requires_grad_() for name, p in case.theta.items() if "project" not in name}
    direction = {name: torch.randn_like(p) for name, p in theta.items()}
    gradients = torch.autograd.grad(case.problem().org(theta), list(theta.values()), create_graph=True)
    inner_product = sum((g * direction[name]).sum() for name, g in zip(theta, gradients, strict=True))
    expected = dict(zip(theta, torch.autograd.grad(inner_product, list(theta.values())), strict=True))

    none = [None] * len(LEVELS)
    values, adjoints = CHAIN.forward(case.theta, case.images), Adjoints()
    at_logits = hypergrad.logit_gradient(values.logits, case.labels)
    CHAIN.backward(case.theta, values, none, at_logits, adjoints)
    tangents = CHAIN.tangent(case.theta, direction, values, adjoints=adjoints)
    moved = hypergrad.logit_tangent(values.logits, tangents.logits)
    ours = CHAIN.backward_tangent(case.theta, direction, values, adjoints, tangents, none, moved)
    assert distance(ours, expected) < 1e-10
