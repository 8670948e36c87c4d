"""Folders of this machine for what lives no longer than a process: sockets, tokens, caches."""

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

from l2t_ray.errors import InputError

SOCKET_BYTES = 107  # of a Unix socket's name
USUAL = ("/tmp", "/var/tmp", "/dev/shm")


def temporary(variables: tuple[str, ...] = ("TMPDIR",), room: int = 0) -> Path:
    """Returns the folder that a variable names, else a usual one: the first that is writable and short enough.

    Args:
        variables: of the environment, the first that is set counts.
        room: bytes that follow the folder in the name of a socket.

    Raises:
        InputError: if there is none.
    """
    most = SOCKET_BYTES - room
    named = next((os.environ[name] for name in variables if os.environ.get(name)), None)
    places = [*([named] if named else []), *USUAL]
    for place in places:
        if len(os.fsencode(place)) <= most and is_writable(Path(place)):
            return Path(place)
    raise InputError(
        f"{variables[0]} must name a folder that exists, is writable, and has a name of at most {most} characters, got "
        f"none in {', '.join(dict.fromkeys(places))}; create one and set {variables[0]} to it"
    )


def home() -> Path:
    """The user's home; the relative `~` where neither HOME nor the system's list of users tells it."""
    return Path(os.path.expanduser("~"))  # noqa: PTH111  pathlib's raises


def is_writable(folder: Path) -> bool:
    """Whether this process can create files in a folder, which is named from the root."""
    return folder.is_absolute() and folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


@functools.cache
def private(parent: Path) -> Path:
    """Returns a folder that is open to this user alone, and gone when this process ends.

    Args:
        parent: where it is created, once.
    """
    owner, folder = os.getpid(), Path(tempfile.mkdtemp(prefix="l2t-", dir=parent))

    def remove() -> None:
        if os.getpid() == owner:  # not in a fork
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
