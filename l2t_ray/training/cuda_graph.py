"""A function of tensors as a CUDA graph: its kernels are recorded once for each shape, then started by one launch.

A bilevel step has about 2,000 kernels; at small batches a card waits for their launches, not for their arithmetic.
"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

WARM_UPS = 3  # calls before a capture, in which libraries choose algorithms and allocate workspaces
Function = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Replay:
    """Calls a function or, on a card, replays its recorded kernels.

    Args:
        function: of tensors on one device, which it does not keep; it may change `state` in place. To be captured it
            must not synchronise with the device, move data to it, or draw random numbers.
        state: every tensor that the function changes.
        captured: whether to capture; False without a card.
    """

    def __init__(self, function: Function, state: Sequence[Tensor], *, captured: bool) -> None:
        self._function, self._state, self._captured = function, state, captured
        self._graphs: dict[tuple[torch.Size, ...], _Captured] = {}
        # all shapes share it: each graph starts from its inputs and the state, and needs nothing of another one
        self._memory = torch.cuda.graph_pool_handle() if captured else None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Returns the function's result; a captured one is in tensors that the next call overwrites."""
        if not self._captured:
            return self._function(*inputs)
        shapes = tuple(x.shape for x in inputs)
        if shapes not in self._graphs:
            self._graphs[shapes] = self._capture(inputs)
        captured = self._graphs[shapes]
        for own, given in zip(captured.inputs, inputs, strict=True):
            own.copy_(given)
        captured.graph.replay()
        return captured.outputs

    def _capture(self, inputs: Sequence[Tensor]) -> _Captured:
        own = tuple(x.clone() for x in inputs)
        before = [tensor.clone() for tensor in self._state]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self._function(*own)
        torch.cuda.current_stream().wait_stream(side)
        for tensor, kept in zip(self._state, before, strict=True):
            tensor.copy_(kept)
        del before
        graph = torch.cuda.CUDAGraph()
        gc.collect()  # an older graph that is freed during a capture would break it
        gc.disable()
        # thread_local: calls of other threads to the card must not break the capture
        try:
            with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
                outputs = self._function(*own)
        finally:
            gc.enable()
        return _Captured(graph, own, outputs)
