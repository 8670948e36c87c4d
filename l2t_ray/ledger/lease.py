"""The right to write a sweep's results: a lease in the ledger itself, because two hosts do not share a lock file.

MLflow has no compare-and-swap, but a param of a run is written once: the first value stays, others are refused. The
lease is one MLflow run of the experiment (tag `l2t.kind=lease`). Its params `term.1`, `term.2`, ... each name a holder;
the highest term counts. A process takes the lease by writing the next term, and keeps it by a heartbeat tag.
"""

import contextlib
import json
import logging
import os
import re
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from l2t_ray.errors import InputError, LedgerUnavailableError

HEARTBEAT_S = 5.0
EXPIRES_S = 30.0  # without a heartbeat, by the clock of the process that wants the lease: hosts' clocks differ
KIND, BEAT, RELEASED = "lease", "l2t.heartbeat", "l2t.released"

_TERM = re.compile(r"term\.(\d+)")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """A process, distinct from every other one, even after its number was given to another."""

    host: str
    boot: str  # the kernel's id of this boot; empty where it has none
    space: str  # the namespace of process numbers: each container counts its own
    pid: int
    started: str  # in ticks after the boot
    since: str
    token: str

    @classmethod
    def here(cls) -> Self:
        """Returns this process, with a new token for every call."""
        boot, space = _boot()
        return cls(
            host=socket.gethostname(),
            boot=boot,
            space=space,
            pid=os.getpid(),
            started=_started(os.getpid()),
            since=time.strftime("%Y-%m-%d %H:%M:%S %z"),
            token=uuid.uuid4().hex,
        )

    @classmethod
    def read(cls, text: str) -> Self:
        """Returns the holder that a term's JSON names, or an unknown one where somebody has changed the text."""
        try:
            values = json.loads(text)
            return cls(**{entry.name: entry.type(values[entry.name]) for entry in fields(cls) if callable(entry.type)})
        except (ValueError, TypeError, KeyError):
            return cls("an unknown host", "", "", 0, "", "an unknown time", text)

    def lives(self) -> bool | None:
        """Whether the process is running; None where this process cannot see that."""
        if not self.boot or (self.boot, self.space) != _boot():
            return None
        return _started(self.pid) == self.started

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host} since {self.since}"


class Lease:
    """Makes this process the only writer of an experiment, for a `with` block.

    Attributes:
        me: this holder.
        term: the number under which the lease is held; 0 outside of the block.
    """

    def __init__(
        self, client: Any, experiment_id: str, sweep: str, *, on_lost: Callable[[str], None] = lambda reason: None
    ) -> None:
        self.me, self.term = Holder.here(), 0
        self._client, self._experiment_id, self._sweep, self._on_lost = client, experiment_id, sweep, on_lost
        self._runs: list[str] = []
        self._lost = ""
        self._seen_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Takes the lease; waits up to `EXPIRES_S` to see whether a holder on another host is alive.

        Returns:
            This lease.

        Raises:
            InputError: if another process holds it.
        """
        try:
            while new := [run for run in self._find() if run not in self._runs]:
                for run_id in new:
                    self._take(run_id)
        except BaseException:
            self._release()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Releases the lease, if the ledger answers; otherwise it expires."""
        self._ended.set()
        self._thread.join()
        self._release()

    @property
    def lost(self) -> str:
        """Why the lease is no longer held; empty while it is."""
        return self._lost

    def check(self) -> None:
        """Makes sure that no other process has taken over; asks the ledger, unless it has just answered.

        Raises:
            LedgerUnavailableError: if one has.
        """
        if not self._lost and time.monotonic() - self._seen_s > HEARTBEAT_S:
            self._look()
        if self._lost:
            raise LedgerUnavailableError(self._lost)

    def is_in(self, file: Path) -> bool:
        """Whether a SQLite file holds this lease; MLflow goes on with the one that it has opened, whatever its name."""
        query = "SELECT value FROM params WHERE run_uuid = ? AND key = ?"
        if not file.exists():
            return False
        with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True, timeout=60)) as opened:
            found = [opened.execute(query, (run_id, f"term.{self.term}")).fetchone() for run_id in self._runs]
        return any(row and self.me.token in row[0] for row in found)

    def _find(self) -> list[str]:
        runs = self._search()
        if not runs:
            tags = {"l2t.kind": KIND, "l2t.sweep": self._sweep}
            self._client.create_run(self._experiment_id, tags=tags, run_name="lease")
            runs = self._search()
        return runs

    def _search(self) -> list[str]:
        runs = self._client.search_runs([self._experiment_id], f"tags.`l2t.kind` = '{KIND}'")
        return sorted(run.info.run_id for run in runs)

    def _take(self, run_id: str) -> None:
        run = self._client.get_run(run_id)
        term, holder = _holder(run)
        if holder and run.data.tags.get(RELEASED) != str(term) and holder.token != self.me.token:
            self._refuse_living(run_id, term, holder)
        try:
            self._client.log_param(run_id, f"term.{term + 1}", json.dumps(asdict(self.me)))
        except Exception as error:
            if getattr(error, "error_code", "") != "INVALID_PARAMETER_VALUE":
                raise
        now, winner = _holder(self._client.get_run(run_id))
        if winner is None or winner.token != self.me.token:
            raise InputError(self._refusal(winner))
        self._runs.append(run_id)
        self.term = max(self.term, now)
        self._client.set_tag(run_id, BEAT, _beat_of(now))
        self._client.update_run(run_id, status="RUNNING")
        self._seen_s = time.monotonic()

    def _refuse_living(self, run_id: str, term: int, holder: Holder) -> None:
        lives = holder.lives()
        if lives:
            raise InputError(self._refusal(holder))
        if lives is False:
            logger.warning("%s: taking over from %s, which has ended", self._sweep, holder)
            return
        logger.warning(
            "%s: held by %s; waiting up to %.0f s for a sign of life from it", self._sweep, holder, EXPIRES_S
        )
        before = self._client.get_run(run_id).data.tags.get(BEAT)
        end = time.monotonic() + EXPIRES_S
        while time.monotonic() < end:
            time.sleep(min(1.0, EXPIRES_S / 10))
            run = self._client.get_run(run_id)
            if run.data.tags.get(RELEASED) == str(term):
                return
            if run.data.tags.get(BEAT) != before or _holder(run)[0] != term:
                raise InputError(self._refusal(_holder(run)[1]))
        logger.warning("%s: taking over from %s, which has not answered for %.0f s", self._sweep, holder, EXPIRES_S)

    def _refusal(self, holder: Holder | None) -> str:
        return (
            f"{self._sweep}: this sweep is being launched already, by {holder}; one launch writes to the ledger at a "
            "time: wait for it or end it"
        )

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            try:
                self._look()
                for run_id in self._runs if not self._lost else ():
                    self._client.set_tag(run_id, BEAT, _beat_of(self.term))
            except Exception as error:  # the ledger does not answer, so nobody else can take the lease either
                logger.debug("no heartbeat: %r", error)
            if self._lost:
                self._on_lost(self._lost)
                return

    def _look(self) -> None:
        for run_id in self._runs:
            run = self._client.get_run(run_id)
            _, holder = _holder(run)
            if holder is None or holder.token != self.me.token or run.info.lifecycle_stage != "active":
                taken = holder is not None and holder.token != self.me.token
                how = f"was taken over by {holder}" if taken else "was deleted in MLflow"
                self._lost = f"{self._sweep}: the lease {how}; results of this launch wait in its spool"
                return
        self._seen_s = time.monotonic()

    def _release(self) -> None:
        try:
            for run_id in self._runs:
                term, holder = _holder(self._client.get_run(run_id))
                if holder is not None and holder.token == self.me.token:
                    self._client.set_tag(run_id, RELEASED, str(term))
                    self._client.set_terminated(run_id, "FINISHED")
        except Exception as error:  # it will expire
            logger.debug("the lease is not released: %r", error)
        self._runs, self.term = [], 0


def _holder(run: Any) -> tuple[int, Holder | None]:
    terms = {int(match[1]): text for name, text in run.data.params.items() if (match := _TERM.fullmatch(name))}
    return (max(terms), Holder.read(terms[max(terms)])) if terms else (0, None)


def _beat_of(term: int) -> str:
    return f"{term} {time.time():.3f}"  # no two beats are the same text


def _boot() -> tuple[str, str]:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip(), str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return "", ""


def _started(pid: int) -> str:
    try:  # the 22nd field; the second is the name, in brackets, and may hold any character
        fields_after_name = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return "never"
    return fields_after_name[19] if fields_after_name[0] != "Z" else "never"
