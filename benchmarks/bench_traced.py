"""Targets without hand-written passes: K runs at once by vmap against one after another, in seconds on this machine.

python -m benchmarks.bench_traced --repeat 3
"""

import argparse
import time
from collections.abc import Callable

import torch

from l2t_ray.config import Target
from l2t_ray.models import build_target, traced
from l2t_ray.models.target import Adjoints

CASES = (("resnet20", 1.0), ("resnet20", 0.25), ("vit", 0.5))
N_CLASSES = 10
WAYS = {"vmap": 10**9, "loop": 0}  # value of traced.NARROW: runs are taken at once up to so many channels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="turns of each way; the best one counts")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pack", type=int, default=4, help="runs in a pack, K")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("network, width, pass: seconds by vmap, by a loop, ratio")
    for arch, width in CASES:
        for name, work in passes(arch, width, arguments.pack, arguments.batch).items():
            best = dict.fromkeys(WAYS, float("inf"))
            for turn in range(arguments.repeat + 1):
                for way, traced.NARROW in WAYS.items():
                    started_s = time.perf_counter()
                    work()
                    if turn > 0:  # the first one warms up
                        best[way] = min(best[way], time.perf_counter() - started_s)
            seconds = ", ".join(f"{best[way]:.3f}" for way in WAYS)
            print(f"{arch}, {width:g}, {name}: {seconds}, {best['loop'] / best['vmap']:.2f}", flush=True)


@torch.no_grad()
def passes(arch: str, width: float, n_runs: int, batch: int) -> dict[str, Callable[[], object]]:
    network = build_target(Target(arch=arch, width=width), N_CLASSES)
    g = torch.Generator().manual_seed(0)
    drawn = [network.initial_theta(g) for _ in range(n_runs)]
    theta = {name: torch.stack([each[name] for each in drawn]) for name in drawn[0]}
    direction = {name: torch.randn(p.shape, generator=g) for name, p in theta.items()}
    images = torch.randn(batch, 3 * n_runs, 32, 32, generator=g).contiguous(memory_format=torch.channels_last)
    none = [None] * len(network.feature_sizes)
    at_logits = torch.ones(n_runs, batch, N_CLASSES)

    def gradient() -> object:
        return network.backward(theta, network.forward(theta, images), none, at_logits)

    def product() -> object:
        values, adjoints = network.forward(theta, images), Adjoints()
        network.backward(theta, values, none, at_logits, adjoints)
        tangents = network.tangent(theta, direction, values, adjoints=adjoints)
        moved = tangents.logits
        return network.backward_tangent(theta, direction, values, adjoints, tangents, none, moved)

    return {"gradient": torch.no_grad()(gradient), "gradient and Hessian-vector product": torch.no_grad()(product)}


if __name__ == "__main__":
    main()
