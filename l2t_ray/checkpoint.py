"""A run's state as a durable file: checksummed, the one before kept, readable without running foreign code.

File: 8 bytes of magic, the SHA-256 of the rest (32 bytes), then what `torch.save` wrote.
"""

import hashlib
import io
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from l2t_ray.files import write_atomic

MAGIC = b"L2TCKPT1"
SHARE = 0.02  # of the training time, at most
_DIGEST_BYTES = 32

State = Mapping[str, Any]


class DamagedCheckpointError(ValueError):
    """A checkpoint file that is not what was written; the one before it, or the beginning, is used instead."""


def save_state(path: Path, state: State) -> None:
    """Writes a state by temporary file, fsync and rename; the file that was there stays as `.previous`.

    Args:
        path: the newest checkpoint's file.
        state: tensors, numbers, strings, and lists and dictionaries of them.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    body = buffer.getvalue()
    if path.exists():
        path.replace(previous(path))
    write_atomic(path, MAGIC + hashlib.sha256(body).digest() + body)


def load_file(path: Path) -> dict[str, Any]:
    """Reads one file, on the CPU, with `weights_only=True`.

    Args:
        path: a file of `save_state`.

    Returns:
        The state.

    Raises:
        DamagedCheckpointError: if the file is cut, changed, or not a checkpoint.
    """
    content = path.read_bytes()
    head, body = content[: len(MAGIC) + _DIGEST_BYTES], content[len(MAGIC) + _DIGEST_BYTES :]
    if head != MAGIC + hashlib.sha256(body).digest():
        raise DamagedCheckpointError(f"{path}: {len(content)} bytes that do not have the checksum written with them")
    try:
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise DamagedCheckpointError(f"{path}: cannot be read as tensors: {error}") from error
    if not isinstance(state, dict):
        raise DamagedCheckpointError(f"{path}: holds a {type(state).__name__}, not a state")
    return state


def load_state(path: Path) -> dict[str, Any] | None:
    """The newest whole state: the file's, or else the one's before it.

    Args:
        path: the newest checkpoint's file.

    Returns:
        The state, or None where there is no whole one.
    """
    return next(iter(_whole(path)), None)


def load_together(paths: Sequence[Path], by: str) -> list[dict[str, Any]] | None:
    """The newest states of the runs of a pack that agree in one entry.

    A pack's files are written one after another, so a kill may leave some of them one checkpoint older.

    Args:
        paths: one file a run.
        by: the entry that must agree (the epoch).

    Returns:
        One state a run, or None where there is no common one.
    """
    choices = [{state[by]: state for state in _whole(path) if by in state} for path in paths]
    common = set.intersection(*(set(choice) for choice in choices)) if choices else set()
    return [choice[max(common)] for choice in choices] if common else None


def remove_state(path: Path) -> None:
    """Removes a run's checkpoints; there may be none.

    Args:
        path: the newest checkpoint's file.
    """
    path.unlink(missing_ok=True)
    previous(path).unlink(missing_ok=True)


def previous(path: Path) -> Path:
    """Where the checkpoint before the newest lies.

    Args:
        path: the newest checkpoint's file.

    Returns:
        The path beside it.
    """
    return path.with_name(f"{path.name}.previous")


def _whole(path: Path) -> list[dict[str, Any]]:
    found = []
    for candidate in (path, previous(path)):
        try:
            found.append(load_file(candidate))
        except (OSError, DamagedCheckpointError):
            continue
    return found


class Clock:
    """When to write a checkpoint: every so many seconds, and never for more than `SHARE` of the time.

    A `with` block around the writing tells it how long that took.
    """

    def __init__(self, interval_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self.interval_s, self._now = interval_s, now
        self._last = now()
        self._pause_s = interval_s

    def is_due(self) -> bool:
        """Whether enough time has passed.

        Returns:
            True once the interval is over.
        """
        return self._now() - self._last >= self._pause_s

    def __enter__(self) -> None:
        """Starts the measurement."""
        self._begun = self._now()

    def __exit__(self, *_: object) -> None:
        """Ends it, and plans the next checkpoint."""
        self._last = self._now()
        self._pause_s = max(self.interval_s, (self._last - self._begun) / SHARE)
