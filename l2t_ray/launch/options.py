"""What the command line says about a launch, and what workers get of it."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from l2t_ray.launch.checkpoints import checkpoint_folder
from l2t_ray.launch.worker.job import Work
from l2t_ray.run import AnyRun
from l2t_ray.training.storage import address

if TYPE_CHECKING:
    from l2t_ray.launch.backlog import State
    from l2t_ray.launch.cluster.tuner import Feed
    from l2t_ray.launch.placement.allocation import Lanes
    from l2t_ray.sweepfile.read import Sweep

RAY, INLINE, SLURM = BACKENDS = ("ray", "inline", "slurm")


@dataclass(frozen=True)
class Options:
    """What the command line says about a launch."""

    address: str | None = None  # of a running Ray cluster; None for this machine
    download: bool = True  # whether data sets may be fetched
    probe: bool = True  # whether shapes are measured first
    backend: str = RAY  # what runs the packs


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
