"""Durable files and locks.

A reader sees a file's old content or its new content, never a part, also after a power cut. A lock lets one process
launch a sweep or train a file at a time; the kernel releases it, also after SIGKILL.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from l2t_ray.errors import InputError

_CHUNK_BYTES = 1 << 20
_TRIES = 50
_PAUSE_S = 0.02
_WAIT_S = 0.5  # between two tries of who waits
HOME = Path(".l2t")  # locks, spools, progress and measured speeds, in the working folder


def write_atomic(path: Path, content: bytes) -> None:
    """Writes a file by temporary file, fsync and rename in the same folder, which is made if it is missing.

    Args:
        path: the file to create or replace.
        content: all of its bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def compute_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hex.

    Args:
        path: the file.

    Returns:
        64 hex digits.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class Lock:
    """An exclusive lock among the processes of one machine, for a `with` block.

    The file stays behind (removing it would race with the next holder); only the kernel's lock on it counts.

    Args:
        path: of the file.
        law: what is refused while another process holds it, up to its name.
        remedy: of that.
        on_wait: told once who holds it; the lock is then waited for, not refused.
    """

    def __init__(
        self,
        path: Path,
        law: str = "this sweep is being launched already",
        remedy: str = "look at it with --status",
        *,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        self.path, self._law, self._remedy, self._on_wait = path, law, remedy, on_wait
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Takes the lock.

        Returns:
            This lock.

        Raises:
            InputError: if another process holds it and is not waited for, or the folder cannot be written to.
            OSError: if the disk is full.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(
                f"{self.path.parent}: the folder must be writable, got {error.strerror!r}; start elsewhere"
            ) from error
        try:
            self._take(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        content = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        self._descriptor = descriptor
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(content).encode())
        except OSError:
            self.__exit__(None, None, None)
            raise
        return self

    def _take(self, descriptor: int) -> None:
        n_left, is_told = _TRIES, False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = self.holder()
            except OSError as error:
                raise InputError(
                    f"{self.path}: must be where files can be locked, got {error.strerror!r}; start elsewhere"
                ) from error
            else:
                return
            if holder is None:  # a `--status` was looking at this moment
                n_left -= 1
                if n_left < 0:
                    raise InputError(f"{self.path}: the lock could not be taken in {_TRIES} tries; launch again")
                time.sleep(_PAUSE_S)
            elif self._on_wait is None:
                law = f"{self._law}, by {holder}; one at a time"
                raise InputError(f"{self.path}: {law}: wait for it or end it, and {self._remedy}")
            else:
                if not is_told:
                    self._on_wait(holder)
                n_left, is_told = _TRIES, True
                time.sleep(_WAIT_S)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Releases the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> str | None:
        """Who holds the lock.

        Returns:
            "pid 12 on host since 2026-01-01 00:00:00", or None where nobody does.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            try:
                content = json.loads(os.read(descriptor, 4096))
                return f"pid {content['pid']} on {content['host']} since {content['since']}"
            except (ValueError, KeyError, TypeError):  # between its truncation and its writing
                return "a process that has just begun"
        else:
            return None
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Waits for the kernel's lock beside the file; where there can be none, goes on without.

    Args:
        file: whose folder is made if it is missing.

    Yields:
        Nothing.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file.with_name(f"{file.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
