"""Grouped operators and their gradients against autograd, on every route the kernel gradient takes."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from l2t_ray import operators


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("n_runs", "n_inputs", "size", "kernel"),
    [(1, 3, 16, 3), (1, 130, 4, 3), (3, 4, 8, 3), (2, 5, 8, 1)],
    ids=["plain", "deep: batch and channels change places", "grouped", "1x1"],
)
def test_gradients_equal_autograd(n_runs, n_inputs, size, kernel):
    x = draw(5, n_runs * n_inputs, size, size).requires_grad_()
    w = draw(n_runs, 6, n_inputs, kernel, kernel, seed=1).requires_grad_()
    g = draw(5, n_runs * 6, size, size, seed=2)
    gx, gw = torch.autograd.grad(operators.convolve(x, w), [x, w], g)
    torch.testing.assert_close(operators.convolve_transposed(g, x.detach(), w.detach()), gx, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(operators.kernel_gradient(g, x.detach(), w.detach()), gw, rtol=1e-11, atol=1e-11)


def test_whitening_is_the_projection_of_its_docstring():
    u = F.batch_norm(draw(7, 3, 4, 4), None, None, training=True)
    q = draw(7, 3, 4, 4, seed=3)
    white, products, sums = operators.whiten(q, u)
    mean = q.mean((0, 2, 3), keepdim=True)
    overlap = (q * u).mean((0, 2, 3), keepdim=True)
    torch.testing.assert_close(white, q - mean - u * overlap, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(products, (q * u).sum((0, 2, 3)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sums, q.sum((0, 2, 3)), rtol=1e-12, atol=1e-12)
