from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from autoopt.hardware import cpu

MIB = 2**20
UNLIMITED = {"memory/memory.limit_in_bytes": str(2**63 - 4096), "memory/memory.usage_in_bytes": "5"}


def v1(group: str, quota: int) -> dict[str, str]:
    return {f"{group}/cpu.cfs_quota_us": f"{quota}\n", f"{group}/cpu.cfs_period_us": "100000\n"}


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A root folder with this process's control groups and what is in the files of some."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/host/path\n", {"cpu.max": "500000 100000\n"}, 5),
        (
            "3:cpu,cpuacct:/j\n",
            v1("cpu,cpuacct/j", 600000),
            6,
        ),
        (
            "3:cpu,cpuacct:/x\n0::/\n",
            v1("cpu", 700000),
            7,
        ),
        ("3:cpu:/\n", v1("cpu", -1), 16),
        ("", {}, 16),
    ],
)
def test_the_quota_of_control_groups_is_obeyed(
    tmp_path: Path, groups: str, files: dict[str, str], cores: int
) -> None:
    assert cpu.cpu_slots({}, machine(tmp_path, groups, files)) == cores


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(
    ("environment", "cores"),
    [
        ({"SLURM_CPUS_ON_NODE": "8"}, 8),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "2"}, 2),
        ({"SLURM_CPUS_ON_NODE": "64"}, 16),
        ({"SLURM_CPUS_ON_NODE": ""}, 16),
    ],
)
def test_slurm_is_obeyed(tmp_path: Path, environment: dict[str, str], cores: int) -> None:
    assert cpu.cpu_slots(environment, tmp_path) == cores


def test_the_affinity_is_obeyed(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cpu.cpu_slots({}, tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("groups", "files", "room"),
    [
        (
            "0::/job\n",
            {
                "job/memory.max": f"{100 * MIB}\n",
                "job/memory.current": f"{60 * MIB}\n",
                "job/memory.stat": f"anon 5\ninactive_file {20 * MIB}\nactive_file 9\n",
            },
            60 * MIB,
        ),
        ("0::/\n", {"memory.max": f"{100 * MIB}", "memory.current": f"{150 * MIB}"}, 0),
        (
            "4:memory:/j\n",
            {
                "memory/j/memory.limit_in_bytes": f"{80 * MIB}",
                "memory/j/memory.usage_in_bytes": f"{50 * MIB}",
                "memory/j/memory.stat": f"inactive_file 1\ntotal_inactive_file {10 * MIB}\n",
            },
            40 * MIB,
        ),
    ],
)
def test_memory_is_bounded_by_control_groups(
    tmp_path: Path, groups: str, files: dict[str, str], room: int
) -> None:
    assert cpu.available_memory(machine(tmp_path, groups, files)) == room


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/\n", {"memory.max": "max", "memory.current": "5"}),
        ("4:memory:/\n", UNLIMITED),
        ("", {}),
    ],
)
def test_without_a_limit_the_machine_bounds(tmp_path: Path, groups: str, files: dict[str, str]) -> None:
    root = machine(tmp_path, groups, files)
    assert cpu.total_memory(root) == psutil.virtual_memory().total
    assert MIB < cpu.available_memory(root) <= psutil.virtual_memory().total


def test_the_processors_name(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\n")
    assert cpu.cpu_model(tmp_path) == "Fast CPU @ 3 GHz"
    assert cpu.cpu_model()


def test_a_machine_that_others_keep_busy_is_told_and_an_idle_one_is_not() -> None:
    assert "a load of 11.2 on 2 cores" in cpu.busy(11.2, 2)
    assert "on 1 core)" in cpu.busy(1.0, 1)
    assert cpu.busy(1.9, 2) == ""
