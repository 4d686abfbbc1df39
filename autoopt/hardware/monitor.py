"""GPUs watched while trials run: samples from a helper process, read without ever waiting for it. Imports no torch."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from autoopt.hardware.gpu import Process

_INTERVAL = 0.5
_SILENT_SECONDS = 10.0
"""Without an answer of the driver for so long, the GPU counts as not watched."""
_END_SECONDS = 1.0
_ROOT = str(Path(__file__).resolve().parents[2])
_CODE = (
    # The folder of this package comes last: it is needed in a checkout, and must not come before anything installed.
    "import sys; sys.path.append(sys.argv.pop(1)); from autoopt.hardware.watcher import main; main(sys.argv[1:])"
)


@dataclass(frozen=True)
class Sample:
    """A GPU at a moment.

    Args:
        uuid: of the GPU or instance.
        at: `time.monotonic()`, the same clock in all processes of a machine.
        used: bytes in use, by whomever.
        total: bytes that there are.
        processes: on it; None where the driver does not tell.
    """

    uuid: str
    at: float
    used: int
    total: int
    processes: tuple[Process, ...] | None


class Monitor:
    """Looks at GPUs twice a second from a process of its own. No method waits for the driver.

    A driver that is not there, hangs or loses the GPU is told by `trouble` and harms nothing.

    Args:
        uuids: of the GPUs or instances.
        interval: seconds between looks.
        environment: variables over this process's; for tests.

    Raises:
        OSError: the process could not be started.
    """

    def __init__(
        self,
        uuids: Sequence[str],
        interval: float = _INTERVAL,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE, _ROOT, str(interval), *uuids],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C in the terminal is for the run, which needs it to its end
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._rest = b""
        self._heard = time.monotonic()
        self._error = ""
        self._closed = False

    @property
    def pid(self) -> int:
        """Of the process that looks."""
        return self._process.pid

    @property
    def trouble(self) -> str:
        """Why nothing is seen now; empty while all is well."""
        if self._closed:
            return ""
        if self._process.poll() is not None:
            return f"the process that watches the GPU has ended with exit code {self._process.returncode}"
        if self._error:
            return f"the NVIDIA driver says: {self._error}"
        silent = time.monotonic() - self._heard
        return f"the NVIDIA driver has not answered for {silent:.0f} s" if silent > _SILENT_SECONDS else ""

    def samples(self) -> list[Sample]:
        """What has arrived since the last call, oldest first."""
        found = []
        for line in self._lines():
            self._heard = time.monotonic()
            try:
                told = json.loads(line)
            except ValueError:  # what a library prints on its own account
                continue
            self._error = told.get("error", "")
            if not self._error:
                processes = told["processes"]
                found.append(
                    Sample(
                        told["uuid"],
                        told["at"],
                        told["used"],
                        told["total"],
                        None if processes is None else tuple(Process(*process) for process in processes),
                    )
                )
        return found

    def close(self) -> None:
        """Ends the process; one that hangs inside the driver is left to the system. May be called twice."""
        if self._closed:
            return
        self._closed = True
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self._process.stdout.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lines(self) -> list[bytes]:
        while not self._closed:
            try:
                data = os.read(self._output, 65536)
            except BlockingIOError:
                break
            if not data:
                break
            self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        return [line for line in lines if line]
