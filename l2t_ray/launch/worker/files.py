"""Files that workers on other machines need: methods, weights, decoded data sets, each brought once to each machine.

One actor beside the driver hands them out through Ray's object store. A machine that sees the driver's file uses that;
any other keeps a copy by its SHA-256, for later launches too. Processes of a machine wait for the one that fetches.
"""

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from l2t_ray.config import Run
from l2t_ray.errors import InputError
from l2t_ray.files import alone, compute_sha256, write_atomic
from l2t_ray.launch.worker.job import Work, whole
from l2t_ray.launch.worker.places import home, is_writable, temporary
from l2t_ray.published import weights_at

FETCH_S = 600.0


def listed(paths: Iterable[str], work: Work) -> tuple[tuple[str, str], ...]:
    """(path as the settings name it, SHA-256) of every file that the workers of a launch read.

    Args:
        paths: of the trainer; those that are not there are left out.
        work: the launch's settings.

    Returns:
        The pairs, in order.
    """
    found = {path: Path(work.folder, path) for path in paths}
    return tuple((path, compute_sha256(file)) for path, file in found.items() if file.is_file())


@contextlib.contextmanager
def serving(work: Work) -> Iterator[None]:
    """Hands out the files of `work.files`, under the name `work.depot`, while the block lasts."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": work.depot, "num_cpus": 0, "scheduling_strategy": here}
    files = {sha256: str(Path(work.folder, path).resolve()) for path, sha256 in work.files}
    depot = ray.remote(Depot).options(**options).remote(files)
    try:
        yield
    finally:
        ray.kill(depot)


class Depot:
    """The actor beside the driver that hands out files.

    Args:
        files: SHA-256 to path; nothing else is handed out.
    """

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files
        self._put: dict[str, Any] = {}

    def fetch(self, sha256: str) -> list[Any]:
        """A list of one object reference, so that the bytes come from whichever machine has them."""
        import ray

        if sha256 not in self._put:
            self._put[sha256] = ray.put(Path(self._files[sha256]).read_bytes())
        return [self._put[sha256]]


def local(work: Work, path: str) -> str:
    """The path of a driver's file on this machine, fetched first if it is not there."""
    sha256 = dict(work.files).get(path)
    if not work.depot or sha256 is None:
        return path
    return _local(work.depot, str(Path(work.folder, path)), sha256)


def local_weights(work: Work, path: str) -> str:
    """The path of a file of weights on this machine; a library's folder may lie elsewhere than the driver's."""
    names = {Path(theirs).name: theirs for theirs, _ in work.files}
    item = weights_at(path)
    return local(work, names.get(Path(path).name, path) if item is not None and item.client is not None else path)


def data_dir(work: Work, run: Run) -> str:
    """The folder of data sets on this machine, with the run's decoded data set in its cache."""
    from l2t_ray.data.load import cache_file  # needs torch

    file = cache_file(whole(run.data), Path(work.data_dir))
    return str(Path(local(work, str(file))).parents[1])


@functools.cache
def _local(depot: str, path: str, sha256: str) -> str:
    theirs = Path(path)
    if _holds(theirs, sha256):
        return path
    ours = store() / sha256[:16] / theirs.parent.name / theirs.name
    with alone(ours):
        if not _holds(ours, sha256):
            write_atomic(ours, _fetch(depot, path, sha256))
            if not _holds(ours, sha256):
                raise InputError(f"{path}: must be the file that the driver has read, SHA-256 {sha256}; launch again")
    return str(ours)


def _fetch(depot: str, path: str, sha256: str) -> bytes:
    import ray

    try:
        (reference,) = ray.get(ray.get_actor(depot).fetch.remote(sha256), timeout=FETCH_S)
        content: bytes = ray.get(reference, timeout=FETCH_S)
    except (ValueError, ray.exceptions.RayError) as error:
        raise OSError(f"{path}: cannot be had from the driver's machine: {error}") from error
    return content


def _holds(file: Path, sha256: str) -> bool:
    try:
        return compute_sha256(file) == sha256
    except OSError:
        return False


def store() -> Path:
    """`l2t_ray` in the user's cache folder; a temporary folder if that is not writable."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "l2t_ray"
    with contextlib.suppress(OSError):
        if folder.is_absolute():  # else nobody knows the home
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if is_writable(folder):
            return folder
    return temporary() / f"l2t_ray-{os.getuid()}"
