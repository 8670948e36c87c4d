"""Writes results from the spool to the ledger while training goes on; waits while the ledger does not answer."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Self

from l2t_ray.errors import LedgerUnavailableError
from l2t_ray.ledger.ledger import Ledger
from l2t_ray.ledger.spool import Ended
from l2t_ray.run import AnyRun

PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)  # between tries while the ledger does not answer

logger = logging.getLogger(__name__)


class Recorder:
    """A thread that writes the spool to the ledger, for a `with` block; leaving the block writes a last time.

    Attributes:
        n_left: after the block, how many results are still in the spool.
    """

    def __init__(self, ledger: Ledger, on_written: Callable[[str], None] = lambda key: None) -> None:
        self.n_left = 0
        self._ledger, self._on_written = ledger, on_written
        self._news, self._closing = threading.Event(), threading.Event()
        self._unspooled: list[tuple[AnyRun, Ended, str, str, Mapping[str, str]]] = []
        self._has_warned = False
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)

    def __enter__(self) -> Self:
        """Starts the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Writes the remaining results, if the ledger answers."""
        self._closing.set()
        self._news.set()
        self._thread.join()
        self.n_left = len(self._ledger.spool) + len(self._unspooled)

    def add(self, run: AnyRun, result: Ended, cell: str, data_sha: str, tags: Mapping[str, str]) -> None:
        """Spools a result and has it written soon; called from one thread.

        Args:
            run: the run.
            result: how it ended.
            cell: its cell.
            data_sha: digest of its images.
            tags: further ones, without the prefix `l2t.`.
        """
        self._unspooled.append((run, result, cell, data_sha, tags))
        self.retry()

    def retry(self) -> None:
        """Spools the results that a full disk has kept from the spool; called from the thread that calls `add`."""
        while self._unspooled:
            run, result, cell, data_sha, tags = self._unspooled[0]
            try:
                self._ledger.record(run, result, cell, data_sha=data_sha, tags=tags)
            except OSError as error:
                if not self._has_warned:
                    logger.error("%s: results cannot be spooled, will try again: %s", self._ledger.spool.folder, error)
                self._has_warned = True
                return
            self._unspooled.pop(0)
            self._news.set()

    def _work(self) -> None:
        n_failures = 0
        while True:
            self._news.wait()
            self._news.clear()
            closing = self._closing.is_set()
            try:
                self._ledger.flush(self._on_written)
                if n_failures:
                    logger.warning("%s: the ledger answers again, nothing is lost", self._ledger.shown_uri)
                n_failures = 0
            except LedgerUnavailableError as error:
                if not n_failures:
                    logger.warning("%s; the training goes on, results wait in %s", error, self._ledger.spool.folder)
                if not closing:
                    self._closing.wait(PAUSES_S[min(n_failures, len(PAUSES_S) - 1)])
                    self._news.set()
                n_failures += 1
            if closing:
                return
