"""3 x 3 convolutions of small maps on this CPU: torch's own against our matrix products without the padding, in ms.

    python -m benchmarks.bench_small_maps [--batch 128] [--threads 2] [--repeat 15]

`l2t_ray.models.small_convolutions.suit` decides which of the two a training uses.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from l2t_ray.models import small_convolutions
from l2t_ray.training.device import keep_freed_memory

CASES = ((2, 64, 64), (2, 128, 128), (2, 512, 512), (4, 256, 512), (4, 512, 512), (8, 256, 256))
Pass = Callable[[], Tensor]


def passes(size: int, n_inputs: int, n_outputs: int, batch: int) -> dict[str, tuple[Pass, Pass]]:
    """For each pass by name: torch's function and ours."""
    x = torch.randn(batch, n_inputs, size, size).contiguous(memory_format=torch.channels_last)
    g = torch.randn(batch, n_outputs, size, size).contiguous(memory_format=torch.channels_last)
    w = torch.randn(n_outputs, n_inputs, 3, 3)

    def backward(*, at_kernel: bool) -> Tensor:
        wanted = [not at_kernel, at_kernel, False]
        found: list[Tensor] = torch.ops.aten.convolution_backward(
            g, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, wanted
        )
        return found[at_kernel]

    return {
        "forward": (lambda: torch.conv2d(x, w, padding=1), lambda: small_convolutions.convolve(x, w)),
        "at the input": (lambda: backward(at_kernel=False), lambda: small_convolutions.at_input(g, w)),
        "at the kernel": (lambda: backward(at_kernel=True), lambda: small_convolutions.at_kernel(g, x)),
    }


def milliseconds(work: Pass, repeat: int) -> float:
    """The median time of `repeat` calls, after one that warms up."""
    found = []
    for _ in range(repeat + 1):
        started_s = time.perf_counter()
        work()
        found.append(1000 * (time.perf_counter() - started_s))
    return statistics.median(found[1:])


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    machine = f"{torch.backends.cpu.get_cpu_capability()}, {arguments.threads} threads, torch {torch.__version__}"
    print(f"{machine}, B = {arguments.batch}, median of {arguments.repeat}")
    print("| maps, channels | pass | library | products | ratio |\n| --- | --- | --- | --- | --- |")
    for size, n_inputs, n_outputs in CASES:
        for name, (library, ours) in passes(size, n_inputs, n_outputs, arguments.batch).items():
            one, other = milliseconds(library, arguments.repeat), milliseconds(ours, arguments.repeat)
            case = f"{size} x {size}, {n_inputs} to {n_outputs} | {name}"
            print(f"| {case} | {one:.2f} | {other:.2f} | {one / other:.2f} |", flush=True)


if __name__ == "__main__":
    main()
