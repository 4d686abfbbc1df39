"""Cores and memory that this process may use: affinity, control groups (v1 and v2), Slurm."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

_ROOT = Path("/")


def cpu_slots(environment: Mapping[str, str] | None = None, root: Path = _ROOT) -> int:
    """Number of cores that this process may keep busy, at least 1.

    The least of the processor affinity, the control groups' quota (rounded down) and what Slurm granted.

    Args:
        environment: environment variables; None: this process's.
        root: where /proc and /sys are; for tests.

    Example:
        >>> cpu_slots() >= 1
        True
    """
    limits = [_affinity()]
    quota = _quota(root)
    if quota is not None:
        limits.append(math.floor(quota))
    granted = _slurm_cpus(os.environ if environment is None else environment)
    if granted is not None:
        limits.append(granted)
    return max(1, min(limits))


def busy(load: float | None = None, cores: int | None = None) -> str:
    """Says that others keep the processors busy, before a run of ours begins; "" where they do not.

    Args:
        load: processes that run or wait to run, a mean over the last minute; None: the system's.
        cores: None: the machine's.

    Example:
        >>> busy(11.2, 2)
        'other processes kept the processors busy as the run began (a load of 11.2 on 2 cores): steps take longer than alone'
        >>> busy(1.5, 2)
        ''
    """
    now = psutil.getloadavg()[0] if load is None else load
    total = cores or os.cpu_count() or 1
    if now < total:
        return ""
    return (
        f"other processes kept the processors busy as the run began (a load of {now:.3g} on {total} core"
        f"{'s' * (total > 1)}): steps take longer than alone"
    )


def available_memory(root: Path = _ROOT) -> int:
    """Bytes that can be allocated now: the machine's, or what is left under a control group's limit."""
    return min([int(psutil.virtual_memory().available), *_room_in_groups(root)])


def total_memory(root: Path = _ROOT) -> int:
    """Bytes of memory: the machine's, or a control group's limit where that is lower."""
    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in _memory_groups(root))])


def cpu_model(root: Path = _ROOT) -> str:
    """The processor's name as the system gives it."""
    try:
        for line in (root / "proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model", "Hardware"):
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def _slurm_cpus(environment: Mapping[str, str]) -> int | None:
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        value = environment.get(name, "")
        if value.isdecimal() and int(value) > 0:
            return int(value)
    return None


def _quota(root: Path) -> float | None:
    """Cores per second of the tightest control group, None without a limit."""
    quotas = []
    for group in _groups(root, ""):
        fields = _words(group / "cpu.max")
        if len(fields) == 2 and fields[0] != "max":
            quotas.append(int(fields[0]) / int(fields[1]))
    for group in _groups(root, "cpu"):
        limit, period = _integer(group / "cpu.cfs_quota_us"), _integer(group / "cpu.cfs_period_us")
        if limit is not None and period is not None and limit > 0 and period > 0:
            quotas.append(limit / period)
    return min(quotas, default=None)


def _room_in_groups(root: Path) -> list[int]:
    return [max(0, limit - used) for limit, used in _memory_groups(root)]


def _memory_groups(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, bytes in use that cannot be reclaimed) of every control group that limits memory."""
    total = int(psutil.virtual_memory().total)
    for controller, limit_name, used_name in (
        ("", "memory.max", "memory.current"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        for group in _groups(root, controller):
            limit, used = _integer(group / limit_name), _integer(group / used_name)
            # Version 1 says "no limit" by a huge number.
            if limit is None or used is None or limit > total:
                continue
            # The page cache counts as used, but its inactive part is given up before anything is killed.
            cache = "inactive_file" if controller == "" else "total_inactive_file"
            yield limit, max(0, used - _statistic(group / "memory.stat", cache))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's control group and all above it; "" is the unified hierarchy (version 2)."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, names, path = line.split(":", 2)
        unified = number == "0" and names == ""
        if controller == "" and unified:
            mounts = [root / "sys/fs/cgroup"]
        elif controller and controller in names.split(","):
            mounts = [root / "sys/fs/cgroup" / name for name in dict.fromkeys([names, controller])]
        else:
            continue
        # A container may see a path of its host that is not mounted here; its limits are then at the mount.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for mount in mounts:
            for depth in range(len(parts), -1, -1):
                group = mount.joinpath(*parts[:depth])
                if group.is_dir():
                    yield group


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _integer(path: Path) -> int | None:
    words = _words(path)
    try:
        return int(words[0]) if len(words) == 1 else None
    except ValueError:  # "max"
        return None


def _statistic(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)
