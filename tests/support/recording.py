"""A CUDA graph pretended on the CPU: records every operation with its tensors, and runs them again on the same memory.

As on a card, a replay reads its inputs where they lay and writes its results where the recording had written them; the
Python code between the operations is not run again. So what a step computes on the host, keeps in a new tensor, or
takes from memory that is gone afterwards, goes wrong here as it would there.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class _Operation:
    call: Any
    arguments: tuple[Any, ...]
    settings: dict[str, Any]
    results: tuple[tuple[int, Tensor], ...]  # what it made, by position; empty where it writes into its arguments


class Recording(TorchDispatchMode):
    """In the place of `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        super().__init__()
        self.n_replays = 0
        self.operations: list[_Operation] = []
        self._own: set[StorageWeakRef] = set()
        self.foreign: set[StorageWeakRef] = set()
        self.n_operations = 0
        self._before: dict[StorageWeakRef, tuple[UntypedStorage, UntypedStorage]] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), settings: Any = None) -> Any:
        settings, self.n_operations = settings or {}, self.n_operations + 1
        tensors = [x for x in tree_leaves((arguments, settings)) if _has_memory(x)]
        given = {_storage(x): x.untyped_storage() for x in tensors}
        for key in given.keys() - self._own - self._before.keys():  # batch norm's schema hides that it writes
            self._before[key] = given[key], given[key].clone()
        found = operation(*arguments, **settings)
        made = tuple((i, x) for i, x in enumerate(tree_leaves(found)) if _has_memory(x) and _storage(x) not in given)
        self.foreign |= given.keys() - self._own
        self._own |= {_storage(x) for _, x in made}
        if made or operation._schema.is_mutable:  # what is left are views: they have no kernel
            self.operations.append(_Operation(operation, arguments, settings, made))
        return found

    def __exit__(self, *failure: Any) -> None:
        """A capture runs nothing on a card: what has been changed gets its values back."""
        super().__exit__(*failure)
        for storage, before in self._before.values():
            storage.copy_(before)
        self._before.clear()

    @torch.no_grad()
    def replay(self) -> None:
        self.n_replays += 1
        for operation in self.operations:
            found = tree_leaves(operation.call(*operation.arguments, **operation.settings))
            for position, result in operation.results:
                result.copy_(found[position])


class Footprint(Recording):
    """Keeps no tensor: what has no other owner is lost, and a replay would read memory that is someone else's."""

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), settings: Any = None) -> Any:
        found = super().__torch_dispatch__(operation, types, arguments, settings)
        self.operations.clear()
        return found

    def lost(self) -> int:
        return sum(storage.expired() for storage in self.foreign)


def _has_memory(x: Any) -> bool:
    return isinstance(x, Tensor) and not x._is_zerotensor()


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


@contextmanager
def pretended_graphs(monkeypatch: Any) -> Iterator[list[Recording]]:
    """Lets `Replay` capture on the CPU; gives what it has recorded."""
    made: list[Recording] = []

    def new() -> Recording:
        made.append(Recording())
        return made[-1]

    stream = SimpleNamespace(wait_stream=lambda other: None)
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "Stream", lambda: stream)
        patched.setattr(torch.cuda, "current_stream", lambda: stream)
        patched.setattr(torch.cuda, "stream", lambda given: nullcontext())
        patched.setattr(torch.cuda, "CUDAGraph", new)
        patched.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
        patched.setattr(torch.cuda, "graph", lambda graph, pool, capture_error_mode: graph)
        yield made
