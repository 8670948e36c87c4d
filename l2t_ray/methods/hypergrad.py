"""Algorithm 1's look-ahead (steps 2, 3) and the exact gradient of its outcome (step 4), without a second-order graph.

The look-ahead is momentum SGD; plain steps are momentum 0 and weight decay 0. With q_t its buffer,

    q_{t+1} = mu q_t + (grad L_t(theta_t) + kappa theta_t),    theta_{t+1} = theta_t - alpha q_{t+1},

L_t = s L_wfm for t < T and L_org for t = T. Going back from a = grad L_org(theta_{T+1}), c = 0 (their adjoints):

    c <- c - alpha a;    grad_V += s <dD/dtheta, c> / 2;    a <- a + kappa c + H_t(theta_t) c;    c <- mu c

method.md, section 9, is the case mu = kappa = 0. At t = 0 only the middle term is needed: one tangent pass.

| symbol | code |
| --- | --- |
| theta_t, q_t | theta, buffers |
| alpha, mu, kappa, s | Inner.alpha, .momentum, .weight_decay, .scale |
| E, V, dE | `l2t_ray.methods.matching` |
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from l2t_ray.methods import matching
from l2t_ray.methods.matching import Matching
from l2t_ray.models.compiling import fused, pointwise
from l2t_ray.models.target import Adjoints, Network, Tensors, Values
from l2t_ray.models.vector import Vector


@dataclass(frozen=True)
class Inner:
    """The look-ahead's update rule; scalar tensors."""

    alpha: Tensor  # learning rate
    scale: Tensor  # factor of L_wfm
    momentum: Tensor | None = None  # None for plain gradient steps
    weight_decay: Tensor | None = None  # None for plain gradient steps


@dataclass(frozen=True)
class Batch:
    """One mini-batch."""

    images: Tensor  # [B, 3, H, W]
    labels: Tensor  # [B], or shares of the classes [B, N]
    targets: Mapping[int, Tensor]  # S by target level (`matching.resize_sources`)
    pixel_weights: Mapping[int, Tensor]  # V by target level (`meta.pixel_weights`)


@dataclass
class _Step:
    theta: Vector
    values: Values
    adjoints: Adjoints
    differences: dict[int, Tensor]


@fused
def logit_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the gradient [B, N] of the mean cross-entropy at the logits, for labels [B] or shares [B, N]."""
    gradient = logits.softmax(-1)
    if labels.dim() > 1:
        return (gradient - labels).div_(len(logits))
    gradient.scatter_add_(-1, labels[..., None], -torch.ones_like(gradient[..., :1]))
    return gradient.div_(len(logits))


@fused
def logit_tangent(logits: Tensor, direction: Tensor) -> Tensor:
    """Returns the derivative of `logit_gradient` along a direction of the logits."""
    p = logits.softmax(-1)
    weighted = p * direction
    return (weighted - p * weighted.sum(-1, keepdim=True)) / len(logits)


def distance_gradient(
    network: Network,
    pairs: Matching,
    theta: Tensors,
    buffers: Tensors,
    batch: Batch,
    inner: Inner,
    n_steps: int,
) -> dict[int, Tensor]:
    """Returns the gradient of L_org(theta_{T+1}) with respect to the weights of the distances.

    Args:
        network: the target.
        pairs: the matched levels.
        theta: theta_0, network and projections; left untouched.
        buffers: momentum at theta_0; read only where `inner.momentum` is given.
        batch: images, labels, S and V.
        inner: the look-ahead's update rule.
        n_steps: T.

    Returns:
        By target level the sum over t of E dE, [B, C_n, H, W], from which `meta.phi_gradient` computes phi's.
    """
    pixel_weights = {n: v * inner.scale for n, v in batch.pixel_weights.items()}
    theta = theta if isinstance(theta, Vector) else Vector.of(theta)
    buffer = theta.gather(buffers) if inner.momentum is not None else None
    steps: list[_Step] = []
    for t in range(n_steps):
        values = network.forward(theta, batch.images, n_levels=pairs.n_levels)
        differences, at_features, gradients = matching.backward(
            pairs, theta, values.features, batch.targets, pixel_weights
        )
        step = _Step(theta, values, Adjoints(), differences)
        kept = step.adjoints if t > 0 else None  # theta_0 needs no Hessian-vector product
        gradients |= network.backward(theta, values, at_features, adjoints=kept)
        theta, buffer = _ahead(theta, buffer, gradients, inner)
        steps.append(step)

    values = network.forward(theta, batch.images)
    last = _Step(theta, values, Adjoints(), {})
    no_features: list[Tensor | None] = [None] * len(values.features)
    assert values.logits is not None
    at_logits = logit_gradient(values.logits, batch.labels)
    gradients = network.backward(theta, values, no_features, at_logits, last.adjoints)
    theta, _ = _ahead(theta, buffer, gradients, inner)

    values = network.forward(theta, batch.images)
    assert values.logits is not None
    at_logits = logit_gradient(values.logits, batch.labels)
    a = theta.gather(network.backward(theta, values, no_features, at_logits))
    del values
    c = theta.like(a * -inner.alpha)

    tangents = network.tangent(last.theta, c, last.values, adjoints=last.adjoints)
    assert last.values.logits is not None
    assert tangents.logits is not None
    moved = logit_tangent(last.values.logits, tangents.logits)
    products = network.backward_tangent(last.theta, c, last.values, last.adjoints, tangents, no_features, moved)
    a, c = _back(a, c, products, inner)
    del last, tangents

    total: dict[int, Tensor] = {}
    for t in range(n_steps - 1, -1, -1):
        step = steps.pop()
        kept = step.adjoints if t > 0 else None
        tangents = network.tangent(step.theta, c, step.values, adjoints=kept, n_levels=pairs.n_levels)
        moves, total = matching.tangent(
            pairs, step.theta, c, step.values.features, tangents.features, step.differences, total
        )
        if t == 0:
            break
        at_features, products = matching.backward_tangent(
            pairs,
            step.theta,
            c,
            step.values.features,
            tangents.features,
            step.differences,
            moves,
            pixel_weights,
        )
        products |= network.backward_tangent(step.theta, c, step.values, step.adjoints, tangents, at_features)
        a, c = _back(a, c, products, inner)
    return total


def _ahead(theta: Vector, buffer: Tensor | None, gradients: Tensors, inner: Inner) -> tuple[Vector, Tensor | None]:
    """Returns theta_{t+1} and q_{t+1}."""
    gradient = theta.gather(gradients)
    if buffer is None or inner.momentum is None or inner.weight_decay is None:
        return theta.like(_down(theta.flat, gradient, inner.alpha)), buffer
    ahead, buffer = _momentum_down(theta.flat, gradient, buffer, inner.alpha, inner.momentum, inner.weight_decay)
    return theta.like(ahead), buffer


@pointwise
def _down(theta: Tensor, gradient: Tensor, alpha: Tensor) -> Tensor:
    return torch.addcmul(theta, gradient, -alpha)


@pointwise
def _momentum_down(
    theta: Tensor, gradient: Tensor, buffer: Tensor, alpha: Tensor, momentum: Tensor, weight_decay: Tensor
) -> tuple[Tensor, Tensor]:
    new = torch.addcmul(gradient, theta, weight_decay).addcmul_(buffer, momentum)
    return torch.addcmul(theta, new, -alpha), new


def _back(a: Tensor, c: Vector, products: Tensors, inner: Inner) -> tuple[Tensor, Vector]:
    """Returns a + kappa c + H c, and the next c: mu c minus alpha times the new a."""
    found = c.gather(products)
    if inner.momentum is None or inner.weight_decay is None:
        a, new = _back_down(a, found, inner.alpha)
    else:
        a, new = _momentum_back_down(a, found, c.flat, inner.alpha, inner.momentum, inner.weight_decay)
    return a, c.like(new)


@pointwise
def _back_down(a: Tensor, product: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    a = a + product
    return a, a * -alpha


@pointwise
def _momentum_back_down(
    a: Tensor, product: Tensor, c: Tensor, alpha: Tensor, momentum: Tensor, weight_decay: Tensor
) -> tuple[Tensor, Tensor]:
    a = torch.addcmul(a + product, c, weight_decay)
    return a, (c * momentum).addcmul_(a, -alpha)
