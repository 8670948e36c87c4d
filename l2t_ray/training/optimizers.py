"""SGD and Adam for K runs at once, each with its own scalars; the update rules are torch.optim's."""

from collections.abc import Mapping

import torch
from torch import Tensor

from l2t_ray.models.convolutions import per_run

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


def sgd_(
    theta: dict[str, Tensor],
    buffers: dict[str, Tensor],
    gradients: Mapping[str, Tensor],
    lr: Tensor,
    momentum: Tensor,
    weight_decay: Tensor,
) -> None:
    """One step of SGD with momentum and weight decay, in place.

    Args:
        theta: parameters [K, ...].
        buffers: momentum, zero before the first step.
        gradients: by name; a missing one is zero.
        lr: [K].
        momentum: [K].
        weight_decay: [K].
    """
    down = -lr
    for name, parameter in theta.items():
        buffer = buffers[name].mul_(per_run(momentum, parameter))
        buffer.addcmul_(parameter, per_run(weight_decay, parameter))
        if name in gradients:
            buffer.add_(gradients[name])
        parameter.addcmul_(buffer, per_run(down, parameter))


def adam_(
    phi: dict[str, Tensor],
    moments: dict[str, Tensor],
    gradients: Mapping[str, Tensor],
    step: Tensor,
    lr: Tensor,
    weight_decay: Tensor,
) -> None:
    """One step of Adam with L2 weight decay (torch.optim.Adam), in place.

    Args:
        phi: parameters [K, ...].
        moments: "first.<name>" and "second.<name>", zero before the first step.
        gradients: by name.
        step: scalar tensor, the number of steps done; counted up.
        lr: [K].
        weight_decay: [K].
    """
    step.add_(1)
    first_scale, second_scale = 1 - ADAM_BETAS[0] ** step, 1 - ADAM_BETAS[1] ** step
    for name, parameter in phi.items():
        gradient = gradients[name] + per_run(weight_decay, parameter) * parameter
        first = moments[f"first.{name}"].lerp_(gradient, 1 - ADAM_BETAS[0])
        second = moments[f"second.{name}"].mul_(ADAM_BETAS[1]).addcmul_(gradient, gradient, value=1 - ADAM_BETAS[1])
        denominator = (second / second_scale).sqrt_().add_(ADAM_EPSILON)
        parameter.sub_(per_run(lr, parameter) * (first / first_scale) / denominator)


def zero_moments(phi: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns Adam's state before the first step."""
    first = {f"first.{name}": torch.zeros_like(tensor) for name, tensor in phi.items()}
    return first | {f"second.{name}": torch.zeros_like(tensor) for name, tensor in phi.items()}
