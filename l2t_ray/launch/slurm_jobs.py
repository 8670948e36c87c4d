"""The Slurm jobs of a sweep: submits them through submitit, and asks squeue which of them wait or run."""

import importlib.util
import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from l2t_ray.errors import InputError, count
from l2t_ray.files import write_atomic

CLUSTER = "slurm"  # as submitit names it; tests use its "local"
QUEUE_S = 15.0  # between questions to squeue
MOST_SESSIONS = 100  # of a job that is requeued at its time limit
OF_CLUSTER = ("SLURM_CONF", "SLURM_CLUSTERS")  # where Slurm is; its other variables are of one job


def check(options: Mapping[str, Any]) -> None:
    """Checks what submitting needs, before anything else takes its time.

    Args:
        options: of sbatch, by their names.

    Raises:
        InputError: if sbatch, submitit or the time limit is missing.
    """
    if importlib.util.find_spec("submitit") is None:
        raise InputError("--backend slurm: submitit must be installed; pip install submitit")
    if CLUSTER == "slurm" and shutil.which("sbatch") is None:
        raise InputError("--backend slurm: sbatch must be on the PATH; launch where it is, or with another backend")
    if type(limit := options.get("time")) is not int:
        law = "must hold `time`, a job's limit in whole minutes"
        raise InputError(f"execution.slurm: {law}, got {limit!r}; write {{time: 240}}")


class Jobs:
    """The jobs of a sweep: those that are submitted now, and those of earlier launches that have not ended.

    Args:
        folder: for submitit, and the list of jobs.

    Raises:
        InputError: if there were jobs before and Slurm does not say whether they have ended.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._file = folder, folder / "jobs.json"
        self._keys: dict[str, list[str]] = {}
        self._jobs: dict[str, Any] = {}  # of this process, as submitit's objects
        self._asked_at, self._queued = -math.inf, set[str]()
        with suppress(FileNotFoundError, ValueError):
            before = json.loads(self._file.read_bytes())
            queued = _queued(before) if CLUSTER == "slurm" else set()
            if queued is None:
                raise InputError(f"{self._file}: squeue must say which of these jobs have ended; launch again later")
            self._queued = queued
            self._keys = {job: keys for job, keys in before.items() if job in self._queued}

    def __len__(self) -> int:
        return len(self._keys)

    def __str__(self) -> str:
        return f"{count(len(self._keys), 'Slurm job')} ({', '.join(self._arrays)})"

    @property
    def _arrays(self) -> list[str]:
        return sorted({job.partition("_")[0] for job in self._keys})

    @property
    def cancel_command(self) -> str:
        """What ends them."""
        return f"scancel {' '.join(self._arrays)}"

    def submit(
        self, parts: Mapping[tuple[str, ...], Callable[[], int]], options: Mapping[str, Any], sweep: str
    ) -> None:
        """Submits an array with a job for each part, and notes it.

        Args:
            parts: the keys of a job's runs, and what it calls.
            options: of sbatch, by their names.
            sweep: the array's name.

        Raises:
            InputError: as `check` does, or if sbatch refuses.
        """
        check(options)
        import submitit

        found = {name.replace("-", "_"): value for name, value in options.items()}
        named = {name: found.pop(name) for name in ("time", "nodes", "ntasks_per_node") if name in found}
        kind = submitit.SlurmExecutor if CLUSTER == "slurm" else submitit.LocalExecutor
        executor = kind(self._folder / "%j", max_num_timeout=MOST_SESSIONS)
        try:
            executor.update_parameters(**named, job_name=f"l2t-{sweep}", additional_parameters=found)
            with _outside_jobs(), executor.batch():
                jobs = [executor.submit(part) for part in parts.values()]
        except submitit.core.utils.FailedJobError as error:  # sbatch has told why on stderr
            raise InputError(f"execution.slurm: must be what sbatch takes, got {dict(options)}; correct it") from error
        for job, keys in zip(jobs, parts, strict=True):
            self._jobs[job.job_id], self._keys[job.job_id] = job, [*keys]
        write_atomic(self._file, json.dumps(self._keys).encode())
        self._queued |= self._keys.keys()
        self._asked_at = time.monotonic()

    def alive(self) -> dict[str, list[str]]:
        """The jobs that wait or run, with the keys of their runs."""
        if CLUSTER != "slurm":
            return {job: keys for job, keys in self._keys.items() if job in self._jobs and not self._jobs[job].done()}
        if self._keys and time.monotonic() - self._asked_at >= QUEUE_S:
            queued = _queued(self._keys)
            self._queued = self._queued if queued is None else queued  # None: squeue does not answer
            self._asked_at = time.monotonic()
        return {job: keys for job, keys in self._keys.items() if job in self._queued}

    def logs(self, keys: Collection[str]) -> list[Path]:
        """The error logs of the jobs to which these runs belong."""
        jobs = [job for job, mine in self._keys.items() if not {*keys}.isdisjoint(mine)]
        return [path for job in jobs for path in sorted(self._folder.glob(f"*/{job}_*_log.err"))]


@contextmanager
def _outside_jobs() -> Iterator[None]:
    """Hides the job that this process may be in: a job that it submits would inherit that one's cores and tasks."""
    names = [name for name in os.environ if name.startswith("SLURM_") and name not in OF_CLUSTER]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _queued(jobs: Iterable[str]) -> set[str] | None:
    """Those of the jobs that Slurm's queue holds; None if it does not answer."""
    arrays = ",".join(sorted({job.partition("_")[0] for job in jobs}))
    command = ["squeue", "--noheader", "--array", "--format=%F %K", f"--jobs={arrays}"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if told.returncode and "Invalid job id" not in told.stderr:  # Slurm forgets jobs that ended minutes ago
        return None
    rows = [line.split() for line in told.stdout.splitlines() if line.strip()]
    return {job if index == "N/A" else f"{job}_{index}" for job, index in rows}
