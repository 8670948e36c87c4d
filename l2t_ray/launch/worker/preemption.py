"""Whether this machine is about to be taken away: a file that `clusters/notice.py` leaves when a cloud says so."""

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

PATH = "L2T_NOTICE"  # the environment's; for tests with several pretended machines
VALID_S = 600.0  # a machine that is still there after that was not taken
EVERY_S = 5.0


def file() -> Path:
    """The file; it is there once the machine is about to go.

    Returns:
        Its path, in the user's home.
    """
    return Path(os.environ.get(PATH) or Path.home() / ".l2t_notice")


def announce() -> None:
    """Leaves the file."""
    file().touch()


class Watch:
    """Looked at after every epoch of a training.

    Args:
        now: the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._saved_at = now, -math.inf

    def is_urgent(self) -> bool:
        """Whether a checkpoint is to be written now: the machine is about to go, and the last one is some seconds old.

        Returns:
            False on a machine that stays.
        """
        try:
            is_told = time.time() - file().stat().st_mtime < VALID_S
        except OSError:
            return False
        if not is_told or self._now() - self._saved_at < EVERY_S:
            return False
        self._saved_at = self._now()
        return True
