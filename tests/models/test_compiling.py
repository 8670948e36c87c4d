"""Pieces compiled: the same numbers as called, few kernels, and no harm where there is no compiler."""

import pytest
import torch

from l2t_ray.models import compiling, layer
from l2t_ray.models.compiling import allow_compiling, fused
from tests.support.hypergradients import Case, distance
from tests.support.learners import run, trained


@pytest.fixture(autouse=True)
def _called_again():
    yield
    allow_compiling(None)


@pytest.mark.parametrize("inner", ["sgd", "published"])
@torch.no_grad()
def test_steps_of_compiled_pieces_equal_called_ones(inner):
    """As torch.compile traces them, in their functional form, without the code generator."""
    called, losses = trained(run("l2t_www", inner=inner), n_steps=2)
    allow_compiling("aot_eager")
    compiled, its_losses = trained(run("l2t_www", inner=inner), n_steps=2)
    assert compiling.is_compiling_allowed()
    assert len(compiling._process.compiled) > 8
    torch.testing.assert_close(losses, its_losses, rtol=1e-12, atol=0)  # resizing is rounded otherwise
    for ours, theirs in zip(compiled.tensors(), called.tensors(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("has_more", [False, True])
def test_a_compiled_max_pools_adjoint_is_autograds(size, has_more):
    """Maps of even and odd size; of equal pixels, the first takes the gradient."""
    y = torch.randint(0, 3, (2, 3, size, size)).double().contiguous(memory_format=torch.channels_last).requires_grad_()
    result, indices = torch.ops.aten.max_pool2d_with_indices(y, [2, 2], [2, 2])
    pooled = [torch.randn_like(result) for _ in range(2)]
    more = torch.randn_like(y) if has_more else None
    (expected,) = torch.autograd.grad(result, y, pooled[0] + pooled[1])
    allow_compiling("aot_eager")
    with torch.no_grad():
        found = layer.unpool(tuple(pooled), y.detach(), indices, None if more is None else more.clone())
    assert compiling.is_compiling_allowed()
    assert torch.equal(found, expected if more is None else expected + more)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_generated_code_gives_the_hypergradient():
    """Inductor's C++ on this machine, float64; on a card it generates Triton."""
    case = Case("l2t_www", "published", "all", 2)
    expected = case.hypergradient()
    allow_compiling()
    found = case.hypergradient()
    assert compiling.is_compiling_allowed()
    assert distance(found, expected) < 1e-10


def test_where_no_compiler_works_pieces_are_called_and_it_is_told_once(caplog):
    def fail(graph, inputs):
        raise RuntimeError("no compiler here")

    double, triple = fused(lambda x: x * 2), fused(lambda x: x * 3)
    allow_compiling(fail)
    assert float(double(torch.ones(()))) == 2
    assert float(triple(torch.ones(()))) == 3
    assert not compiling.is_compiling_allowed()
    assert caplog.text.count("torch.compile fails, the step's kernels are not fused: ") == 1
    assert "no compiler here" in caplog.text
