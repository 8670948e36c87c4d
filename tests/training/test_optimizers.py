"""SGD and Adam against torch.optim."""

import torch

from l2t_ray.training.optimizers import adam_, sgd_

LR, MOMENTUM, DECAY = 0.1, 0.5, 1e-2


def gradient(step):
    g = torch.Generator().manual_seed(step)
    return torch.randn(12, generator=g, dtype=torch.float64)


def start():
    return torch.linspace(-1, 1, 12, dtype=torch.float64)


def expected(make, n_steps):
    parameter = torch.nn.Parameter(start())
    optimizer = make(parameter)
    for step in range(n_steps):
        parameter.grad = gradient(step)
        optimizer.step()
    return parameter.detach()


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


def test_sgd_equals_torch():
    theta, buffer = start(), torch.zeros_like(start())
    for step in range(5):
        sgd_(theta, buffer, gradient(step), scalar(LR), scalar(MOMENTUM), scalar(DECAY))
    theirs = expected(lambda p: torch.optim.SGD([p], LR, momentum=MOMENTUM, weight_decay=DECAY), 5)
    torch.testing.assert_close(theta, theirs, rtol=1e-13, atol=1e-16)


def test_adam_equals_torch():
    phi, step_count = start(), torch.zeros((), dtype=torch.float64)
    first, second = torch.zeros_like(phi), torch.zeros_like(phi)
    for step in range(5):
        adam_(phi, first, second, gradient(step), step_count, scalar(LR), scalar(DECAY))
    theirs = expected(lambda p: torch.optim.Adam([p], LR, weight_decay=DECAY), 5)
    torch.testing.assert_close(phi, theirs, rtol=1e-12, atol=1e-15)


def test_without_a_gradient_weights_decay():
    theta, buffer = start(), torch.zeros_like(start())
    sgd_(theta, buffer, torch.zeros_like(theta), scalar(LR), scalar(MOMENTUM), scalar(DECAY))
    torch.testing.assert_close(theta, start() * (1 - LR * DECAY), rtol=1e-14, atol=0)
