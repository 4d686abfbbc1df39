"""All that descends from a guard: reaped when it ends, killed when its time is over.

Standard library only: the guard imports this.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from autoopt.daemon import cgroups

_KILL_SECONDS = 3.0
_PROC = Path("/proc")


def ended(runner: subprocess.Popen[bytes]) -> bool:
    """Whether the runner has ended; orphans that became the guard's are reaped on the way."""
    if runner.poll() is not None:
        return True
    while True:
        try:
            # Not waitpid: the runner's status is for Popen to collect.
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return runner.poll() is not None
        if found is None:
            return False
        if found.si_pid == runner.pid:
            return runner.poll() is not None
        with contextlib.suppress(ChildProcessError):
            os.waitpid(found.si_pid, os.WNOHANG)


def kill_all(runner: subprocess.Popen[bytes], group: Path | None) -> int | None:
    """Kills everything that descends from the guard; returns the runner's status (negative: signal)."""
    if group is not None:
        cgroups.end(group)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(runner.pid, signal.SIGKILL)
    deadline = time.monotonic() + _KILL_SECONDS
    while time.monotonic() < deadline:
        runner.poll()
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:  # nobody is left
            break
        if pid == runner.pid:
            runner.returncode = os.waitstatus_to_exitcode(status)
        elif pid == 0:
            kill(os.getpid())
            time.sleep(0.005)
    return runner.returncode


def kill(ancestor: int) -> None:
    """Kills what descends from a process now, and not the process; nothing where there is no /proc.

    What is born meanwhile is for the next call. (Where there is no /proc there is no subreaper either: what lost its parent
    is not the guard's any more, and the marker in its environment finds it.)
    """
    alive = _processes()
    children: dict[int, list[int]] = {}
    for pid, process in alive.items():
        children.setdefault(process.parent, []).append(pid)
    found = children.pop(ancestor, [])
    while found:
        pid = found.pop()
        found += children.pop(pid, [])
        # The number may be another process's by now, which then began later. Its parent may have changed, too.
        now = _process(pid)
        if now is not None and now.began == alive[pid].began:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


class _Process(NamedTuple):
    parent: int
    began: int
    """In ticks of the kernel's clock since the machine started."""


def _processes() -> dict[int, _Process]:
    try:
        numbers = [int(name) for name in os.listdir(_PROC) if name.isdecimal()]  # noqa: PTH208
    except OSError:
        return {}
    return {pid: found for pid in numbers if (found := _process(pid)) is not None}


def _process(pid: int) -> _Process | None:
    """Read from /proc/<pid>/stat, see proc_pid_stat(5); `None` when it is gone."""
    try:
        line = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # Its name comes before, in parentheses, and may have parentheses and blanks in it.
    fields = line.rpartition(b")")[2].split()
    return _Process(int(fields[1]), int(fields[19]))
