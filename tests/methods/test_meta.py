"""The meta-networks: what they start as, and what they say."""

import pytest
import torch
from torch.nn import functional as F

from l2t_ray.data.streams import stream
from l2t_ray.methods.matching import Matching
from l2t_ray.methods.meta import initial_phi, weigh

PAIRS = Matching(((0, 0), (0, 1), (1, 1)), (16, 64), (5, 6))
ALL = frozenset({"what", "where", "which"})


def test_meta_networks_start_as_method_md_section_8_says():
    phi = initial_phi(PAIRS, ALL, (8, 4), stream(0, "init.meta"))
    for m, n_channels in enumerate((16, 64)):
        weight = phi[f"where.{m}.weight"].abs().max() * n_channels**0.5  # torch.nn.Linear: uniform within 1 / sqrt(C)
        assert 0.9 < weight <= 1
        assert (phi[f"where.{m}.bias"] == 1).all()
        assert not phi[f"what.{m}.weight"].any()
        assert not phi[f"what.{m}.bias"].any()
        assert not phi[f"which.{m}.weight"].any()
        torch.testing.assert_close(F.softplus(phi[f"which.{m}.bias"]), torch.ones_like(phi[f"which.{m}.bias"]))


@pytest.mark.parametrize(("score", "lambda_"), [(-1.0, 0.0), (0.5, 0.5), (7.0, 6.0)])
def test_lambda_is_relu6(score, lambda_):
    phi = initial_phi(PAIRS, ALL - {"which"}, (8, 4), stream(0, "init.meta"))
    for m in (0, 1):
        phi[f"where.{m}.weight"].zero_()
        phi[f"where.{m}.bias"].fill_(score)
    found = weigh(PAIRS, phi, [torch.rand(3, 16, 8, 8), torch.rand(3, 64, 4, 4)]).channels
    torch.testing.assert_close(found[0], torch.full((3, 16), lambda_ / 16))  # omega is uniform
    torch.testing.assert_close(found[1], torch.tensor(lambda_) / torch.tensor([16.0] * 16 + [64.0] * 64).expand(3, -1))
