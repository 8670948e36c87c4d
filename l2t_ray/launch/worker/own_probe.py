"""Measures a run of the user's own trainer in a fresh process: it is trained for a while, and its result is dropped."""

import os
import resource
import statistics
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from l2t_ray.launch.placement.devices import VISIBLE, visible_cards
from l2t_ray.launch.placement.measurements import Speed
from l2t_ray.launch.worker import mps
from l2t_ray.launch.worker.job import Work, decode
from l2t_ray.launch.worker.train import trainer_of
from l2t_ray.training.device import is_out_of_memory

FEWEST_EPOCHS = 3  # logged, of which the first warms up
LOOK_S = 0.05


class OwnProber:
    """A process that measures one shape; it has the methods of `worker.probe.Prober`.

    Args:
        work: JSON of `Work`.
        runs: JSON of `encode`.
        begun: time.time() when the process was asked for.
    """

    def __init__(self, work: str, runs: str, begun: float) -> None:
        self._work = replace(Work.from_json(work), checkpoints=tempfile.mkdtemp(prefix="l2t-probe-"))
        if Path(self._work.folder).is_dir():
            os.chdir(self._work.folder)
        mps.join(self._work.mps)
        self._run, self._begun = decode(runs)[0], begun
        total: Any = self._run.setting("settings.epochs")
        self._epochs = total if isinstance(total, int) and not isinstance(total, bool) else 0
        self._runs_s: list[float] = []  # of runs that have ended
        self._marks: list[float] = []  # times of new epochs and of ends
        self._error: BaseException | None = None
        self._card_bytes = _card_bytes()
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def end(self) -> None:
        """Ends the training, where the process goes on; waits for its run."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def ready(self) -> dict[str, Any]:
        """Answers once the process is there: {"start_s", "context_bytes"}."""
        return {"start_s": time.time() - self._begun, "context_bytes": 0}

    def speed(self, pack: int, budget_s: float) -> dict[str, Any] | None:
        """`Speed` of a run as one epoch; None if memory ran out, or the budget did before the time was known."""
        assert pack == 1, "each run has a process"
        self._start()
        end, peak_bytes = time.monotonic() + budget_s, 0
        while not self._is_known(budget_s) and self._error is None and time.monotonic() < end:
            time.sleep(LOOK_S)
            peak_bytes = max(peak_bytes, self._bytes())
        if self._error is not None:
            if is_out_of_memory(self._error):
                return None
            raise self._error
        peak_bytes = max(peak_bytes, self._bytes())
        gaps = [later - earlier for earlier, later in pairwise(self._marks)]
        if self._runs_s:
            run_s = min(self._runs_s)  # the first has imported the trainer
        elif self._epochs and len(gaps) >= FEWEST_EPOCHS:
            run_s = self._epochs * statistics.median(gaps[1:])
        else:
            return None
        return asdict(Speed(1, run_s, 0.0, peak_bytes))

    def pace(self, pack: int, seconds: float) -> float:
        """Seconds of an epoch, or of a run that logs none, while other processes train too."""
        assert pack == 1, "each run has a process"
        self._start()
        first, end = len(self._marks), time.monotonic() + seconds
        while time.monotonic() < end or (len(self._marks) < first + 2 and self._error is None):
            time.sleep(LOOK_S)
        if self._error is not None:
            raise self._error
        return statistics.median(later - earlier for earlier, later in pairwise(self._marks[first:]))

    def _is_known(self, budget_s: float) -> bool:
        """Whether a second run has ended, or the first took so long that its start does not count."""
        return len(self._runs_s) > 1 or (len(self._runs_s) == 1 and self._runs_s[0] > budget_s / 2)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._train, daemon=True)
            self._thread.start()

    def _train(self) -> None:
        """Trains one run after the other, until `end` or the end of the process."""
        try:
            while not self._ended.is_set():
                begun = time.monotonic()
                trainer_of(self._work).train([self._run], self._watch, self._ended.is_set)
                self._marks.append(time.monotonic())
                self._runs_s.append(self._marks[-1] - begun)
        except BaseException as error:  # `speed` raises it again
            self._error = error

    def _watch(self, epoch: int, total: int) -> None:
        if epoch:
            self._marks.append(time.monotonic())

    def _bytes(self) -> int:
        """What the run needs of the card where it uses one, else of this machine's memory."""
        if self._work.device.startswith("cuda"):
            torch = sys.modules.get("torch")
            own = int(torch.cuda.max_memory_reserved()) if torch is not None and torch.cuda.is_initialized() else 0
            return max(own, _card_bytes() - self._card_bytes)
        import psutil

        unit_bytes = 1 if sys.platform == "darwin" else 1024
        found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                found += int(child.memory_info().rss)
        return found


def _card_bytes() -> int:
    """Bytes in use on this process' card; 0 without one."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        uuids = [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]
        names = [uuid.decode() if isinstance(uuid, bytes) else uuid for uuid in uuids]
        seen = visible_cards(os.environ.get(VISIBLE), names)
        return int(pynvml.nvmlDeviceGetMemoryInfo(handles[names.index(seen[0])]).used) if seen else 0
    except (pynvml.NVMLError, ValueError):
        return 0
