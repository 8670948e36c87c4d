"""Operators and their gradients against autograd, on every route the kernel gradient takes."""

import pytest
import torch
from torch.nn import functional as F

from l2t_ray.models import convolutions, small_convolutions


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("n_inputs", "size", "kernel"),
    [(3, 16, 3), (130, 4, 3), (5, 8, 1)],
    ids=["plain", "deep: batch and channels change places", "1x1"],
)
def test_gradients_equal_autograd(n_inputs, size, kernel):
    x = draw(5, n_inputs, size, size).requires_grad_()
    w = draw(6, n_inputs, kernel, kernel, seed=1).requires_grad_()
    g = draw(5, 6, size, size, seed=2)
    gx, gw = torch.autograd.grad(convolutions.convolve(x, w), [x, w], g)
    torch.testing.assert_close(convolutions.convolve_transposed(g, x.detach(), w.detach()), gx, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(convolutions.kernel_gradient(g, x.detach(), w.detach()), gw, rtol=1e-11, atol=1e-11)


def test_whitening_is_the_projection_of_its_docstring():
    u = F.batch_norm(draw(7, 3, 4, 4), None, None, training=True)
    q = draw(7, 3, 4, 4, seed=3)
    white, products, sums = convolutions.whiten(q, u)
    mean = q.mean((0, 2, 3), keepdim=True)
    overlap = (q * u).mean((0, 2, 3), keepdim=True)
    torch.testing.assert_close(white, q - mean - u * overlap, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(products, (q * u).sum((0, 2, 3)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sums, q.sum((0, 2, 3)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("n_inputs", "n_outputs", "size"), [(130, 128, 2), (3, 5, 2), (256, 257, 4), (3, 2, 4), (2, 3, 7)]
)
def test_small_maps_are_convolved_without_their_padding(n_inputs, n_outputs, size):
    x = draw(5, n_inputs, size, size).contiguous(memory_format=torch.channels_last).requires_grad_()
    w = draw(n_outputs, n_inputs, 3, 3, seed=1).requires_grad_()
    g = draw(5, n_outputs, size, size, seed=2)
    y = F.conv2d(x, w, padding=1)
    gx, gw = torch.autograd.grad(y, [x, w], g)
    with torch.no_grad():
        found = small_convolutions.convolve(x, w), small_convolutions.at_input(g, w), small_convolutions.at_kernel(g, x)
    for ours, theirs in zip(found, (y, gx, gw), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    assert found[2].is_contiguous()


def test_small_maps_give_the_same_bits_wherever_their_numbers_lie():
    """An interrupted run ends with the same bits in another process, whose memory is laid out otherwise."""

    def passes(n_floats_before):
        kept = [torch.empty(n_floats_before + 1) for _ in range(3)]
        x = draw(9, 256, 4, 4).float().contiguous(memory_format=torch.channels_last)
        g, w = draw(9, 256, 4, 4, seed=1).float(), draw(256, 256, 3, 3, seed=2).float()
        with torch.no_grad():
            return kept and (
                small_convolutions.convolve(x, w),
                small_convolutions.at_input(g, w),
                small_convolutions.at_kernel(g, x),
            )

    first = passes(0)
    for n_floats_before in (1, 17, 1000, 100_003):
        assert all(map(torch.equal, first, passes(n_floats_before)))


def test_the_operators_take_the_way_of_small_maps_where_it_is_the_faster_one(monkeypatch):
    used = []
    for name in ("convolve", "at_input", "at_kernel"):
        monkeypatch.setattr(small_convolutions, name, lambda *_, name=name: used.append(name))
    for size, n_channels in ((2, 128), (4, 256), (2, 64), (4, 128), (8, 512)):
        x, w = torch.ones(2, n_channels, size, size), torch.ones(n_channels, n_channels, 3, 3)
        convolutions.convolve(x, w)
        convolutions.convolve_transposed(x, x, w)
        convolutions.kernel_gradient(x, x, w)
        convolutions.convolve(x, w, torch.bfloat16)
    assert used == ["convolve", "at_input", "at_kernel", "at_kernel"]
    assert not small_convolutions.suit(
        torch.ones(2, 128, 2, 2), torch.ones(128, 128, 1, 1), None, small_convolutions.ALL
    )
