"""Durable files and locks.

A reader sees a file's old content or its new content, never a part, even after a power cut. A lock lets one process
at a time launch a sweep or train a file; the kernel releases it, even after SIGKILL.
"""

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import BinaryIO, Self

from l2t_ray.errors import InputError

_CHUNK_BYTES = 1 << 20
_TRIES = 50
_PAUSE_S = 0.02
_WAIT_S = 0.5  # between two tries of a process that waits
HOME = Path(".l2t")  # locks, spools, progress and measured speeds, in the working folder
_SHARED = 0o666  # the mode of a new file, before the umask takes from it


def write_atomic(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Writes a file by temporary file, fsync and rename in its folder, which is created if it is missing.

    The umask gives its permissions, as of every new file.

    Args:
        path: of the file.
        content: its bytes, or what writes them into an open file: a large content need not be in memory.

    Raises:
        OSError: with the file's name, if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with temporary.open("xb") as stream:
            if callable(content):
                content(stream)
            else:
                stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def compute_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's content in 64 hex digits."""
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
        rule: what the message says is going on already, up to the holder's name.
        remedy: what the message advises.
        on_wait: called once with the holder's name; the lock then waits for it instead of refusing.
    """

    def __init__(
        self,
        path: Path,
        rule: str = "this sweep is being launched already",
        remedy: str = "look at it with --status",
        *,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        self.path, self._rule, self._remedy, self._on_wait = path, rule, remedy, on_wait
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
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _SHARED)
        except OSError as error:
            remedy = "start elsewhere, or have its owner open it (chmod -R g+w; umask 002 where a group shares it)"
            raise InputError(
                f"{self.path.parent}: the folder must be writable, got {error.strerror!r}; {remedy}"
            ) from error
        try:
            self._take(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        content = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        self._descriptor = descriptor
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(content).encode())
        except OSError:
            self.__exit__()
            raise
        return self

    def _take(self, descriptor: int) -> None:
        """Takes the kernel's lock; tries for a second at first, as a `--status` holds it for a moment."""
        for attempt in itertools.count():
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                pass
            except OSError as error:
                raise InputError(
                    f"{self.path}: must be where files can be locked, got {error.strerror!r}; start elsewhere"
                ) from error
            if attempt < _TRIES:
                time.sleep(_PAUSE_S)
                continue
            holder = self.holder() or "another process"
            if self._on_wait is None:
                rule = f"{self._rule}, by {holder}; one at a time"
                raise InputError(f"{self.path}: {rule}: wait for it or end it, and {self._remedy}")
            if attempt == _TRIES:
                self._on_wait(holder)
            time.sleep(_WAIT_S)

    def __exit__(self, *_: object) -> None:
        """Releases the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> str | None:
        """Returns the holder, "pid 12 on host since 2026-01-01 00:00:00 +0000", or None where there is none."""
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
            except (ValueError, KeyError, TypeError):  # the holder has not yet written its name
                return "a process that has just begun"
        else:
            return None
        finally:
            os.close(descriptor)


class FreshSource(SourceFileLoader):
    """Loads a Python file from what it holds; Python takes its own copy of a file of equal size and time of change."""

    def get_code(self, fullname: str) -> CodeType:
        """Compiles the file."""
        return self.source_to_code(self.get_data(self.path), self.path)


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Waits for the kernel's lock beside a file, and holds it in the block; goes on without where it cannot lock.

    Args:
        file: whose folder is created if it is missing.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file.with_name(f"{file.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _SHARED)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
