"""SGD and Adam per run against torch.optim."""

import torch

from l2t_ray.training.optimizers import adam_, sgd_, zero_moments

LRS, DECAYS = [0.1, 0.02], [1e-2, 1e-3]


def gradients(step):
    g = torch.Generator().manual_seed(step)
    return {"w": torch.randn(2, 3, 4, generator=g, dtype=torch.float64)}


def start():
    return {"w": torch.linspace(-1, 1, 24, dtype=torch.float64).view(2, 3, 4)}


def expected(make, n_steps):
    finals = []
    for run in range(2):
        parameter = torch.nn.Parameter(start()["w"][run].clone())
        optimizer = make(parameter, run)
        for step in range(n_steps):
            parameter.grad = gradients(step)["w"][run]
            optimizer.step()
        finals.append(parameter.detach())
    return torch.stack(finals)


def scalars(values):
    return torch.tensor(values, dtype=torch.float64)


def test_sgd_equals_torch_with_scalars_of_each_run():
    theta, buffers = start(), {"w": torch.zeros(2, 3, 4, dtype=torch.float64)}
    for step in range(5):
        sgd_(theta, buffers, gradients(step), scalars(LRS), scalars([0.9, 0.5]), scalars(DECAYS))

    def make(parameter, run):
        return torch.optim.SGD([parameter], LRS[run], momentum=[0.9, 0.5][run], weight_decay=DECAYS[run])

    torch.testing.assert_close(theta["w"], expected(make, 5), rtol=1e-13, atol=0)


def test_adam_equals_torch_with_scalars_of_each_run():
    phi, step_count = start(), torch.zeros((), dtype=torch.float64)
    moments = zero_moments(phi)
    for step in range(5):
        adam_(phi, moments, gradients(step), step_count, scalars(LRS), scalars(DECAYS))

    def make(parameter, run):
        return torch.optim.Adam([parameter], LRS[run], weight_decay=DECAYS[run])

    torch.testing.assert_close(phi["w"], expected(make, 5), rtol=1e-12, atol=0)


def test_a_missing_gradient_is_zero():
    theta, buffers = start(), {"w": torch.zeros(2, 3, 4, dtype=torch.float64)}
    sgd_(theta, buffers, {}, scalars(LRS), scalars([0.9, 0.9]), scalars([0.0, 0.5]))
    assert torch.equal(theta["w"][0], start()["w"][0])
    torch.testing.assert_close(theta["w"][1], start()["w"][1] * (1 - 0.02 * 0.5), rtol=1e-14, atol=0)
