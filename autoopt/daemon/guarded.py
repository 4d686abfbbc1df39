"""A guard as the daemon holds it: started, told to stop, and what it told in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from autoopt.daemon.guard import MARKER, Order

_ROOT = str(Path(__file__).resolve().parents[2])
_CODE = (
    # This very package, also where another one is installed; and nothing else from its folder.
    "import sys, typing; sys.path.insert(0, sys.argv[1]); import autoopt; del sys.path[0]; "
    "from autoopt.daemon.guard import main; main()"
)


ERRORS = "guard-errors.txt"
"""In a job's folder: what a guard printed, which is nothing unless there is a bug in it."""


class Guarded:
    """A guard that was started.

    Args:
        order: what it is told.
        locks: descriptors of the leases that it keeps while its job lives.

    Raises:
        OSError: it could not be started (no processes left, no memory).
    """

    def __init__(self, order: Order, locks: Sequence[int] = ()) -> None:
        self.order = order
        try:
            errors = os.open(Path(order.folder) / ERRORS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError:  # a full disk: the guard itself will find that out
            errors = os.open(os.devnull, os.O_WRONLY)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            MARKER: order.environment.get(MARKER, ""),
        }
        try:
            self._process = subprocess.Popen(
                # -I: nothing of the user's, neither variables nor packages of their own, has a say in the guard.
                [sys.executable, "-I", "-c", _CODE, _ROOT],
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
                pass_fds=locks,
                start_new_session=True,
            )
        finally:
            os.close(errors)
        assert self._process.stdin is not None
        self._commands = self._process.stdin
        with suppress(BrokenPipeError):  # it was killed already: `ended` will tell
            self._commands.write(json.dumps(order._asdict()).encode() + b"\n")
            self._commands.flush()
        self.descriptor = -1
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):
                self.descriptor = os.pidfd_open(self._process.pid)
        """Readable when the guard has ended; -1 where there is no such thing."""

    @property
    def pid(self) -> int:
        """Of the guard."""
        return self._process.pid

    def stop(self) -> None:
        """Has the runner asked to end, and ended if it does not."""
        with suppress(OSError, ValueError):
            self._commands.write(b"stop\n")
            self._commands.flush()

    def abandon(self) -> None:
        """Has everything ended at once, as when the daemon dies."""
        with suppress(OSError):
            self._commands.close()

    def kill(self) -> None:
        """For a guard that does not end: the kernel then ends the runner."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)

    def ended(self) -> bool:
        """Whether it has; never waits."""
        return self._process.poll() is not None

    def wait(self, timeout: float) -> bool:
        """Whether it ends within `timeout` seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        return self.ended()

    @property
    def code(self) -> int | None:
        """Exit code of the guard itself."""
        return self._process.returncode

    def close(self) -> None:
        """Frees what belongs to it; one that has not ended is left to end by itself. Doing it twice is harmless."""
        self.abandon()
        if not self.ended():
            threading.Thread(target=self._process.wait, name="autoopt-guard", daemon=True).start()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def record(self) -> dict[str, Any] | None:
        """What it told; see `read_record`."""
        return read_record(Path(self.order.folder) / self.order.record, self.order.attempt)


def read_record(path: Path, attempt: int) -> dict[str, Any] | None:
    """What a guard told of an attempt; `None` when it told nothing, or what it told is damaged."""
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(told, dict) or told.get("attempt") != attempt or not isinstance(told.get("how"), str):
        return None
    return told


def order_for(
    folder: Path,
    *,
    record: str,
    attempt: int,
    command: list[str],
    cwd: str,
    environment: Mapping[str, str],
    grace: float,
    group: str,
    cores: list[int] | None = None,
    answer: str | None = None,
) -> Order:
    """An order, with the variables that a process can be given."""
    usable = {k: v for k, v in environment.items() if k and "=" not in k and "\0" not in k + v}
    return Order(str(folder), record, attempt, command, cwd, usable, grace, cores, answer, group)
