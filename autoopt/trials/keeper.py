"""The keeper: a small process between coordinator and worker that lets nothing outlive its time.

    coordinator --(starts)--> keeper --(forks)--> worker --> loader processes, anything else

The worker may crash, hang inside C code with the interpreter's lock held, or leave processes behind; the
coordinator may be killed with -9. None of them can clean up then. The keeper does nothing but wait for the
end of either, kill all that descends from the worker, and tell the coordinator how the worker died. On Linux
it is the subreaper of its descendants, so that those which left the process group, or whose parent is dead,
are found as well. The worker is forked off before any heavy import: a keeper costs a bare interpreter.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from types import FrameType
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_KILL_SECONDS = 3.0
"""So long a killed process may take to go; longer only in an uninterruptible call of a driver."""

SHOW_AND_DIE = signal.SIGUSR1
"""Sent to the keeper: the worker writes the stacks of all its threads to its log and dies (SIGABRT)."""


def fork_under_keeper(commands: int, replies: int) -> None:
    """Forks; returns in the child, which becomes the worker, while this process stays on as its keeper.

    Must be called while the process has a single thread.

    Args:
        commands: read end of the command pipe; the keeper watches it for the coordinator's end only.
        replies: write end of the reply pipe; the keeper writes the last line.
    """
    coordinator = os.getppid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    keeper = os.getpid()
    worker = os.fork()
    if worker == 0:
        os.setpgid(0, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:  # it died before prctl
            os._exit(1)
        return
    _keep(worker, coordinator, commands, replies)


def _keep(worker: int, coordinator: int, commands: int, replies: int) -> NoReturn:
    def abort(_signal: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGABRT)

    # A terminal, a shell or a batch system that signals everything must not end the keeper before the worker.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(SHOW_AND_DIE, abort)

    status = _watch(worker, coordinator, commands)
    signal.signal(SHOW_AND_DIE, signal.SIG_IGN)
    status = _kill_all(worker, status)
    signalled = status is not None and os.WIFSIGNALED(status)
    code = os.WEXITSTATUS(status) if status is not None and not signalled else None
    number = os.WTERMSIG(status) if status is not None and signalled else None
    # A worker that died while writing has left half a line: the newline ends it.
    line = json.dumps({"kind": "ended", "code": code, "signal": number})
    with contextlib.suppress(OSError):
        os.write(replies, f"\n{line}\n".encode())
    os._exit(0)


def _watch(worker: int, coordinator: int, commands: int) -> int | None:
    """Waits for the worker's end and returns its status, or for the coordinator's and returns None."""
    poll = select.poll()
    poll.register(commands, 0)  # no data wanted: hang-up and error are always reported
    gap = 0.05
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            poll.register(os.pidfd_open(worker), select.POLLIN)
            # The coordinator's end of the pipe can survive it in a child that it forked; hence still a look
            # now and then at who the parent is.
            gap = 1.0
    while True:
        gone = any(
            event & (select.POLLHUP | select.POLLERR) for fd, event in poll.poll(gap * 1000) if fd == commands
        )
        # Any child: orphans of the worker's become ours, and must not pile up as zombies.
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            if ended[0] == worker:
                return ended[1]
        if gone or os.getppid() != coordinator:
            return None


def _kill_all(worker: int, status: int | None) -> int | None:
    """Kills the worker's group and every other descendant; returns the worker's status."""
    deadline = time.monotonic() + _KILL_SECONDS
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    while time.monotonic() < deadline:
        try:
            pid, ended = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:  # nobody is left
            return status
        if pid == worker:
            status = ended
        elif pid == 0:
            _kill_descendants()
            time.sleep(0.01)
    return status


def _kill_descendants() -> None:
    import psutil

    with contextlib.suppress(psutil.Error):
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)
