"""Pieces of the passes that torch.compile fuses: a few kernels on a card each, in the place of one an operation.

A piece is a function of tensors without autograd. Each is compiled once, for all sizes of its tensors; to compile whole
passes takes a minute or more. Compiled pieces are kept on the node's disk, where its other processes find them.
"""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")
MOST_VARIANTS = 32  # of a piece: by which arguments are None, and by memory formats; beyond, torch gives up
logger = logging.getLogger(__name__)


@dataclass
class _Process:
    """What this process compiles, and how."""

    backend: str | None = None  # of torch.compile; None: pieces are called
    compiled: dict[Callable[..., Any], Callable[..., Any]] = field(default_factory=dict)  # by piece


_process = _Process()


def allow_compiling(backend: str | None = "inductor") -> None:
    """Sets whether this process compiles the pieces.

    Args:
        backend: of torch.compile; None to call the pieces as they are.
    """
    if backend != _process.backend:
        _process.compiled.clear()
    _process.backend = backend
    torch._dynamo.config.recompile_limit = MOST_VARIANTS


def is_compiling_allowed() -> bool:
    """Whether this process compiles the pieces; False once a compiler has failed."""
    return _process.backend is not None


def fused(piece: Callable[P, R]) -> Callable[P, R]:
    """Makes a function a piece: compiled where that is allowed and works, else called.

    Where the compiler fails, all pieces are called from then on, and the log says so once.

    Args:
        piece: of tensors, numbers and None; it may change its arguments in place.

    Returns:
        A function of the same arguments.
    """

    @functools.wraps(piece)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if _process.backend is None:
            return piece(*args, **kwargs)
        if piece not in _process.compiled:
            _process.compiled[piece] = torch.compile(piece, backend=_process.backend, dynamic=True, fullgraph=True)
        compiled: Callable[P, R] = _process.compiled[piece]
        try:
            return compiled(*args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split("\n\n")[0].split())
            logger.warning("torch.compile fails, the step's kernels are not fused: %s", reason)
            allow_compiling(None)
            return piece(*args, **kwargs)

    return call
