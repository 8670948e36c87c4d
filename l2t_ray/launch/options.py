"""What the command line says about a launch, and what workers get of it."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from l2t_ray.files import HOME
from l2t_ray.launch.checkpoints import checkpoint_folder
from l2t_ray.launch.live.cells import Cells
from l2t_ray.launch.live.progress import Progress
from l2t_ray.launch.placement.eta import Forecast, Lane
from l2t_ray.launch.worker.job import Work
from l2t_ray.ledger.limits import safe_name
from l2t_ray.run import AnyRun
from l2t_ray.training.storage import address

if TYPE_CHECKING:
    from l2t_ray.launch.backlog import State
    from l2t_ray.launch.live.tally import Feed
    from l2t_ray.launch.placement.allocation import Lanes
    from l2t_ray.sweepfile.read import Sweep

RAY, INLINE, SLURM = BACKENDS = ("ray", "inline", "slurm")
INTERIM = "Means are of the runs so far and decide nothing: the declared design decides, at its looks."


@dataclass(frozen=True)
class Options:
    """What the command line says about a launch."""

    address: str | None = None  # of a running Ray cluster; None for this machine
    download: bool = True  # whether data sets may be fetched
    probe: bool = True  # whether shapes are measured first
    backend: str = RAY  # what runs the packs
    page: str | None = None  # the file of the live page; empty for the default one, None for none


@dataclass(frozen=True)
class Request:
    """What a backend is asked to train. All that can be refused has been checked."""

    state: "State"  # of the sweep; this process is its writer
    lanes: "Lanes"  # of this machine's devices
    options: Options
    work: Work
    data_sha: Callable[[AnyRun], str]  # the digest of a run's images
    progress_file: Path  # for `--status`
    say: Callable[[str], None]  # receives lines of progress
    feed: "Feed | None"  # gives the runs of a search; the state's runs are then examples
    on_ready: Callable[[], None]  # to call when nothing can be refused any more, before the first run is trained

    def progress(self, lanes: Callable[[str], Sequence[Lane]]) -> Progress:
        """The progress of this launch, which knows no run to train yet.

        Args:
            lanes: how a shape is trained, for the time left.

        Returns:
            What shows the launch, once it is entered.
        """
        sweep, page = self.state.sweep, self.options.page
        metric, done = safe_name(sweep.metric.name), self.state.done
        shown = sweep.metric.name if self.feed is None or not sweep.trainer else ""  # a search's settings differ
        values = {key: entry.metrics[metric] for key, entry in done.items() if metric in entry.metrics}
        return Progress(
            sweep.name,
            Cells(sweep.cells, self.state.done, self.state.lost, values, shown),  # of a search: the studies
            Forecast(lanes),
            self.progress_file,
            page=None if page is None else Path(page or HOME / sweep.name / "live.html"),
            links={"pages": self.state.ledger.page, "result": f"l2t report {sweep.name}"},
            notes=[INTERIM] if sweep.looks else [],
        )


def work_of(sweep: "Sweep", options: Options) -> Work:
    """How this launch trains packs."""
    execution = sweep.execution
    return Work(
        folder=str(Path.cwd()),
        checkpoints=address(checkpoint_folder(sweep)),
        data_dir=str(Path(execution.data_dir).resolve()),
        download=execution.download and options.download,
        checkpoint_s=execution.checkpoint_s,
        methods=tuple(str(path) for path in sweep.methods),
        trainer=sweep.trainer.model_dump_json() if sweep.trainer else "",
        mps=f"{os.getpid()}-{time.time_ns()}",
    )
