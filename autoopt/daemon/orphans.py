"""Processes of jobs that outlived their guard: found by the marker in their environment, and ended."""

from __future__ import annotations

import os
import time
from contextlib import suppress

import psutil

from autoopt.daemon import cgroups
from autoopt.daemon.guard import MARKER

_GRACE_SECONDS = 5.0
"""So long a guard whose daemon died may take to end its job by itself."""
_KILL_SECONDS = 5.0
_TICK = 0.02


def marker(home: str, job: str) -> str:
    """The value of the marker: of which daemon's home, and of which job."""
    return f"{home}:{job}"


def group(home: str, job: str) -> str:
    """Name of a job's control group."""
    return f"autoopt-{home}-{job}"


def find(home: str, job: str | None = None) -> list[psutil.Process]:
    """The processes of the jobs of a home, or of one of them; guards too.

    Verified: the marker stands in what the process was started with, and psutil tells a process from another one
    that has got its number meanwhile by its start time.
    """
    prefix = marker(home, job or "")
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with suppress(psutil.Error, OSError):
            # Of other users' processes it cannot be read, and they are none of ours.
            value = process.environ().get(MARKER, "")
            if value == prefix if job else value.startswith(prefix):
                found.append(process)
    return found


def end(home: str, job: str | None = None, grace: float = 0.0) -> int:
    """End them all, after `grace` seconds in which guards may do so by themselves; returns how many it had to kill.

    Raises:
        TimeoutError: one does not die (it is inside a call of a driver); its number is in the message.
    """
    deadline = time.monotonic() + grace
    while (left := find(home, job)) and time.monotonic() < deadline:
        time.sleep(_TICK)
    killed = set()
    for folder in cgroups.left(group(home, job or "")):
        cgroups.end(folder)  # in it are also those who have got rid of the marker
    deadline = time.monotonic() + _KILL_SECONDS
    while left and time.monotonic() < deadline:
        for process in left:
            with suppress(psutil.Error):
                process.kill()
                killed.add(process.pid)
        psutil.wait_procs(left, timeout=0.1)
        # Again from the start: one may have forked while it was being looked for.
        left = [process for process in find(home, job) if _alive(process)]
    if left:
        raise TimeoutError(f"processes {', '.join(str(p.pid) for p in left)} do not die")
    return len(killed)


def end_all(home: str) -> int:
    """At the start of a daemon: whatever an earlier one left. See `end`."""
    return end(home, grace=_GRACE_SECONDS)


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
