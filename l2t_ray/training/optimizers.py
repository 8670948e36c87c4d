"""SGD and Adam in place, with scalars on the device, as a CUDA graph needs them; the rules are torch.optim's."""

from torch import Tensor

from l2t_ray.models.compiling import pointwise

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


@pointwise
def sgd_(theta: Tensor, buffer: Tensor, gradient: Tensor, lr: Tensor, momentum: Tensor, weight_decay: Tensor) -> None:
    """One step of SGD with momentum and weight decay, in place.

    Args:
        theta: parameters, [n].
        buffer: momentum, [n], zero before the first step.
        gradient: [n].
        lr: a scalar.
        momentum: a scalar.
        weight_decay: a scalar.
    """
    buffer.mul_(momentum).addcmul_(theta, weight_decay).add_(gradient)
    theta.addcmul_(buffer, -lr)


def adam_(
    phi: Tensor, first: Tensor, second: Tensor, gradient: Tensor, step: Tensor, lr: Tensor, weight_decay: Tensor
) -> None:
    """One step of Adam with L2 weight decay (torch.optim.Adam), in place.

    Args:
        phi: parameters, [n].
        first: first moment, [n], zero before the first step.
        second: second moment, as first.
        gradient: [n].
        step: scalar tensor, the number of steps done; counted up.
        lr: a scalar.
        weight_decay: a scalar.
    """
    step.add_(1)  # outside of the piece: compiled by torch 2.11, a change of a float64 scalar on a CPU is lost
    _adam_(phi, first, second, gradient, step, lr, weight_decay)


@pointwise
def _adam_(
    phi: Tensor, first: Tensor, second: Tensor, gradient: Tensor, step: Tensor, lr: Tensor, weight_decay: Tensor
) -> None:
    decayed = gradient + weight_decay * phi
    first.lerp_(decayed, 1 - ADAM_BETAS[0])
    second.mul_(ADAM_BETAS[1]).addcmul_(decayed, decayed, value=1 - ADAM_BETAS[1])
    denominator = (second / (1 - ADAM_BETAS[1] ** step)).sqrt_().add_(ADAM_EPSILON)
    phi.sub_(lr * (first / (1 - ADAM_BETAS[0] ** step)) / denominator)
