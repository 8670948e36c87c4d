"""One launch of a sweep at a time: a lock that the kernel releases, also after SIGKILL."""

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from l2t_ray.errors import InputError

_TRIES = 50
_PAUSE_S = 0.02


class Lock:
    """An exclusive lock on a sweep's folder, for a `with` block.

    The file stays behind (removing it would race with the next holder); only the kernel's lock on it counts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Takes the lock.

        Returns:
            This lock.

        Raises:
            InputError: if another process holds it, or the folder cannot be written to.
            OSError: if the disk is full.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(
                f"{self.path.parent}: the sweep's folder must be writable, got {error.strerror!r}; start elsewhere"
            ) from error
        for _ in range(_TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if holder := self.holder():  # None: a `--status` was looking at this moment
                    os.close(descriptor)
                    raise InputError(
                        f"{self.path}: this sweep is being launched already, by {holder}; one launch at a time: "
                        "wait for it or end it, and look at it with --status"
                    ) from None
                time.sleep(_PAUSE_S)
        else:
            os.close(descriptor)
            raise InputError(f"{self.path}: the lock could not be taken in {_TRIES} tries; launch again")
        content = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        self._descriptor = descriptor
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(content).encode())
        except OSError:
            self.__exit__(None, None, None)
            raise
        return self

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
