"""The gradients of a scaled convolution and their tangents, on either side of the choice of what to scale."""

import pytest
import torch
from torch.nn import functional as F

from l2t_ray.models import convolutions, layer

B, N_IN, N_OUT = 3, 4, 5
SIDES = pytest.mark.parametrize(("size", "scales_maps"), [(2, True), (12, False)])


def case(size):
    torch.manual_seed(0)
    maps = [(B, N_OUT, size, size), (B, N_IN, size, size)]
    shapes = {"a": maps[0], "s": (N_OUT,), "x": maps[1], "w": (N_OUT, N_IN, 3, 3)}
    values = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
    return values, {name: torch.randn_like(tensor) for name, tensor in values.items()}


def by_autograd(a, s, x, w):
    """At the kernel and at the input, from the convolution itself."""

    def output(x, w):
        return (F.conv2d(x, w, padding=1) * (a * s.view(1, -1, 1, 1))).sum()

    at_input, at_kernel = torch.func.grad(output, (0, 1))(x, w)
    return at_kernel, at_input


def scaled(values):
    wanted = convolutions.scales_maps(values["a"], values["w"])
    return values["a"] * layer.channels(values["s"]) if wanted else None


@SIDES
def test_gradients_are_autograds(size, scales_maps):
    values, _ = case(size)
    assert convolutions.scales_maps(values["a"], values["w"]) is scales_maps
    at_kernel, raw, at_input = convolutions.gradients(**values, scaled=scaled(values), dtype=None, at_input=True)
    expected = by_autograd(**values)
    assert (raw is None) is scales_maps
    torch.testing.assert_close(at_kernel, expected[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(at_input, expected[1], rtol=1e-12, atol=1e-12)


@SIDES
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
@pytest.mark.parametrize("are_images", [False, True])
def test_tangents_are_those_of_the_gradients(size, scales_maps, are_images):
    values, moves = case(size)
    if are_images:
        moves["x"].zero_()
    _, expected = torch.func.jvp(by_autograd, tuple(values.values()), tuple(moves.values()))
    a, s, x, w = values.values()
    da, ds, dx, dw = moves.values()
    scaled_a = scaled(values)
    _, raw, _ = convolutions.gradients(a, s, scaled_a, x, w, None, at_input=False)
    both = da * layer.channels(s) + a * layer.channels(ds) if scales_maps else None
    moved = layer.AdjointTangent(da, s, s, ds, scaled_a, both)  # what belongs to the batch norm is not read
    found = convolutions.gradient_tangents(a, s, moved, x, None if are_images else dx, w, dw, raw, None)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-12, atol=1e-12)
    if are_images:
        assert found[1] == ()
    else:
        torch.testing.assert_close(sum(found[1]), expected[1], rtol=1e-12, atol=1e-12)
