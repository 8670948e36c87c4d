"""Twenty epochs of each method against the oracle's: the same losses, step by step, within float noise."""

import pytest
import torch

from l2t_ray.training.learner import Learner
from tests.support.learners import N_CLASSES, batches, run, source
from tests.support.oracles import Problem

N_EPOCHS, RATE = 20, 0.02  # of one batch; at higher rates rounding grows from step to step
META_LR = {"l2t_ww": 1e-2, "l2t_www": 1e-4}  # h adds up a thousand pixels
SETTINGS = [("scratch", "sgd"), ("ufm", "sgd"), ("l2t_ww", "sgd"), ("l2t_ww", "published"), ("l2t_www", "sgd")]


def oracle(settings, learner, steps):
    """Losses before each step, by autograd and torch.optim on copies of the learner's first parameters."""
    theta = {name: p.clone().requires_grad_() for name, p in learner.theta.items()}
    phi = {name: p.clone().requires_grad_() for name, p in learner.phi.items()}
    sgd = torch.optim.SGD(theta.values(), RATE, momentum=0.9, weight_decay=1e-4)
    adam = torch.optim.Adam(phi.values(), settings.transfer.meta_lr, weight_decay=1e-4) if phi else None
    levels, losses = learner.network.levels, []
    for images, labels in steps:
        features = [s.detach() for s in learner.source.features(images)]
        pairs = learner.pairs.pairs if learner.pairs else ()
        problem = Problem(levels, pairs, learner.shapes.source_channels, images, labels, features)
        with torch.enable_grad():
            loss = problem.org(theta)
            total = loss + settings.transfer.beta * problem.wfm(theta, phi) if pairs else loss
            sgd.zero_grad()
            total.backward(inputs=list(theta.values()))
        sgd.step()
        losses.append(loss.detach())
        if adam:
            fixed = {name: p.detach().clone() for name, p in theta.items()}
            rule = {"alpha": RATE, "n_steps": 2}
            if settings.transfer.inner == "published":
                buffers = {name: sgd.state[p]["momentum_buffer"].clone() for name, p in theta.items()}
                rule |= {"buffers": buffers, "decay": 1e-4, "momentum": 0.9, "scale": settings.transfer.beta}
            with torch.enable_grad():
                found = problem.hypergradient(fixed, {name: p.detach() for name, p in phi.items()}, **rule)
            for name, p in phi.items():
                p.grad = found[name]
            adam.step()
    return torch.stack(losses)


@pytest.mark.parametrize(("method", "inner"), SETTINGS)
def test_losses_of_twenty_epochs_equal_the_oracles(method, inner):
    with torch.no_grad():
        settings = run(method, lr=RATE, inner=inner, meta_lr=META_LR.get(method, 1e-4))
        learner = Learner(settings, N_CLASSES, source(), torch.device("cpu"))
        epochs = list(batches(1)) * N_EPOCHS
        expected = oracle(settings, learner, epochs)
        lr = torch.tensor(RATE, dtype=torch.float64)
        ours = torch.stack([learner.step(*batch, lr)[0] for batch in epochs])
    assert expected[-1] < 0.7 * expected[0]  # it has learned something
    torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-9)
