"""What rounding the operands of convolutions does to the hypergradient, and that nothing else is rounded."""

import pytest
import torch

from l2t_ray.methods import hypergrad, matching, meta
from l2t_ray.models.chain import Chain
from tests.support.hypergradients import CHAIN, LEVELS, B, Case, N, distance

ALPHA = 1e-4


def hypergradient(case, chain):
    """Like `Case.hypergradient`, in float32 and with another chain."""
    phi = {name: p.detach().float().requires_grad_() for name, p in case.phi.items()}
    source = [s.float() for s in case.source]
    weights = meta.weigh(case.pairs, phi, source)
    sizes = [32, 16, 8, 4, 2]
    images = case.images.float().contiguous(memory_format=torch.channels_last)
    targets = matching.resize_sources(case.pairs, source, sizes)
    batch = hypergrad.Batch(images, case.labels, targets, meta.pixel_weights(weights, sizes))
    theta, one = {name: p.float() for name, p in case.theta.items()}, torch.ones(())
    inner = hypergrad.Inner(ALPHA * one, one)
    at = hypergrad.distance_gradient(chain, case.pairs, theta, {}, batch, inner, 2)
    return meta.phi_gradient(phi, weights, at, inner.scale)


def test_bfloat16_operands_move_the_hypergradient_visibly():
    """2^-9 in each operand, some thirty products deep, at a learning rate at which rounding does not multiply."""
    case = Case("l2t_www", "sgd", "all", 2)
    exact = case.problem().hypergradient(case.theta, case.phi, alpha=ALPHA, n_steps=2)
    single = distance(hypergradient(case, CHAIN), exact)
    rounded = distance(hypergradient(case, Chain(LEVELS, N, torch.bfloat16)), exact)
    assert single < 1e-4
    assert 1e-3 < rounded < 0.5


@pytest.mark.parametrize("operands", [None, torch.bfloat16])
def test_parameters_and_sums_keep_their_type(operands):
    case = Case("l2t_ww", "sgd", "all", 1)
    chain = Chain(LEVELS, N, operands)
    theta = {name: p.float() for name, p in case.theta.items()}
    values = chain.forward(theta, case.images.float())
    none = [None] * len(LEVELS)
    gradients = chain.backward(theta, values, none, torch.ones(B, N))
    assert {p.dtype for p in (*gradients.values(), *values.features, values.logits)} == {torch.float32}
    assert {x.dtype for x in values.inputs} == {operands or torch.float32}
