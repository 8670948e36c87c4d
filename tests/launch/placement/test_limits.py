"""Cores and memory within control groups, from files in the kernel's format."""

import os

import psutil
import pytest

from l2t_ray.launch.placement import limits

GIB = 2**30
N_CORES = len(os.sched_getaffinity(0))


@pytest.fixture
def group(tmp_path, monkeypatch):
    """Writes the files of this process' control groups."""
    monkeypatch.setattr(limits, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(limits, "OURS", tmp_path / "cgroup")

    def write(ours, **files):
        (tmp_path / "cgroup").write_text(ours)
        for name, content in files.items():
            file = tmp_path / "groups" / name.replace("__", "/").replace("_of_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{content}\n")

    return write


def memory_2(folder, most, used, *, inactive=0, active=0):
    return {
        f"{folder}memory_of_max": most,
        f"{folder}memory_of_current": used,
        f"{folder}memory_of_stat": f"anon 5\nfile 7\ninactive_file {inactive}\nactive_file {active}\nslab 3",
    }


def test_without_a_limit_the_machine_counts(group):
    group("0::/\n", **memory_2("", "max", 5 * GIB), cpu_of_max="max 100000")
    assert limits.cores() == N_CORES
    assert limits.memory_bytes() == pytest.approx(psutil.virtual_memory().available, rel=0.1)


def test_without_control_groups_the_machine_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "OURS", tmp_path / "none")
    assert limits.cores() == N_CORES
    assert limits.memory_bytes() == pytest.approx(psutil.virtual_memory().available, rel=0.1)


def test_a_container_has_what_its_limit_leaves(group):
    group("0::/\n", **memory_2("", GIB, 3 * GIB // 4), cpu_of_max="100000 100000")
    assert limits.cores() == 1
    assert limits.memory_bytes() == GIB // 4


def test_files_that_the_kernel_keeps_in_memory_are_free(group):
    group("0::/\n", **memory_2("", GIB, GIB, inactive=GIB // 2, active=GIB // 8))
    assert limits.memory_bytes() == GIB // 2 + GIB // 8


def test_a_limit_of_an_outer_group_counts(group):
    outer = memory_2("slurm__job_7__", GIB // 4, 0)
    group(
        "0::/slurm/job_7/step_0/user\n",
        **memory_2("slurm__job_7__step_0__", "max", 0), **outer, **memory_2("slurm__", GIB, 0),
        slurm__job_7__cpu_of_max="50000 100000",
    )  # fmt: skip
    assert limits.cores() == 1  # a half is no core, and one is the least
    assert limits.memory_bytes() == GIB // 4


def test_version_1_is_read_too(group):
    job = "memory__slurm__job_7__"
    group(
        "9:name=systemd:/\n4:memory:/slurm/job_7\n3:cpuacct,cpu:/slurm/job_7\n0::/\n",
        **{
            f"{job}memory_of_limit_in_bytes": GIB,
            f"{job}memory_of_usage_in_bytes": GIB,
            f"{job}memory_of_stat": f"inactive_file 0\ntotal_inactive_file {GIB // 2}\ntotal_active_file {GIB // 4}",
            "memory__memory_of_limit_in_bytes": 2**63 - 4096,
            "memory__memory_of_usage_in_bytes": GIB,
            "memory__memory_of_stat": "total_inactive_file 0\ntotal_active_file 0",
            "cpu__slurm__job_7__cpu_of_cfs_quota_us": 150000,
            "cpu__slurm__job_7__cpu_of_cfs_period_us": 100000,
            "cpu__cpu_of_cfs_quota_us": -1,
            "cpu__cpu_of_cfs_period_us": 100000,
        },
    )
    assert limits.cores() == 1
    assert limits.memory_bytes() == 3 * GIB // 4


def test_more_than_the_limit_leaves_nothing(group):
    group("0::/\n", **memory_2("", GIB, 2 * GIB))
    assert limits.memory_bytes() == 0
