"""A run's state as a durable file, with a checksum and the file before it kept; reading it runs no foreign code.

File: 8 bytes of magic, the SHA-256 of the rest (32 bytes), then what `torch.save` wrote, or other bytes.
"""

import contextlib
import hashlib
import io
import pickle
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from l2t_ray.training.storage import File, keep_as, write_whole

MAGIC = b"L2TCKPT1"
SHARE = 0.02  # most of the training time that checkpoints may take
READ_TRIES, READ_PAUSE_S = 3, 2.0  # for a store that does not answer
_DIGEST_BYTES = 32

State = Mapping[str, Any]
Content = TypeVar("Content")


class DamagedCheckpointError(ValueError):
    """A checkpoint file differs from what was written; the one before it, or the beginning, is used instead."""


def save_state(path: File, state: State) -> None:
    """Writes a state whole or not at all, and durably; the old file becomes `.previous`.

    Args:
        path: the newest checkpoint's file.
        state: tensors, numbers, strings, and lists and dictionaries of them.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    save_bytes(path, buffer.getvalue())


def save_bytes(path: File, body: bytes) -> None:
    """Writes bytes as `save_state` does a state."""
    with contextlib.suppress(FileNotFoundError):
        keep_as(path, previous(path).name)
    write_whole(path, MAGIC + hashlib.sha256(body).digest() + body)


def load_file(path: File) -> dict[str, Any]:
    """Reads one file, on the CPU, with `weights_only=True`.

    Args:
        path: a file of `save_state`.

    Returns:
        The state.

    Raises:
        DamagedCheckpointError: if the file is cut, changed, or not a checkpoint.
    """
    import torch

    body = _unsealed(path)
    try:
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise DamagedCheckpointError(f"{path}: cannot be read as tensors: {error}") from error
    if not isinstance(state, dict):
        raise DamagedCheckpointError(f"{path}: holds a {type(state).__name__}, not a state")
    return state


def load_bytes(path: File) -> bytes | None:
    """Returns the newest whole bytes of `save_bytes`, of the file or of the one before it; None where none is whole."""
    return next(iter(_whole(path, _unsealed)), None)


def _unsealed(path: File) -> bytes:
    content = path.read_bytes()
    head, body = content[: len(MAGIC) + _DIGEST_BYTES], content[len(MAGIC) + _DIGEST_BYTES :]
    if head != MAGIC + hashlib.sha256(body).digest():
        raise DamagedCheckpointError(f"{path}: {len(content)} bytes that do not have the checksum written with them")
    return body


def load_state(path: File) -> dict[str, Any] | None:
    """Returns the newest whole state, of the file or of the one before it; None where neither is whole."""
    return next(iter(_whole(path, load_file)), None)


def load_groups(
    paths: Sequence[File], by: str, fits: Callable[[int, State], bool] = lambda *_: True
) -> list[tuple[list[int], list[dict[str, Any]] | None]]:
    """Returns the newest states of the runs of a pack, in groups that agree in one entry.

    A pack's files are written one after another, so a kill may leave some of them one checkpoint older; and a pack may
    be put together of runs that were in several.

    Args:
        paths: one file for each run.
        by: the entry that must agree (the epoch).
        fits: whether a run, by its place, may go on from a state.

    Returns:
        Groups, as few as possible: the places of their runs, and one state a run, or None for runs without one.
    """
    choices = [
        {state[by]: state for state in _whole(path, load_file) if by in state and fits(place, state)}
        for place, path in enumerate(paths)
    ]
    left, groups = {place for place, choice in enumerate(choices) if choice}, []
    while left:
        counts = Counter(value for place in left for value in choices[place])
        best = max(counts, key=lambda value: (counts[value], value))
        chosen = sorted(place for place in left if best in choices[place])
        groups.append((chosen, [choices[place][best] for place in chosen]))
        left -= {*chosen}
    fresh = [place for place, choice in enumerate(choices) if not choice]
    return [*groups, *([(fresh, None)] if fresh else [])]


def remove_state(path: File) -> None:
    """Removes a run's checkpoints; they may be missing."""
    path.unlink(missing_ok=True)
    previous(path).unlink(missing_ok=True)


def previous(path: File) -> File:
    """Returns the path of the checkpoint before the newest."""
    return path.with_name(f"{path.name}.previous")


def _whole(path: File, load: Callable[[File], Content]) -> list[Content]:
    states = []
    for candidate in (path, previous(path)):
        with contextlib.suppress(FileNotFoundError, DamagedCheckpointError):
            states.append(_read(candidate, load))
    return states


def _read(path: File, load: Callable[[File], Content]) -> Content:
    """Reads a file; asks a silent store again, because its silence does not mean that there is no checkpoint."""
    n_left = READ_TRIES
    while True:
        n_left -= 1
        try:
            return load(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            if isinstance(path, Path):
                raise DamagedCheckpointError(f"{path}: cannot be read: {error}") from error
            if not n_left:
                raise
        time.sleep(READ_PAUSE_S)


class Clock:
    """Decides when to write a checkpoint: before more than the interval could be lost, in at most `SHARE` of the time.

    `tick` reports the end of an epoch; a `with` block around the writing measures how long that takes.
    """

    def __init__(self, interval_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self.interval_s, self._now = interval_s, now
        self._last = self._ticked = now()
        self._epoch_s = self._least_s = 0.0

    def tick(self) -> None:
        """Reports that an epoch is over."""
        self._epoch_s, self._ticked = self._now() - self._ticked, self._now()

    def is_due(self) -> bool:
        """Whether one more epoch would exceed the interval; False while checkpoints take too much of the time."""
        passed_s = self._now() - self._last
        return passed_s >= self._least_s and passed_s + self._epoch_s >= self.interval_s

    def __enter__(self) -> None:
        """Starts the measurement."""
        self._begun = self._now()

    def __exit__(self, *_: object) -> None:
        """Ends the measurement, and plans the next checkpoint."""
        self._last = self._ticked = self._now()
        self._least_s = (self._last - self._begun) / SHARE
