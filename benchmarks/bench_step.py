"""Times the bilevel step: ours, double back-propagation, roll-back and re-computation; in units of forward + backward.

    python -m benchmarks.bench_step [--repeat 5] [--batch 50 128] [--method l2t_ww l2t_www] [--inner sgd published]

All candidates of a case are timed in turn in one process, `--repeat` times; medians and ranges are printed and
written as JSON. The unit is a plain forward + backward of VGG-9 (torch.nn, autograd, the faster memory format) in the
same turns.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F  # noqa: N812

from benchmarks.rivals import DoubleBackprop, Meta, RollBack, Vgg9
from l2t_ray import registry
from l2t_ray.config import Data, Run, Source, Transfer
from l2t_ray.learner import Learner
from l2t_ray.models import VGG9, initialise, resnet
from l2t_ray.streams import stream

N_CLASSES = 10


def candidates(method: str, inner: str, batch: int, device: torch.device) -> dict[str, Callable[[], None]]:
    """One step of each rival, by name."""
    registry.load()
    source = resnet(32, 1.0, 200)
    initialise(source, stream(0, "init"))
    source = source.to(device).requires_grad_(False).eval()
    run = Run(
        data=Data(name="cifar10", samples_per_class=10),
        method=method,
        seed=0,
        source=Source(),
        transfer=Transfer(inner=inner),
    )
    learner = Learner([run], N_CLASSES, source, device)
    x = torch.randn(batch, 3, 32, 32, device=device)
    y = torch.randint(N_CLASSES, (batch,), device=device)
    fast = x.contiguous(memory_format=torch.channels_last)
    lr = torch.full((1,), 0.1, device=device)
    assert learner.pairs is not None

    def ours() -> None:
        with torch.no_grad():
            learner.step(fast, y[None], lr)

    def rival(kind: type[DoubleBackprop] | type[RollBack]) -> Callable[[], None]:
        target = Vgg9(VGG9, N_CLASSES, learner.pairs).to(device)
        meta = Meta(learner.pairs, which=method == "l2t_www").to(device)
        made = kind(source, target, meta, learner.pairs, inner=inner, n_steps=2)
        return lambda: made.step(x, y)

    def plain(images: torch.Tensor, fmt: torch.memory_format) -> Callable[[], None]:
        network = Vgg9(VGG9, N_CLASSES, learner.pairs).to(device).to(memory_format=fmt)

        def step() -> None:
            network.zero_grad()
            F.cross_entropy(network(images)[1], y).backward()

        return step

    def source_pass() -> None:
        with torch.no_grad():
            source.features(fast)

    return {
        "forward+backward, channels-last": plain(fast, torch.channels_last),
        "forward+backward, contiguous": plain(x, torch.contiguous_format),
        "source forward": source_pass,
        "ours": ours,
        "double back-propagation": rival(DoubleBackprop),
        "roll-back and re-computation": rival(RollBack),
    }


def measure(steps: dict[str, Callable[[], None]], repeat: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each, taken in turn; the first turn warms up and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeat + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--batch", type=int, nargs="+", default=[50, 128])
    parser.add_argument("--method", nargs="+", default=["l2t_ww", "l2t_www"])
    parser.add_argument("--inner", nargs="+", default=["sgd", "published"])
    parser.add_argument("--out", type=Path, default=Path("report/bench_step.json"))
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()} CPU"
    told = f"{hardware}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{told}, median of {arguments.repeat} (range)")
    rows = []
    for batch in arguments.batch:
        for method in arguments.method:
            for inner in arguments.inner:
                seconds = measure(candidates(method, inner, batch, device), arguments.repeat, device)
                medians = {name: statistics.median(times) for name, times in seconds.items()}
                unit = min(medians[name] for name in medians if name.startswith("forward+backward"))
                print(f"\n{method}, inner {inner}, B = {batch}: the unit is {unit:.3f} s")
                for name, times in seconds.items():
                    spread, units = f"({min(times):.3f} to {max(times):.3f})", medians[name] / unit
                    print(f"  {name:<34}{medians[name]:8.3f} s  {spread}{units:8.1f} units")
                rows.append({"method": method, "inner": inner, "batch": batch, "seconds": seconds, "unit_s": unit})
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"hardware": hardware, "torch": torch.__version__, "rows": rows}, indent=1))
    print(f"\nwritten to {arguments.out}")


if __name__ == "__main__":
    main()
