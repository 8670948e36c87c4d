"""The progress of a launch: takes its events; shows its state on a terminal, in a log, in a file and on a page."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from l2t_ray.launch.live.cells import Cells
from l2t_ray.launch.live.screen import Screen
from l2t_ray.launch.live.view import DeviceView, PackView, View
from l2t_ray.launch.placement.eta import Eta, Forecast

FILE_S = 5.0  # between two writes of the file and of the page
Series = Mapping[str, Sequence[tuple[int, float]]]  # name -> [(epoch, value)]
MOST_PACKS = 200  # that are shown
MOST_SHARE, SHORT_S = 0.03, 0.01  # of this process' time, for the time left of tens of thousands of runs

logger = logging.getLogger(__name__)


@dataclass
class _Pack:
    """A pack that is being trained."""

    keys: tuple[str, ...]
    device: str
    since: float
    epoch: int = 0
    epochs: int = 0  # 0 before the first sign of life
    train_s: float = 0.0  # of its runs that have ended
    n_finished: int = 0


class Progress:
    """Counts the runs of one launch, and tells and shows how far it is.

    Args:
        sweep: its name.
        cells: of the sweep.
        forecast: observes the packs.
        file: where `--status` looks.
        page: where the page is kept; None for none.
        links: what to its address, file or command.
        notes: what a reader must know.
        stream: the terminal or log; stderr by default.
        now: the clock.
    """

    def __init__(
        self,
        sweep: str,
        cells: Cells,
        forecast: Forecast,
        file: Path,
        *,
        page: Path | None = None,
        links: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
        stream: TextIO | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = {"finished": 0, "diverged": 0, "failed": 0}
        self.devices: tuple[DeviceView, ...] = ()
        self.n_further = 0  # runs that a search may still hand out
        self.n_elsewhere = 0  # runs in jobs that tell nothing until their runs have ended
        self._sweep, self._cells, self._forecast, self._file, self._page = sweep, cells, forecast, file, page
        self._links, self._notes, self._now = dict(links or {}), tuple(notes), now
        self._screen = Screen(stream, now)
        self._left: dict[str, str] = {}  # key to shape, of the runs that have not ended
        self._waiting: dict[str, int] = {}  # shape to runs that no pack trains, in the order of the queue
        self._pack_of: dict[str, str] = {}
        self._packs: dict[str, _Pack] = {}
        self._total = 0
        self._begun, self._begun_s = now(), time.time()
        self._file_at = self._eta_due = float("-inf")
        self._eta: Eta | None = None

    def __enter__(self) -> "Progress":
        """Takes the terminal, if there is one."""
        self._screen.__enter__()
        self._store(self.view())
        if self._page is not None:
            self.tell(f"live: {self._page.resolve().as_uri()}")
        return self

    def __exit__(self, *_: object) -> None:
        """Gives the terminal back and prints the last line."""
        self._screen.__exit__()
        for name in [*self._packs]:
            self.stopped(name)
        view = self.view(has_ended=True)
        self._screen.print(view.line)
        self._store(view)
        self._file.unlink(missing_ok=True)

    @property
    def n_running(self) -> int:
        """Runs that are being trained."""
        return len(self._pack_of) + self.n_elsewhere

    def expect(self, key: str, shape: str, cell: str | None = None) -> None:
        """Takes a run that is to be trained; `cell` if it was not known at the start."""
        self._left[key] = shape
        self._waiting[shape] = self._waiting.get(shape, 0) + 1
        self._total += 1
        if cell is not None:
            self._cells.cell_of[key] = cell

    def began(self, name: str, keys: Iterable[str], shape: str, device: str, n_slots: int) -> None:
        """A pack has got its share of a device."""
        pack = self._packs[name] = _Pack(tuple(keys), device, self._now())
        self._forecast.began(name, shape, device, len(pack.keys), n_slots)
        for key in pack.keys:
            self._pack_of[key] = name
            self._waiting[self._left[key]] -= 1

    def reached(self, name: str, epoch: int, epochs: int) -> None:
        """A pack tells how many of its epochs are done."""
        pack = self._packs[name]
        pack.epoch, pack.epochs = epoch, epochs
        self._forecast.reached(name, epoch, epochs)

    def ended(self, key: str, status: str, reason: str, wall_s: float, metrics: Series | None = None) -> None:
        """Counts a run; a failure is printed at once with its reason."""
        self.counts[status] += 1
        is_finished = status == "finished"
        accuracies = (metrics or {}).get(self._cells.metric)
        self._cells.ended(key, is_finished=is_finished, accuracy=accuracies[-1][1] if accuracies else None)
        if (name := self._pack_of.pop(key, None)) is not None:
            self._packs[name].train_s += wall_s
            self._packs[name].n_finished += is_finished
        elif key in self._left:
            self._waiting[self._left[key]] -= 1
            if is_finished:
                self._forecast.took(self._left[key], wall_s)
        self._left.pop(key, None)
        if not is_finished:
            self.tell(f"run {key} {status}: {reason}")

    def stopped(self, name: str) -> None:
        """A pack has left its device, if it had one; its runs that have not ended wait again."""
        if (pack := self._packs.pop(name, None)) is None:
            return
        self._forecast.ended(name, pack.train_s if pack.n_finished == len(pack.keys) else None)
        for key in pack.keys:
            if self._pack_of.pop(key, None) is not None and key in self._left:
                self._waiting[self._left[key]] += 1

    def drop(self, key: str) -> None:
        """Forgets a run that will not be trained."""
        shape = self._left.pop(key, None)
        if shape is not None:
            self._total -= 1
            if key not in self._pack_of:
                self._waiting[shape] -= 1

    def tell(self, text: str) -> None:
        """Prints a line at once."""
        self._screen.print(text)

    def eta(self) -> Eta | None:
        """The time left; None while the duration of a run is unknown."""
        if self._now() < self._eta_due:
            return self._eta
        if self.n_further and not self._waiting:
            return None
        begun_s = time.perf_counter()
        waiting = {shape: n_runs for shape, n_runs in self._waiting.items() if n_runs}
        if self.n_further:  # of the shapes in equal parts
            for place, shape in enumerate(self._waiting):
                part = self.n_further // len(self._waiting) + (place < self.n_further % len(self._waiting))
                waiting[shape] = waiting.get(shape, 0) + part
        self._eta = self._forecast.eta({shape: n_runs for shape, n_runs in waiting.items() if n_runs})
        took_s = time.perf_counter() - begun_s
        self._eta_due = self._now() + (took_s / MOST_SHARE if took_s > SHORT_S else 0.0)
        return self._eta

    def view(self, *, has_ended: bool = False) -> View:
        """The state."""
        now_s = self._begun_s + self._now() - self._begun
        return View(
            sweep=self._sweep,
            begun_s=self._begun_s,
            updated_s=now_s,
            ended_s=now_s if has_ended else None,
            counts=dict(self.counts),
            n_total=self._total,
            n_further=self.n_further,
            n_running=self.n_running,
            eta=self.eta(),
            cells=self._cells.rows(self._pack_of),
            devices=self.devices,
            packs=tuple(self._pack_view(name) for name in [*self._packs][:MOST_PACKS]),
            links=self._links,
            notes=self._notes,
            metric=self._cells.metric,
        )

    def tick(self) -> None:
        """Shows and stores the state; may be called often."""
        is_due = self._now() - self._file_at >= FILE_S
        if is_due or self._screen.is_due:
            view = self.view()
            self._screen.show(view)
            if is_due:
                self._store(view)

    def _pack_view(self, name: str) -> PackView:
        pack = self._packs[name]
        left_s = self._forecast.pack_left_s(name)
        cell, elapsed_s = self._cells.cell_of[pack.keys[0]], self._now() - pack.since
        return PackView(cell, len(pack.keys), pack.device, elapsed_s, pack.epoch, pack.epochs, left_s)

    def _store(self, view: View) -> None:
        self._file_at = self._now()
        try:
            view.write(self._file)
            if self._page is not None:
                from l2t_ray.launch.live.page import write_page

                write_page(view, self._page)
        except OSError as error:
            logger.debug("%s: %s", self._file, error)  # both only show; results matter more
