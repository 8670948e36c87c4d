"""SGD and Adam in place, with scalars on the device, as a CUDA graph needs them; the rules are torch.optim's."""

from collections.abc import Mapping

import torch
from torch import Tensor

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
        theta: parameters.
        buffers: momentum, zero before the first step.
        gradients: by name; a missing one is zero.
        lr: a scalar.
        momentum: a scalar.
        weight_decay: a scalar.
    """
    down = -lr
    for name, parameter in theta.items():
        buffer = buffers[name].mul_(momentum)
        buffer.addcmul_(parameter, weight_decay)
        if name in gradients:
            buffer.add_(gradients[name])
        parameter.addcmul_(buffer, down)


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
        phi: parameters.
        moments: "first.<name>" and "second.<name>", zero before the first step.
        gradients: by name.
        step: scalar tensor, the number of steps done; counted up.
        lr: a scalar.
        weight_decay: a scalar.
    """
    step.add_(1)
    first_scale, second_scale = 1 - ADAM_BETAS[0] ** step, 1 - ADAM_BETAS[1] ** step
    for name, parameter in phi.items():
        gradient = gradients[name] + weight_decay * parameter
        first = moments[f"first.{name}"].lerp_(gradient, 1 - ADAM_BETAS[0])
        second = moments[f"second.{name}"].mul_(ADAM_BETAS[1]).addcmul_(gradient, gradient, value=1 - ADAM_BETAS[1])
        denominator = (second / second_scale).sqrt_().add_(ADAM_EPSILON)
        parameter.sub_(lr * (first / first_scale) / denominator)


def zero_moments(phi: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns Adam's state before the first step."""
    first = {f"first.{name}": torch.zeros_like(tensor) for name, tensor in phi.items()}
    return first | {f"second.{name}": torch.zeros_like(tensor) for name, tensor in phi.items()}
