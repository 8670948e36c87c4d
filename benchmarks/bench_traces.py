"""What traces cost: reading everything that can be traced once, against the one step that an epoch has at least.

    python -m benchmarks.bench_traces [--repeat 5] [--images 50] [--method l2t_www]

Prints a line for each kind of trace, and one for all together. An epoch of more images has more steps but still reads
its traces once, so the printed share is the most that traces can cost.
"""

import argparse
import copy
import functools
import statistics
import time
from collections.abc import Callable

import torch

from l2t_ray import registry
from l2t_ray.config import Data, Run, Source, Trace
from l2t_ray.data.place import Images
from l2t_ray.data.streams import stream
from l2t_ray.models import ResNet, initialise
from l2t_ray.training.learner import Learner
from l2t_ray.training.traces import Tracer

N_CLASSES, BATCH = 10, 128
KINDS: dict[str, dict[str, object]] = {
    "weights": {"weights": ("conv.0.weight", "conv.3.weight", "conv.7.weight", "fc.weight")},
    "lambda": {"lambda": True},
    "omega": {"omega": True},
    "gamma": {"gamma": ("0-0", "1-2", "2-4")},
}


def traced(learner: Learner, trace: Trace) -> Learner:
    """The same learner, whose run asks for a trace."""
    other = copy.copy(learner)
    other.run = learner.run.model_copy(update={"trace": trace})
    return other


def main() -> None:
    """Times traces and steps in turn, so that other work on this machine slows both alike."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--images", type=int, default=50, help="of the training set")
    parser.add_argument("--method", default="l2t_www")
    arguments = parser.parse_args()
    registry.load()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source = ResNet(32, 1.0, 200)
    initialise(source, stream(0, "init"))
    source = source.to(device).requires_grad_(False).eval()
    everything = {name: value for kind in KINDS.values() for name, value in kind.items()}
    run = Run(data=Data(name="cifar10", samples_per_class=1), method=arguments.method, seed=0, source=Source())
    learner = Learner(run, N_CLASSES, source, device)
    images = torch.randint(256, (arguments.images, 3, 32, 32), dtype=torch.uint8, device=device)
    x = torch.randn(min(BATCH, arguments.images), 3, 32, 32, device=device).contiguous(
        memory_format=torch.channels_last
    )
    y = torch.randint(N_CLASSES, (len(x),), device=device)
    lr = torch.tensor(0.01, device=device)
    taken = Images(images, None, device)
    looks: dict[str, list[float]] = {name: [] for name in (*KINDS, "all")}
    steps: list[float] = []
    with torch.no_grad():
        tracers = {name: Tracer(traced(learner, Trace(**KINDS.get(name, everything))), taken) for name in looks}
        for _ in range(arguments.repeat + 1):  # the first turn warms up
            steps.append(_timed(lambda: learner.step(x, y, lr), device))
            for name, tracer in tracers.items():
                looks[name].append(_timed(functools.partial(tracer.look, 1), device))
    n_steps = -(-arguments.images // BATCH)
    step_s = statistics.median(steps[1:])
    print(f"{device}, {arguments.method}, {arguments.images} images: {n_steps} step(s) of {step_s:.3f} s an epoch")
    for name, found in looks.items():
        look_s = statistics.median(found[1:])
        print(f"{name}: {1000 * look_s:.2f} ms a look, {100 * look_s / (n_steps * step_s):.2f} % of the epoch's steps")


def _timed(action: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
