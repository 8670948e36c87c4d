"""Where a launch's progress goes: a table on a terminal, a line on a small one, a line now and then in a log."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from l2t_ray.launch.live.view import View

if TYPE_CHECKING:
    from rich.live import Live

LINE_S = 30.0  # between the lines of a log
REDRAW_S = 0.5
LEAST_COLUMNS, LEAST_LINES = 70, 14  # of a terminal, for the table


class Screen:
    """A terminal that is drawn anew, or a log.

    Args:
        stream: by default stderr.
        now: the clock.
    """

    def __init__(self, stream: TextIO | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._now = stream or sys.stderr, now
        self._live: Live | None = None
        self._shown_at = now()

    def __enter__(self) -> "Screen":
        """Takes the terminal, if there is one: what others print then stands above the table."""
        if self._stream.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self._stream)
            if not console.is_dumb_terminal:
                self._live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")
                self._live.start()
                self._shown_at = float("-inf")
        return self

    def __exit__(self, *_: object) -> None:
        """Gives the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def is_due(self) -> bool:
        """Whether it is time to show the state again."""
        return self._now() - self._shown_at >= (LINE_S if self._live is None else REDRAW_S)

    def show(self, view: View) -> None:
        """Shows the state, if it is time to."""
        if not self.is_due:
            return
        self._shown_at = self._now()
        if self._live is None:
            self.print(view.line)
            return
        size = self._live.console.size
        if size.width >= LEAST_COLUMNS and size.height >= LEAST_LINES:
            from l2t_ray.launch.live.table import table

            self._live.update(table(view, size.width, size.height - 1), refresh=True)
        else:
            from rich.text import Text

            self._live.update(Text(view.line, no_wrap=True, overflow="crop"), refresh=True)

    def print(self, text: str) -> None:
        """Prints a line at once; above the table, where there is one."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)
