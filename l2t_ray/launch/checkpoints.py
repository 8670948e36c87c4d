"""The folder of a sweep's checkpoints: where it is, and what killed launches left in it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from l2t_ray.errors import InputError
from l2t_ray.training.storage import File, files, storage, write_whole

if TYPE_CHECKING:
    from l2t_ray.sweepfile.read import Sweep


def prepare_checkpoints(folder: File, done: Iterable[str]) -> None:
    """Makes the folder of checkpoints and removes what killed launches left in it.

    Args:
        folder: of the sweep's checkpoints.
        done: keys of finished runs.

    Raises:
        InputError: if the folder is not writable.
    """
    try:
        write_whole(folder / ".writable", b"")
        tidy_checkpoints(folder, done)
    except OSError as error:
        told = error.strerror or str(error).splitlines()[0]
        raise InputError(
            f"{folder}: execution.storage must be a folder that can be written to, got {told!r}"
        ) from error


def checkpoint_folder(sweep: "Sweep") -> File:
    """The folder of a sweep's checkpoints; it may not exist yet."""
    return storage(sweep.execution.storage) / sweep.name / "checkpoints"


def tidy_checkpoints(folder: File, done: Iterable[str]) -> None:
    """Removes incomplete files and the checkpoints of finished runs."""
    recorded = {"", *done}
    for file in files(folder):
        if file.name.split(".")[0] in recorded:
            file.unlink(missing_ok=True)
