"""What a trainer's function is given beside its settings and its seed."""

import json
from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import Any

from l2t_ray.trainer.outcome import ResultError, number

MOST_EPOCHS = 2**63 - 1  # in the ledger; it would take no other result after one that it cannot hold
State = bytes | Callable[[], bytes]


class Context:
    """Where a run is trained, and its way to report and to keep what it has reached.

    Attributes:
        device: as torch names it: "cuda:0" or "cpu".
        folder: of this attempt alone; removed afterwards.
        threads: of the CPU.
    """

    def __init__(
        self,
        device: str,
        folder: Path,
        threads: int,
        *,
        report: Callable[[int], None],
        is_due: Callable[[], bool],
        save: Callable[[bytes], None],
        load: Callable[[], bytes | None],
    ) -> None:
        self.device, self.folder, self.threads = device, folder, threads
        self._report, self._is_due, self._save, self._load = report, is_due, save, load
        self._series: dict[str, dict[int, float]] = {}
        self._epoch = 0

    def log(self, epoch: int, **metrics: float) -> None:
        """Records numbers of an epoch, and shows that the run is alive.

        Args:
            epoch: counted from 1; a step or a round where there are no epochs.
            **metrics: their values.

        Raises:
            ResultError: if the epoch is no whole number from 0 to 2 ** 63 - 1, or a value no number.
        """
        if isinstance(epoch, bool) or not isinstance(epoch, Integral) or not 0 <= epoch <= MOST_EPOCHS:
            rule = "context.log: epoch must be a whole number >= 0 and below 2 ** 63"
            raise ResultError(f"{rule}, got {epoch!r}; correct it")
        epoch = int(epoch)  # also NumPy's
        for name, value in metrics.items():
            self._series.setdefault(name, {})[epoch] = number(name, value, "context.log")
        self._epoch = max(self._epoch, epoch)
        self._report(self._epoch)

    def checkpoint(self, state: State) -> bool:
        """Keeps a state from which `restore` goes on, if one is due (`execution.checkpoint_s`) or the launch ends.

        Args:
            state: bytes, or a function that returns them, called only then.

        Returns:
            Whether it was kept.

        Raises:
            ResultError: if it is something else.
        """
        if not self._is_due():
            return False
        content = state() if callable(state) else state
        if not isinstance(content, bytes):
            kind = type(content).__name__
            raise ResultError(f"context.checkpoint: the state must be bytes, got {kind}; e.g. pickle.dumps(state)")
        head = json.dumps({"epoch": self._epoch, "series": {k: [*v.items()] for k, v in self._series.items()}}).encode()
        self._save(len(head).to_bytes(8, "big") + head + content)
        return True

    def restore(self) -> bytes | None:
        """Returns the state that an earlier attempt has kept; None for a run that begins."""
        content = self._load()
        if content is None:
            return None
        size = int.from_bytes(content[:8], "big")
        head: dict[str, Any] = json.loads(content[8 : 8 + size])
        self._epoch = head["epoch"]
        self._series = {name: {int(e): v for e, v in points} for name, points in head["series"].items()}
        self._report(self._epoch)
        return content[8 + size :]

    def series(self, results: dict[str, float]) -> dict[str, list[tuple[int, float]]]:
        """Returns all that was logged, by name, with the results at the last epoch."""
        last = max(self._epoch, 1)
        every = {**self._series}
        for name, value in results.items():
            every[name] = {**every.get(name, {}), last: value}
        return {name: sorted(points.items()) for name, points in every.items()}
