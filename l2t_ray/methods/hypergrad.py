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
from l2t_ray.models.target import Adjoints, Network, Tensors, Values


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
    theta: Tensors
    values: Values
    adjoints: Adjoints
    differences: dict[int, Tensor]


def logit_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the gradient [B, N] of the mean cross-entropy at the logits, for labels [B] or shares [B, N]."""
    gradient = logits.softmax(-1)
    if labels.dim() > 1:
        return (gradient - labels).div_(len(logits))
    gradient.scatter_add_(-1, labels[..., None], -torch.ones_like(gradient[..., :1]))
    return gradient.div_(len(logits))


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
    steps: list[_Step] = []
    for t in range(n_steps):
        values = network.forward(theta, batch.images, n_levels=pairs.n_levels)
        step = _Step(theta, values, Adjoints(), matching.differences(pairs, theta, values.features, batch.targets))
        at_features, gradients = matching.backward(pairs, theta, values.features, step.differences, pixel_weights)
        kept = step.adjoints if t > 0 else None  # theta_0 needs no Hessian-vector product
        gradients |= network.backward(theta, values, at_features, adjoints=kept)
        theta, buffers = _step(theta, buffers, gradients, inner)
        steps.append(step)

    values = network.forward(theta, batch.images)
    last = _Step(theta, values, Adjoints(), {})
    no_features: list[Tensor | None] = [None] * len(values.features)
    assert values.logits is not None
    at_logits = logit_gradient(values.logits, batch.labels)
    gradients = network.backward(theta, values, no_features, at_logits, last.adjoints)
    theta, _ = _step(theta, buffers, gradients, inner)

    values = network.forward(theta, batch.images)
    assert values.logits is not None
    at_logits = logit_gradient(values.logits, batch.labels)
    a: dict[str, Tensor] = dict(network.backward(theta, values, no_features, at_logits))
    del values
    a |= {name: torch.zeros_like(tensor) for name, tensor in theta.items() if name not in a}
    c: dict[str, Tensor] | None = None
    c = _descend(c, a, inner)

    tangents = network.tangent(last.theta, c, last.values, adjoints=last.adjoints)
    assert last.values.logits is not None
    assert tangents.logits is not None
    moved = logit_tangent(last.values.logits, tangents.logits)
    products = network.backward_tangent(last.theta, c, last.values, last.adjoints, tangents, no_features, moved)
    a, c = _retreat(a, c, products, inner)
    del last, tangents

    total: dict[int, Tensor] = {}
    for t in range(n_steps - 1, -1, -1):
        step = steps.pop()
        c = _descend(c, a, inner)
        kept = step.adjoints if t > 0 else None
        tangents = network.tangent(step.theta, c, step.values, adjoints=kept, n_levels=pairs.n_levels)
        moves = matching.tangent(pairs, step.theta, c, step.values.features, tangents.features)
        for n, move in moves.items():
            total[n] = total[n].addcmul_(step.differences[n], move) if n in total else step.differences[n] * move
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
        a, c = _retreat(a, c, products, inner)
    return total


def _step(theta: Tensors, buffers: Tensors, gradients: Tensors, inner: Inner) -> tuple[dict[str, Tensor], Tensors]:
    """Returns theta_{t+1} and q_{t+1}; overwrites the gradients."""
    down = -inner.alpha
    if inner.momentum is None or inner.weight_decay is None:
        moved = {
            name: torch.addcmul(tensor, gradients[name], down) if name in gradients else tensor
            for name, tensor in theta.items()
        }
        return moved, buffers
    new_buffers = {}
    for name, tensor in theta.items():
        decay = inner.weight_decay
        buffer = gradients[name].addcmul_(tensor, decay) if name in gradients else tensor * decay
        new_buffers[name] = buffer.addcmul_(buffers[name], inner.momentum)
    ahead = {name: torch.addcmul(p, new_buffers[name], down) for name, p in theta.items()}
    return ahead, new_buffers


def _descend(c: Tensors | None, a: Tensors, inner: Inner) -> dict[str, Tensor]:
    """Returns c - alpha a."""
    down = -inner.alpha
    if c is None:
        return {name: tensor * down for name, tensor in a.items()}
    return {name: torch.addcmul(c[name], tensor, down) for name, tensor in a.items()}


def _retreat(
    a: dict[str, Tensor], c: dict[str, Tensor], products: Tensors, inner: Inner
) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """Returns a + kappa c + H c and mu c, in place."""
    for name, product in products.items():
        a[name].add_(product)
    if inner.momentum is None or inner.weight_decay is None:
        return a, None
    for name, tensor in a.items():
        tensor.addcmul_(c[name], inner.weight_decay)
        c[name].mul_(inner.momentum)
    return a, c
