"""What `l2t` alone prints: the sweeps of the ledger and of the files at hand, with their state."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from analysis.results.wanted import read_manifests
from l2t.shipped import sweep_files
from l2t_ray.errors import InputError, say, wrapped
from l2t_ray.files import HOME, Lock
from l2t_ray.launch.summary import print_rows
from l2t_ray.ledger.address import database_file, tracking_uri
from l2t_ray.ledger.entries import Entry, failures, finished
from l2t_ray.ledger.reader import open_ledger


@dataclass(frozen=True)
class Known:
    """What is known of one sweep without reading its images and weights."""

    name: str
    files: tuple[Path, ...]
    n_wanted: int | None  # of its last launch; None if it was never launched
    n_finished: int
    n_failed: int
    holder: str | None  # the process that launches it now
    is_damaged: bool  # whether its manifest cannot be read

    @property
    def state(self) -> str:
        """In words."""
        if self.holder:
            return f"running ({self.holder})"
        if self.is_damaged:
            return "manifest lost or damaged"
        if self.n_wanted is None:
            return "never launched"
        if self.n_finished == self.n_wanted:
            return "done"
        return "some failed" if self.n_failed else "launch again to go on"


def known_sweeps() -> list[Known]:
    """Returns every sweep of the ledger and of the files in the working folder and `sweeps/`, by name."""
    files: dict[str, list[Path]] = defaultdict(list)
    for path, name in sweep_files().items():
        files[name].append(path)
    entries: list[Entry] = []
    wanted: dict[str, set[str]] = {}
    damaged: set[str] = set()
    database = database_file(tracking_uri())
    if database is None or database.is_file():
        reader, _ = open_ledger()
        entries = reader.entries()
        names = {entry.experiment for entry in entries if entry.kind in {"manifest", "run"}}
        for name in sorted(names):
            try:
                manifests = read_manifests([name], entries, reader)
            except InputError as error:
                say(*error.problems)
                damaged.add(name)
            else:
                wanted |= {sweep: {run["key"] for run in found["runs"]} for sweep, found in manifests.items()}
    found = []
    for name in sorted({*files, *wanted, *damaged}):
        keys = wanted.get(name, set())
        n_lost = len(failures(entries, keys))
        n_wanted = len(keys) if name in wanted else None
        holder = Lock(HOME / name / "lock").holder()
        n_finished = len(finished(entries, keys))
        found.append(Known(name, tuple(files[name]), n_wanted, n_finished, n_lost, holder, name in damaged))
    return found


def print_overview(stream: TextIO) -> None:
    """Prints the sweeps at hand as a table, and what to do next."""
    sweeps = known_sweeps()
    if not sweeps:
        told = "no sweep here yet: `l2t quickstart` runs a small one, `l2t init` copies the shipped files"
        print(wrapped(told, stream), file=stream)
        return
    rows = []
    for sweep in sweeps:
        counts = "" if sweep.n_wanted is None else f"{sweep.n_finished}/{sweep.n_wanted}"
        failed = str(sweep.n_failed) if sweep.n_failed else ""
        rows.append((sweep.name, ", ".join(map(str, sweep.files)), counts, failed, sweep.state))
    print_rows(("sweep", "file", "finished", "failed", "state"), rows, stream, left=("sweep", "file", "state"))
    told = "next: l2t plan FILE, l2t run FILE, l2t report SWEEP; `l2t --help` lists the commands"
    print(wrapped(told, stream), file=stream)
