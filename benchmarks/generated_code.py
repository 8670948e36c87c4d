"""The kernels that torch.compile generates for a card, counted on a machine without one.

    python -m benchmarks.generated_code [--method l2t_www] [--batch 50]

A step is taken on a pretended card. For every piece and size, Inductor writes its code for an H100; nothing runs it.
Prints a line for each piece, and the kernels of a whole step. It replaces parts of torch, of 2.11 to 2.14.
"""

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch._dynamo.device_interface import CudaInterface
from torch._inductor import config, scheduler
from torch._inductor.compile_fx import compile_fx
from torch._inductor.fx_passes import joint_graph
from torch._inductor.graph import GraphLowering
from torch.utils._pytree import tree_leaves
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from benchmarks.pretended import Piece, full_step, pretended_card
from l2t_ray.models.compiling import MOST_VARIANTS

H100 = SimpleNamespace(
    name="NVIDIA H100",
    major=9,
    minor=0,
    multi_processor_count=132,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    warp_size=32,
    total_memory=80 * 2**30,
    gcnArchName="",
)


class _Driver:
    """In the place of Triton's, which asks for a card."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0


class _Written(Exception):  # noqa: N818  no error: the code is there, and is not to be run
    """Carries generated code."""


def written(graph: torch.fx.GraphModule, inputs: Any) -> str:
    """Returns the code that Inductor generates for a graph and a card."""
    found: list[str] = []

    def write(lowering: GraphLowering) -> None:
        code, _ = lowering.codegen()
        found.append(getattr(code, "value", code))
        raise _Written

    there: dict[Any, dict[str, Any]] = {
        torch.cuda: {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "get_device_properties": lambda device=None: H100,
            "get_device_capability": lambda device=None: (H100.major, H100.minor),
            "get_rng_state": lambda *_: torch.zeros(1),
            "set_rng_state": lambda *_: None,
            "_lazy_init": lambda: None,
            "_exchange_device": lambda device: 0,
            "_maybe_exchange_device": lambda device: 0,
        },
        CudaInterface: {
            "is_available": staticmethod(lambda: True),
            "device_count": staticmethod(lambda: 1),
            "current_device": staticmethod(lambda: 0),
            "get_device_properties": staticmethod(lambda device=None: H100),
        },
        CudaInterface.Worker: {"get_device_properties": staticmethod(lambda device=None: H100)},
        scheduler: {"has_triton": lambda *_: True},
        joint_graph: {"lazy_init": lambda *_: None},  # patterns of attention, which it tries on the card
        driver: {"_active": _Driver()},
        GraphLowering: {"compile_to_module": write},
    }
    with ExitStack() as stack:
        for owner, replaced in there.items():
            for name, replacement in replaced.items():
                stack.enter_context(patch.object(owner, name, replacement))
        try:
            compile_fx(graph, inputs)
        except Exception:  # torch wraps ours
            if not found:
                raise
    return found[0]


def n_kernels(code: str) -> int:
    """Counts the launches in generated code."""
    calls = code[code.index("def call") :]
    return len(re.findall(r"\.run\(|extern_kernels\.\w+\(|torch\.ops\.[\w.]+\(|\.zero_\(", calls))


def kernels_of(pieces: Iterable[Piece]) -> Iterator[int]:
    """Yields the kernels of each piece's code for the sizes of its arguments."""
    latest = 0

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        count = n_kernels(written(graph, inputs))

        def run(*arguments: Any) -> Any:
            nonlocal latest
            latest = count
            return graph.forward(*arguments)

        return run

    compiled: dict[Any, Callable[..., Any]] = {}
    torch._dynamo.reset()
    for piece in pieces:
        key = piece.function, piece.splits
        if key not in compiled:
            compiled[key] = torch.compile(piece.function, backend=backend, dynamic=piece.is_dynamic, fullgraph=True)
        with config.patch(split_reductions=piece.splits):
            compiled[key](*piece.arguments, **piece.settings)
        yield latest


@contextmanager
def without_caches() -> Iterator[None]:
    """Has torch generate code anew, without what it would try on a card."""
    settings = config.patch(fx_graph_cache=False, joint_graph_constant_folding=False)
    limits = torch._dynamo.config.patch(recompile_limit=MOST_VARIANTS, accumulated_recompile_limit=MOST_VARIANTS)
    with settings, limits:
        yield


def largest(piece: Piece) -> str:
    """Returns the shape of a piece's largest argument."""
    return str(
        max((x.shape for x in tree_leaves(piece.arguments) if isinstance(x, torch.Tensor)), key=torch.Size.numel)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="l2t_www")
    parser.add_argument("--batch", type=int, default=50)
    arguments = parser.parse_args()
    total = Counter[str]()
    with without_caches(), pretended_card():
        seen = full_step(arguments.method, arguments.batch, compiled=True)
        for piece, count in zip(seen.pieces.values(), kernels_of(seen.pieces.values()), strict=True):
            name = piece.function.__name__
            total[name] += count * piece.n_calls
            print(f"{name:<20}{largest(piece):<36}{count:3} kernels, called {piece.n_calls} times", flush=True)
    print(", ".join(f"{name} {count}" for name, count in total.most_common()))
    print(f"{arguments.method}, B = {arguments.batch}: {total.total()} kernels of pieces, {seen.n_outside} others")


if __name__ == "__main__":
    main()
