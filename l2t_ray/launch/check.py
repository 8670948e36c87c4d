"""Checks everything that a launch reads and needs, before anything is written."""

import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from l2t_ray.config import Run
from l2t_ray.errors import InputError
from l2t_ray.launch.worker.job import Work
from l2t_ray.launch.worker.train import trainer_of
from l2t_ray.run import AnyRun
from l2t_ray.training.storage import File, storage

LEAST_ROOM_BYTES = 64 << 20  # for results and the ledger
MIB = 1 << 20


def prepare_inputs(
    runs: Iterable[AnyRun], work: Work, *, n_at_once: int = 1, later: Collection[str] = ()
) -> dict[str, str]:
    """Checks everything that the runs read and need; what is fetched is fetched once, before many processes need it.

    Args:
        runs: to train.
        work: how packs are trained.
        n_at_once: runs whose checkpoints are on the disk together.
        later: files of weights that are trained first.

    Returns:
        Key to the digest of the run's data.

    Raises:
        InputError: with a line for everything that is missing, damaged or refused.
    """
    runs = list(runs)
    checked = trainer_of(work).check(runs, later)
    check_room(storage(work.checkpoints), min(n_at_once, len(runs)), checked.state_bytes)
    return checked.data_sha


def inspections(runs: Iterable[AnyRun], data_dir: Path) -> Iterator[str]:
    """Yields what is found in the runs' folders of images, each folder looked at once.

    Args:
        runs: checked.
        data_dir: keeps what is found.
    """
    from l2t_ray.data.inspection import inspect
    from l2t_ray.data.load import cache_file  # needs torch

    ours = [run.data for run in runs if isinstance(run, Run) and run.data.name == "image_folder"]
    for data in {(data.sha256, data.test_fraction): data for data in ours}.values():
        file = cache_file(data, data_dir).with_suffix(".inspection.json")
        yield from inspect(Path(str(data.path)), data.test_fraction, file).lines(str(data.path))


def check_room(folder: File, n_runs: int, state_bytes: int) -> None:
    """Refuses a disk that cannot hold the checkpoints of the runs that train at once.

    Args:
        folder: of the checkpoints; only a disk of this machine is looked at.
        n_runs: that train at once.
        state_bytes: of one run.

    Raises:
        InputError: if there is less room.
    """
    if not isinstance(folder, Path):
        return
    needed = LEAST_ROOM_BYTES + 2 * n_runs * state_bytes  # a checkpoint is written before the older is removed
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        rule = f"the disk must have room for {n_runs} checkpoints and the results, {needed / MIB:,.0f} MiB"
        raise InputError(f"{folder}: {rule}, got {free / MIB:,.0f} MiB; free some, or set execution.storage")
