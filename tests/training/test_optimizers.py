"""SGD and Adam against torch.optim."""

import torch

from l2t_ray.training.optimizers import adam_, sgd_, zero_moments

LR, MOMENTUM, DECAY = 0.1, 0.5, 1e-2


def gradients(step):
    g = torch.Generator().manual_seed(step)
    return {"w": torch.randn(3, 4, generator=g, dtype=torch.float64)}


def start():
    return {"w": torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4)}


def expected(make, n_steps):
    parameter = torch.nn.Parameter(start()["w"])
    optimizer = make(parameter)
    for step in range(n_steps):
        parameter.grad = gradients(step)["w"]
        optimizer.step()
    return parameter.detach()


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


def test_sgd_equals_torch():
    theta, buffers = start(), {"w": torch.zeros(3, 4, dtype=torch.float64)}
    for step in range(5):
        sgd_(theta, buffers, gradients(step), scalar(LR), scalar(MOMENTUM), scalar(DECAY))
    theirs = expected(lambda p: torch.optim.SGD([p], LR, momentum=MOMENTUM, weight_decay=DECAY), 5)
    torch.testing.assert_close(theta["w"], theirs, rtol=1e-13, atol=1e-16)


def test_adam_equals_torch():
    phi, step_count = start(), torch.zeros((), dtype=torch.float64)
    moments = zero_moments(phi)
    for step in range(5):
        adam_(phi, moments, gradients(step), step_count, scalar(LR), scalar(DECAY))
    theirs = expected(lambda p: torch.optim.Adam([p], LR, weight_decay=DECAY), 5)
    torch.testing.assert_close(phi["w"], theirs, rtol=1e-12, atol=1e-15)


def test_a_missing_gradient_is_zero():
    theta, buffers = start(), {"w": torch.zeros(3, 4, dtype=torch.float64)}
    sgd_(theta, buffers, {}, scalar(LR), scalar(MOMENTUM), scalar(DECAY))
    torch.testing.assert_close(theta["w"], start()["w"] * (1 - LR * DECAY), rtol=1e-14, atol=0)
