"""Pieces of the passes that torch.compile fuses: one to five kernels on a card each, in the place of one an operation.

A piece is a function of tensors without autograd. Those with sums over maps are compiled for every size: where sizes
are not fixed, the code generator joins no sum with what follows it. To compile whole passes takes minutes. Compiled
pieces are kept on the node's disk, where its other processes find them.
"""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import torch
from torch.utils._pytree import tree_leaves

P = ParamSpec("P")
R = TypeVar("R")
MAPS = 4  # dimensions of [B, C, H, W]
MOST_VARIANTS = 512  # of a piece: by sizes, by which arguments are None, by memory formats; beyond, torch gives up
# Numbers of a channel up to which its sum is left to one block of threads: a piece is then one kernel. Larger maps are
# summed by many blocks, in two to four further kernels. Estimated from the bytes that each reads; not measured.
ONE_BLOCK = 4096
logger = logging.getLogger(__name__)


@dataclass
class _Process:
    """What this process compiles, and how."""

    backend: str | None = None  # of torch.compile; None: pieces are called
    one_block: int = ONE_BLOCK
    # by piece, and by whether its sums are split
    compiled: dict[tuple[Callable[..., Any], bool], Callable[..., Any]] = field(default_factory=dict)


_process = _Process()


def allow_compiling(backend: str | None = "inductor", *, one_block: int = ONE_BLOCK) -> None:
    """Sets whether this process compiles the pieces.

    Args:
        backend: of torch.compile; None to call the pieces as they are.
        one_block: numbers of a channel up to which one block of threads sums them.
    """
    if (backend, one_block) != (_process.backend, _process.one_block):
        _process.compiled.clear()
    _process.backend, _process.one_block = backend, one_block
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = MOST_VARIANTS


def is_compiling_allowed() -> bool:
    """Whether this process compiles the pieces; False once a compiler has failed."""
    return _process.backend is not None


def fused(piece: Callable[P, R]) -> Callable[P, R]:
    """Makes a function a piece: compiled where that is allowed and works, else called.

    It is compiled for every size of its arguments; see `pointwise`. Where the compiler fails, all pieces are called
    from then on, and the log says so once.

    Args:
        piece: of tensors, numbers, None, and tuples of these; it may change its arguments in place.

    Returns:
        A function of the same arguments.
    """
    return _made(piece, dynamic=False)


def pointwise(piece: Callable[P, R]) -> Callable[P, R]:
    """Makes a function without sums over maps a piece that is compiled once for all sizes; see `fused`."""
    return _made(piece, dynamic=True)


def _made(piece: Callable[P, R], *, dynamic: bool) -> Callable[P, R]:
    @functools.wraps(piece)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if _process.backend is None:
            return piece(*args, **kwargs)
        splits = not dynamic and most_summed(args) > _process.one_block
        if (piece, splits) not in _process.compiled:
            options: dict[str, Any] = {"split_reductions": splits} if _process.backend == "inductor" else {}
            _process.compiled[piece, splits] = torch.compile(
                piece, backend=_process.backend, dynamic=dynamic, fullgraph=True, options=options or None
            )
        compiled: Callable[P, R] = _process.compiled[piece, splits]
        try:
            return compiled(*args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split("\n\n")[0].split())
            logger.warning("torch.compile fails, the step's kernels are not fused: %s", reason)
            allow_compiling(None)
            return piece(*args, **kwargs)

    return call


def most_summed(arguments: tuple[Any, ...]) -> int:
    """Returns the numbers of a channel in the largest of the maps [B, C, H, W] among a piece's arguments."""
    maps = [x for x in tree_leaves(arguments) if isinstance(x, torch.Tensor) and x.dim() == MAPS]
    return max((x.numel() // x.shape[1] for x in maps), default=0)
