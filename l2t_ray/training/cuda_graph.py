"""Functions of tensors as one CUDA graph: their kernels are recorded once for each shape, then started by one launch.

A bilevel step has over a thousand kernels; at small batches a card waits for their launches, not for their arithmetic.
The functions of a pack's runs are branches of one graph, each on a stream of its own, so that they share the card.
"""

import gc
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from l2t_ray.training.device import is_out_of_memory

WARM_UPS = 3  # calls before a capture, in which libraries choose algorithms and allocate workspaces
Function = Callable[..., None]
Inputs = Sequence[Sequence[Tensor]]  # of each function

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[tuple[Tensor, ...], ...]


class Replay:
    """Calls functions or, on a card, replays their recorded kernels, all functions at once.

    Args:
        functions: of tensors on one device; they change `state` in place and share nothing else. To be captured they
            must not synchronise with the device, move data to it, or draw random numbers.
        state: every tensor that the functions change.
        captured: whether to capture; False without a card.
    """

    def __init__(self, functions: Sequence[Function], state: Sequence[Tensor], *, captured: bool) -> None:
        self.functions, self.captured = functions, captured
        self._state = state
        self._graphs: dict[tuple[torch.Size, ...], _Captured] = {}
        # all shapes share it: each graph starts from its inputs and the state, and needs nothing of another one
        self._memory = torch.cuda.graph_pool_handle() if captured else None

    def __call__(self, inputs: Inputs, live: Sequence[bool]) -> None:
        """Calls the functions with their inputs.

        Args:
            inputs: of every function.
            live: which functions to call; a graph replays all of them.
        """
        shapes = tuple(x.shape for own in inputs for x in own)
        if self.captured and shapes not in self._graphs:
            self._try_to_capture(shapes, inputs)
        if not self.captured:
            for function, own in itertools.compress(zip(self.functions, inputs, strict=True), live):
                function(*own)
            return
        captured = self._graphs[shapes]
        for recorded, given in zip(captured.inputs, inputs, strict=True):
            for tensor, x in zip(recorded, given, strict=True):
                tensor.copy_(x)
        captured.graph.replay()

    def _try_to_capture(self, shapes: tuple[torch.Size, ...], inputs: Inputs) -> None:
        before = [tensor.clone() for tensor in self._state]
        try:
            self._graphs[shapes] = self._capture(inputs)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            logger.warning("no CUDA graph, the steps are called one kernel at a time: %s", error)
            self.captured = False
        for tensor, kept in zip(self._state, before, strict=True):
            tensor.copy_(kept)

    def _capture(self, inputs: Inputs) -> _Captured:
        own = tuple(tuple(x.clone() for x in given) for given in inputs)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                for function, given in zip(self.functions, own, strict=True):
                    function(*given)
        torch.cuda.current_stream().wait_stream(side)
        branches = [torch.cuda.Stream() for _ in self.functions[1:]]
        graph = torch.cuda.CUDAGraph()
        gc.collect()  # an older graph that is freed during a capture would break it
        gc.disable()
        # thread_local: calls of other threads to the card must not break the capture
        try:
            with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
                trunk = torch.cuda.current_stream()
                for branch in branches:
                    branch.wait_stream(trunk)
                self.functions[0](*own[0])
                for branch, function, given in zip(branches, self.functions[1:], own[1:], strict=True):
                    with torch.cuda.stream(branch):
                        function(*given)
                    trunk.wait_stream(branch)
        finally:
            gc.enable()
        return _Captured(graph, own)
