"""Small runs of the rivals, and a source for them, which more than one file of tests needs."""

import torch

from l2t_ray import registry
from l2t_ray.config import Augment, Data, Record, Run, Source, Target, Training
from l2t_ray.data.streams import stream
from l2t_ray.models import BatchNorm, build, initialise
from l2t_ray.training.learner import Learner

CPU, B, N = torch.device("cpu"), 4, 3
CLASSES = ("0", "1", "2")
WIDTH = 0.125
RIVALS = {  # name to target architecture; the source is a resnet20
    "finetune": "resnet20",
    "intermediate_finetune": "resnet20",
    "hint": "vgg9",
    "attention_transfer": "vgg9",
    "distillation": "vgg9",
    "factor_transfer": "vgg9",
    "spottune": "resnet20",
    "linear_probe": "resnet20",
    "surgical": "resnet20",
    "l2_sp": "resnet20",
    "bss": "resnet20",
    "stochnorm": "resnet20",
    "co_tuning": "resnet20",
    "delta": "resnet20",
}
SMALL_OPTIONS = {"factor_transfer": {"paraphraser_steps": 3}, "surgical": {"block": "stages.1"}}
HISTORY = ({"data": "cifar10", "classes": ["a", "b"]}, {"data": "digits", "classes": list(CLASSES)})


def source(dtype=torch.float32, classes=("2", "1", "0", "9", "8"), history=HISTORY):
    network = build("resnet20", WIDTH, len(classes))
    initialise(network, stream(9, "init"))
    for norm in [m for m in network.modules() if isinstance(m, BatchNorm)]:
        norm.running_mean.uniform_(-0.1, 0.1, generator=stream(9, "means"))
    network.classes, network.history = classes, history
    return network.to(dtype).requires_grad_(False).eval()


def run(method, seed=0, arch=None, precision="float32", epochs=2, **options):
    registry.load()
    return Run(
        data=Data(name="digits", classes=CLASSES, samples_per_class=3),
        method=method,
        seed=seed,
        source=Source(arch="resnet20", width=WIDTH),
        target=Target(arch=arch or RIVALS[method], width=WIDTH),
        training=Training(epochs=epochs, batch_size=4, lr=0.01, precision=precision),
        augment=Augment(flip=False),
        record=Record(evaluations=1),
        options=SMALL_OPTIONS.get(method, {}) | options,
    )


def learner(run, dtype=torch.float64, given=None):
    return Learner(run, N, given or source(dtype), CPU, CLASSES)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
