"""What this process may use of its machine: CPU cores and memory, within its Linux control groups.

Containers and batch systems set such limits, in files of version 2 or of version 1, for the process' own group or for
one that holds it: https://docs.kernel.org/admin-guide/cgroup-v2.html and
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
"""

import os
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OURS = Path("/proc/self/cgroup")
MEMORY_FILES = [("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")]
CACHED = "inactive_file", "active_file"  # version 1 says total_ where the groups within are counted too


def cores() -> int:
    """The CPU cores that this process may use, at least 1: its affinity, limited by its control groups."""
    return max(1, min([len(os.sched_getaffinity(0)), *_quotas()]))


def memory_bytes() -> int:
    """Bytes of memory that are free for trainings on this machine, within the process' control groups."""
    import psutil

    return max(0, min([int(psutil.virtual_memory().available), *_free_bytes()]))


def _quotas() -> Iterator[int]:
    """The whole cores of each limit."""
    for folder in _groups("cpu"):
        for read in (_quota_2, _quota_1):
            try:
                quota, period = read(folder)
            except (OSError, ValueError):  # no such file, or "max"
                continue
            if quota > 0:  # -1 is no limit
                yield quota // period


def _quota_2(folder: Path) -> tuple[int, int]:
    quota, period = (folder / "cpu.max").read_text().split()
    return int(quota), int(period)


def _quota_1(folder: Path) -> tuple[int, int]:
    return int((folder / "cpu.cfs_quota_us").read_text()), int((folder / "cpu.cfs_period_us").read_text())


def _free_bytes() -> Iterator[int]:
    """What is left of each limit: files that the kernel keeps in memory count as used, and are given up when asked."""
    for folder in _groups("memory"):
        for limit, used in MEMORY_FILES:
            try:
                left = int((folder / limit).read_text()) - int((folder / used).read_text())
                found = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                kept = [int(found.get(f"total_{name}", found.get(name, 0))) for name in CACHED]
            except (OSError, ValueError):  # no such file, or "max"
                continue
            yield left + sum(kept)


def _groups(controller: str) -> Iterator[Path]:
    """Yields the folders of the control groups that this process is in, and of those that hold them."""
    try:
        lines = OURS.read_text().splitlines()
    except OSError:
        return
    for line in lines:  # 0::/path in version 2, 4:cpu,cpuacct:/path in version 1
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            root = GROUPS / controller if controllers else GROUPS
            for folder in (Path(path), *Path(path).parents):
                yield root / folder.relative_to("/")
