"""Decoded data sets on disk: one process builds a cache, and all map it into their memory."""

import pickle
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from l2t_ray.files import alone, write_atomic

Content = dict[str, Any]  # "tensors": dict of name to tensor; other entries describe them


def load_cached(file: Path, build: Callable[[], Content]) -> Content:
    """Returns what a cache file holds; where there is none, what `build` returns, which it writes to the file.

    Processes that start at once wait for the one that builds. Where the folder is not writable, each builds its own.

    Args:
        file: the cache.
        build: makes the content: tensors, numbers, strings, and lists and dictionaries of them.

    Returns:
        The content; its tensors map the file, as private copies on write.
    """
    content = _load(file)
    if content is not None:
        return content
    with alone(file):
        content = _load(file, warn=True)
        if content is not None:
            return content
        content = build()
        whole = {**content, "crc32": _crc32(content)}
        try:
            write_atomic(file, lambda stream: torch.save(whole, stream))
        except (OSError, RuntimeError) as error:  # torch's own writer ends with the second where the first stopped it
            reason = error if isinstance(error, OSError) or error.__context__ is None else error.__context__
            print(f"{file}: no cache, the images will be decoded each time: {reason}", file=sys.stderr)
            return content
        return _load(file) or content  # mapped: the memory in which it was built is free again


def _load(file: Path, *, warn: bool = False) -> Content | None:
    if not file.exists():
        return None
    try:
        content = torch.load(file, mmap=True, weights_only=True)
        if content["crc32"] == _crc32(content):
            return dict(content)
        problem = "its checksum differs"
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        problem = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, pickle.UnpicklingError):  # torch's own message explains how to run the file
            problem = "it holds more than tensors and plain values"
    if warn:
        print(f"warning: {file}: this cache is damaged ({problem}); it is built again", file=sys.stderr)
    return None


def _crc32(content: Content) -> int:
    total = 0
    tensors: dict[str, Tensor] = content["tensors"]
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].contiguous().numpy().data, total)
    return total
