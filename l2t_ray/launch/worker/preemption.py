"""Whether this machine is about to be taken away: `clusters/notice.py` creates a file when the cloud says so."""

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

from l2t_ray.launch.worker.places import home

PATH = "L2T_NOTICE"  # an environment variable; tests use it to simulate several machines
VALID_S = 600.0  # a machine that still runs after that time was not taken away
EVERY_S = 5.0


def file() -> Path:
    """The file in the user's home that exists once the machine is about to be taken away."""
    return Path(os.environ.get(PATH) or home() / ".l2t_notice")


def announce() -> None:
    """Creates the file."""
    file().touch()


class Watch:
    """Is asked after every epoch of a training.

    Args:
        now: the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._saved_at = now, -math.inf

    def is_urgent(self) -> bool:
        """Whether to write a checkpoint now: the machine is about to go and the last checkpoint is some seconds old."""
        try:
            is_told = time.time() - file().stat().st_mtime < VALID_S
        except OSError:
            return False
        if not is_told or self._now() - self._saved_at < EVERY_S:
            return False
        self._saved_at = self._now()
        return True
