"""The step on torchvision's networks, in units of one forward + backward pass of the same network by torch's autograd.

python -m benchmarks.bench_zoo --repeat 3
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from torch.nn import functional as F

from l2t_ray import registry
from l2t_ray.config import Data, Run, Source, Target, Training
from l2t_ray.data.streams import stream
from l2t_ray.models import build
from l2t_ray.registry import ZOO
from l2t_ray.training.learner import Learner

N_CLASSES = 10
COLUMNS = ("forward + backward, s", "scratch", "ufm", "l2t_ww", "l2t_ww, recompute")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--repeat", type=int, default=3, help="steps of each, after one that warms up; the median counts"
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=64, help="pixels of each side")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--source", default="resnet34", choices=ZOO)
    parser.add_argument("--target", nargs="+", default=[*ZOO], choices=ZOO)
    arguments = parser.parse_args()
    registry.load()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, B = {arguments.batch}")
    print("target: " + "; ".join(COLUMNS), flush=True)
    for arch in arguments.target:
        unit_s = seconds(plain(arch, arguments, device), arguments.repeat, device)
        found = []
        for method, recompute in (("scratch", False), ("ufm", False), ("l2t_ww", False), ("l2t_ww", True)):
            step = ours(arch, method, arguments, device, recompute=recompute)
            found.append(seconds(step, arguments.repeat, device) / unit_s)
            del step
        print(f"{arch}: {unit_s:.3f}; " + "; ".join(f"{ratio:.2f}" for ratio in found), flush=True)


def seconds(step: Callable[[], object], n_repeats: int, device: torch.device) -> float:
    """The median of some steps, after one that warms up."""
    taken = []
    for _ in range(n_repeats + 1):
        started_s = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started_s)
    return statistics.median(taken[1:])


def images_and_labels(arguments: argparse.Namespace, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(arguments.batch, 3, arguments.size, arguments.size, device=device)
    labels = torch.arange(arguments.batch, device=device) % N_CLASSES
    return images.contiguous(memory_format=torch.channels_last), labels


def plain(arch: str, arguments: argparse.Namespace, device: torch.device) -> Callable[[], object]:
    """A forward and a backward pass of torchvision's own network."""
    sized = {"image_size": arguments.size} if arch == "vit_b_16" else {}
    network = torchvision.models.get_model(arch, num_classes=N_CLASSES, **sized).to(device).train()
    network = network.to(memory_format=torch.channels_last)
    images, labels = images_and_labels(arguments, device)

    def once() -> None:
        network.zero_grad()
        F.cross_entropy(network(images), labels).backward()

    return once


def ours(
    arch: str, method: str, arguments: argparse.Namespace, device: torch.device, *, recompute: bool
) -> Callable[[], object]:
    """A learner's step; the source has random weights, with which it takes as long as with trained ones."""
    run = Run(
        data=Data.model_validate({"name": "digits", "samples_per_class": 1, "image_size": arguments.size}),
        method=method,
        seed=0,
        source=Source.model_validate({"arch": arguments.source}),
        target=Target.model_validate({"arch": arch}),
        training=Training(recompute=recompute),
    )
    source = build(arguments.source, 1.0, 1000, arguments.size)
    source.redraw(stream(0, "init"))
    learner = Learner(run, N_CLASSES, source.requires_grad_(False).eval(), device)
    images, labels = images_and_labels(arguments, device)
    lr = torch.tensor(0.01, device=device)

    def once() -> None:
        with torch.no_grad():
            learner.step(images, labels, lr)

    return once


if __name__ == "__main__":
    main()
