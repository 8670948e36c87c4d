"""Learners of small runs on a drawn source and drawn batches, in float64."""

import torch

from l2t_ray import registry
from l2t_ray.config import Augment, Data, Record, Run, Source, Target, Training, Transfer
from l2t_ray.data.streams import stream
from l2t_ray.models import ResNet, initialise
from l2t_ray.training.learner import Learner

N_CLASSES, B, CPU = 3, 8, torch.device("cpu")


def source():
    network = ResNet(20, 0.25, 5).double()
    initialise(network, stream(9, "init"))
    return network.requires_grad_(False).eval()


def run(method, seed=0, lr=0.05, **transfer):
    registry.load()
    return Run(
        data=Data(name="digits", samples_per_class=4),
        method=method,
        seed=seed,
        source=Source(arch="resnet20", width=0.25),
        target=Target(width=0.1),
        training=Training(epochs=2, batch_size=B, lr=lr, precision="float64"),
        augment=Augment(flip=False),
        transfer=Transfer(**transfer),
        record=Record(evaluations=0),
    )


def batches(n_steps):
    g = torch.Generator().manual_seed(5)
    for _ in range(n_steps):
        images = torch.randn(B, 3, 32, 32, generator=g, dtype=torch.float64)
        yield images.contiguous(memory_format=torch.channels_last), torch.randint(N_CLASSES, (B,), generator=g)


def trained(run, n_steps=3, change=None):
    learner = Learner(run, N_CLASSES, source(), CPU)
    if change:
        change(learner)
    lr = torch.tensor(run.training.lr, dtype=torch.float64)
    losses = [learner.step(*batch, lr)[0] for batch in batches(n_steps)]
    return learner, torch.stack(losses)


def network_of(learner):
    return torch.cat([p.flatten() for name, p in learner.theta.items() if not name.startswith("project")])
