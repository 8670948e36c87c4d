"""A pack against its runs alone."""

import pytest
import torch

from l2t_ray.training.learner import Learner
from tests.support.learners import CPU, N_CLASSES, batches, run, source, trained


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("inner", ["sgd", "published"])
def test_a_pack_equals_its_runs_alone(inner):
    """K = 3 with different seeds, learning rates and betas against K = 1, in float64 to 1e-9."""
    settings = [(0, 0.05, 0.5), (1, 0.02, 0.1), (2, 0.05, 1.0)]
    runs = [run("l2t_www", seed, lr, beta=beta, inner=inner) for seed, lr, beta in settings]
    pack, losses = trained(*runs)
    for k, single in enumerate(runs):
        learner = Learner([single], N_CLASSES, source(), CPU)
        lr = torch.tensor([single.training.lr], dtype=torch.float64)
        for step, (images, labels) in enumerate(batches(3, 3)):
            loss, _ = learner.step(images[:, 3 * k : 3 * k + 3], labels[k : k + 1], lr)
            assert float(loss) == pytest.approx(float(losses[step, k]), rel=1e-9)
        for group in ("theta", "phi"):
            for name, p in getattr(learner, group).items():
                torch.testing.assert_close(getattr(pack, group)[name][k], p[0], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("inner", ["sgd", "published"])
def test_a_pack_keeps_every_scalar_of_its_runs_apart(inner):
    """All of `training._SCALARS` and `_TRANSFER_SCALARS` but lr differ; h sums thousands of pixels: a small meta_lr."""
    runs = []
    for k in range(2):
        one = run(
            "l2t_ww", k, 0.02, inner=inner, beta=0.5 - 0.3 * k, meta_lr=1e-2 / (1 + 9 * k), meta_weight_decay=1e-1 * k
        )
        training = one.training.model_copy(update={"momentum": 0.9 - 0.4 * k, "weight_decay": 1e-1 * k})
        runs.append(one.model_copy(update={"training": training}))
    pack, _ = trained(*runs)
    for k, single in enumerate(runs):
        learner = Learner([single], N_CLASSES, source(), CPU)
        for images, labels in batches(3, 2):
            learner.step(images[:, 3 * k : 3 * k + 3], labels[k : k + 1], torch.tensor([0.02], dtype=torch.float64))
        for group in ("theta", "phi"):
            for name, p in getattr(learner, group).items():
                torch.testing.assert_close(getattr(pack, group)[name][k], p[0], rtol=1e-7, atol=1e-9)
