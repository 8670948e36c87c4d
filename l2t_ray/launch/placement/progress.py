"""The progress of a launch: counts and time left, on the terminal, as lines of a log, and in a file for `--status`."""

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from l2t_ray.errors import duration
from l2t_ray.files import write_atomic

if TYPE_CHECKING:
    from rich.live import Live

LINE_S = 30.0  # between plain lines
FILE_S = 5.0
REDRAW_S = 0.5

logger = logging.getLogger(__name__)


class Progress:
    """Counts the runs of one launch and estimates the time left from the durations of ended runs.

    Args:
        expected: key to (shape, expected seconds or None) of every run to train.
        slots: runs that are trained at once.
        file: where `--status` looks.
        stream: the terminal or log; stderr by default.
        now: the clock.
    """

    def __init__(
        self,
        expected: Mapping[str, tuple[str, float | None]],
        slots: int,
        file: Path,
        *,
        stream: TextIO | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = {"finished": 0, "diverged": 0, "failed": 0}
        self._left, self._slots, self._file, self._now = dict(expected), slots, file, now
        self._stream = stream or sys.stderr
        self._total = len(expected)
        self._measured: dict[str, list[float]] = {}
        self._share_done: dict[str, float] = {}
        self._begun = self._line_at = now()
        self._file_at = self._drawn_at = float("-inf")
        self._live: Live | None = None
        self.n_running = 0
        self.n_further = 0  # runs that a search may still hand out

    def __enter__(self) -> "Progress":
        """Takes the terminal, if there is one."""
        if self._stream.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=self._stream), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Gives the terminal back and prints the last line."""
        if self._live is not None:
            self._live.stop()
        self.n_running = 0
        print(self.line(), file=self._stream, flush=True)
        self._file.unlink(missing_ok=True)

    def expect(self, key: str, name: str, expected_s: float | None) -> None:
        """Takes a run that was not known at the start."""
        self._left[key] = (name, expected_s)
        self._total += 1

    def ended(self, key: str, status: str, reason: str, wall_s: float) -> None:
        """Counts a run; a failure is printed at once with its reason."""
        self.counts[status] += 1
        name, _ = self._left.pop(key, ("", None))
        self._share_done.pop(key, None)
        if status == "finished":
            self._measured.setdefault(name, []).append(wall_s)
        else:
            self._print(f"run {key} {status}: {reason}")

    def drop(self, key: str) -> None:
        """Forgets a run that will not be trained."""
        if self._left.pop(key, None) is not None:
            self._total -= 1

    def tell(self, text: str) -> None:
        """Prints a line at once."""
        self._print(text)

    def reached(self, key: str, share: float) -> None:
        """Notes the share of a run's epochs that is done, 0 to 1."""
        self._share_done[key] = share

    def eta_s(self) -> float | None:
        """Seconds left; None while the duration of a run is unknown."""
        everything = [wall_s for values in self._measured.values() for wall_s in values]
        mean_s = sum(everything) / len(everything) if everything else None
        work_s, longest_s = 0.0, 0.0
        for key, (name, expected_s) in self._left.items():
            values = self._measured.get(name)
            run_s = sum(values) / len(values) if values else (expected_s if expected_s is not None else mean_s)
            if run_s is None:
                return None
            left_s = run_s * (1 - self._share_done.get(key, 0.0))
            work_s, longest_s = work_s + left_s, max(longest_s, left_s)
        if self.n_further and mean_s is None:
            return None
        work_s += self.n_further * (mean_s or 0.0)
        return max(work_s / self._slots, longest_s)

    def line(self) -> str:
        """The state: "12 of 40 runs ended (11 finished, 1 diverged), 4 running, 3 min left, after 1 min"."""
        n_ended = sum(self.counts.values())
        parts = ", ".join(f"{n} {name}" for name, n in self.counts.items() if n)
        eta_s = self.eta_s()
        total = f"at most {self._total + self.n_further}" if self.n_further else self._total
        left = (
            ""
            if n_ended == self._total + self.n_further
            else f", {'time left unknown' if eta_s is None else duration(eta_s) + ' left'}"
        )
        return (
            f"{n_ended} of {total} runs ended{f' ({parts})' if parts else ''}, {self.n_running} running{left}, "
            f"after {duration(self._now() - self._begun)}"
        )

    def tick(self) -> None:
        """Shows and stores the state; may be called often."""
        now = self._now()
        if self._live is not None:
            if now - self._drawn_at >= REDRAW_S:
                self._drawn_at = now
                self._live.update(self.line(), refresh=True)
        elif now - self._line_at >= LINE_S:
            self._line_at = now
            self._print(self.line())
        if now - self._file_at >= FILE_S:
            self._file_at = now
            content = {
                **self.counts,
                "total": self._total + self.n_further,
                "running": self.n_running,
                "eta_s": self.eta_s(),
            }
            try:
                write_atomic(self._file, json.dumps({**content, "line": self.line()}).encode())
            except OSError as error:
                logger.debug("%s: %s", self._file, error)  # only --status reads it; results matter more

    def _print(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self._stream, flush=True)


def read_progress(file: Path) -> dict[str, Any] | None:
    """The counts, `total`, `running`, `eta_s` and `line` of the running launch; None if there is none."""
    try:
        content = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None
