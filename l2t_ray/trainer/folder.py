"""The folder in which a command runs: it holds what the working folder holds, and what the run writes is its own.

Folders are made anew and small files are copied, so that a run may replace them. Code and large files are links. A run
that has changed a large file is refused, because all runs read it.
"""

import os
import shutil
from collections import deque
from collections.abc import Collection
from pathlib import Path

from l2t_ray.trainer.outcome import ResultError

MOST_ENTRIES = 5_000  # beyond them, folders are links
MOST_IN_A_FOLDER = 2_000
COPIED_BYTES, ALL_COPIED_BYTES = 1 << 20, 64 << 20  # of one file, and of all
NOT_THERE = (".l2t", "mlruns", "mlartifacts")
CODE = ".py"


class RunFolder:
    """A run's folder, filled from the working folder, the nearest entries first.

    Args:
        folder: of the run, empty.
        own: name of a file or folder that the run writes; it is left out.
        code: paths of further files to link, from the working folder.
    """

    def __init__(self, folder: Path, own: str, code: Collection[str]) -> None:
        self._folder, self._code = folder, {os.path.realpath(path) for path in code}
        self._n_entries = self._n_bytes = 0
        self._large: dict[str, tuple[int, int]] = {}  # path to its time of change and its size
        here = [entry for entry in _entries(".") if entry.name not in {*NOT_THERE, own}]
        self.names = {entry.name for entry in here if not entry.name.startswith("mlflow.db")}
        waiting = deque((entry, folder / entry.name) for entry in here if entry.name in self.names)
        while waiting:
            entry, place = waiting.popleft()
            self._n_entries += 1
            if entry.is_dir(follow_symlinks=False) and (inner := self._to_make(entry)) is not None:
                place.mkdir()
                waiting.extend((found, place / found.name) for found in inner)
            else:
                self._add(entry, place)

    def check(self) -> None:
        """Refuses a run that has changed a large file; one that has only grown may be another program's log.

        Raises:
            ResultError: naming it.
        """
        for path, (changed_ns, n_bytes) in self._large.items():
            try:
                now = Path(path).stat()
            except OSError:  # removed by somebody else
                continue
            if now.st_mtime_ns != changed_ns and now.st_size <= n_bytes:
                rule = f"{path}: must not change while runs train, because all of them read it"
                raise ResultError(f"{rule}; have the command write to a new name, or move that file away")

    def _to_make(self, entry: os.DirEntry[str]) -> list[os.DirEntry[str]] | None:
        """What is in a folder that is to be made anew; None for one that is to be linked."""
        if entry.name.startswith(".") or entry.name == "__pycache__" or self._n_entries > MOST_ENTRIES:
            return None
        try:
            inner = _entries(entry.path)
        except OSError:  # not for us to read
            return None
        return inner if len(inner) <= MOST_IN_A_FOLDER else None

    def _add(self, entry: os.DirEntry[str], place: Path) -> None:
        real = os.path.realpath(entry.path)
        if entry.is_file() and not entry.name.endswith(CODE) and real not in self._code:
            found = entry.stat()
            if found.st_size <= min(COPIED_BYTES, ALL_COPIED_BYTES - self._n_bytes):
                try:
                    shutil.copy2(entry.path, place)
                    self._n_bytes += found.st_size
                    return
                except OSError:  # not for us to read
                    place.unlink(missing_ok=True)
            self._large[real] = found.st_mtime_ns, found.st_size
        place.symlink_to(real)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)
