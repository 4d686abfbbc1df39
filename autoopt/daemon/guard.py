"""The guard of a job: a small process between the daemon and the job's runner that lets nothing outlive its time.

    daemon --(starts)--> guard --(starts)--> runner (`autoopt profile`) --> keepers, workers, anything

It tells how the runner ended, in a file and atomically, so that an end is known also when nobody watched. When
the daemon dies, it ends the job; when it is itself killed, the kernel ends the runner. It is the subreaper of all
that descends from it, so that what left its session or lost its parent is found. It keeps the locks of the leased
devices open until all is ended. What the job says passes through it, so that no log fills the disk. Standard
library only: it costs a bare interpreter.

Input: a line with a JSON object, see `Order`; then "stop" (end the job, gently first); the end of the input is the
end of the daemon. Output: the file `Order.record`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from autoopt.daemon import cgroups, descendants
from autoopt.daemon.logs import Log, shorten

MARKER = "AUTOOPT_JOB"
"""Environment variable of a job's processes: digest of the daemon's home, colon, job."""
NO_SPACE = 75
"""Exit code of a guard that could not write its record, and started nothing."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_RECORD_BYTES = 8192
_ANSWER_BYTES = 1 << 20
_TEXT = 1500
_CHUNK = 1 << 18
_LOOK_SECONDS = 0.25
_PARENT_SECONDS = 1.0
_DRAIN_SECONDS = 0.5
_OOM_SCORE = "600"
"""When memory runs out, the kernel takes a job's process before the daemon's."""


class Order(NamedTuple):
    """What a guard is told."""

    folder: str
    """Of the job."""
    record: str
    """Name of the file in it that tells how it went: {"attempt", "how", ...}."""
    attempt: int
    command: list[str]
    cwd: str
    environment: dict[str, str]
    grace: float
    """Seconds that the runner has after "stop"."""
    cores: list[int] | None = None
    """That its processes may use."""
    answer: str | None = None
    """Name of a file in the folder for the last line of its standard output."""
    group: str = ""
    """Name of the control group."""


def main() -> NoReturn:
    """Runs until all of the job is ended."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    parent = os.getppid()
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(0, 1 << 16)
        if not data:  # the daemon died before it had said anything
            os._exit(0)
        line += data
    head, _, rest = line.partition(b"\n")
    _Guard(Order(**json.loads(head)), parent, rest).run()
    os._exit(0)


class _Guard:
    def __init__(self, order: Order, parent: int, commands: bytes) -> None:
        self._order, self._parent = order, parent
        self._folder = Path(order.folder)
        self._stop = b"stop" in commands
        self._gone = False
        self._said = bytearray()
        self._answer = bytearray()
        self._told: dict[str, Any] = {
            "attempt": order.attempt,
            "pid": os.getpid(),
            "boot": boot(),
            "began": time.time(),
        }
        try:
            self._begin()
            self._log = Log(self._folder)
        except OSError:
            os._exit(NO_SPACE)
        self._group = cgroups.make(order.group) if order.group else None

    def run(self) -> None:
        try:
            runner = self._start()
        except OSError as error:
            what = error.filename or self._order.command[0]
            self._end("not_started", said=f"{what}: {error.strerror}")
            return
        how = self._watch(runner)
        killed = descendants.kill_all(runner, self._group)
        status = killed if runner.returncode is None else runner.returncode
        self._drain(runner)
        code = status if status is not None and status >= 0 else None
        number = -status if status is not None and status < 0 else None
        self._end(how, code=code, signal=number)

    def _start(self) -> subprocess.Popen[bytes]:
        order, guard = self._order, os.getpid()
        libc = ctypes.CDLL(None) if sys.platform == "linux" else None

        def prepare() -> None:
            if libc is not None:
                libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
                if os.getppid() != guard:  # it died before prctl
                    os._exit(1)
                with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
                    file.write(_OOM_SCORE)
            if self._group is not None:
                cgroups.enter(self._group)
            if order.cores is not None and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, order.cores)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)

        return subprocess.Popen(
            order.command,
            cwd=order.cwd,
            env=order.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=prepare,
        )

    def _watch(self, runner: subprocess.Popen[bytes]) -> str:
        """Waits for the end of the runner, of the daemon, or of patience; says which it was."""
        assert runner.stdout is not None
        assert runner.stderr is not None
        poll = select.poll()
        takers: dict[int, Callable[[bytes], None]] = {
            runner.stdout.fileno(): self._take_answer,
            runner.stderr.fileno(): self._take_log,
        }
        for fd in takers:
            os.set_blocking(fd, False)
            poll.register(fd, select.POLLIN)
        os.set_blocking(0, False)
        poll.register(0, select.POLLIN)
        if hasattr(os, "pidfd_open"):
            poll.register(os.pidfd_open(runner.pid), select.POLLIN)
        patience, looked, parent_seen = None, time.monotonic(), time.monotonic()
        while True:
            for fd, event in poll.poll(_LOOK_SECONDS * 1000):
                if fd == 0:
                    self._hear()
                elif (
                    fd in takers
                    and not self._pump(fd, takers[fd])
                    and event & (select.POLLHUP | select.POLLERR)
                ):
                    poll.unregister(fd)
            if descendants.ended(runner):
                return "stopped" if patience is not None else "ended"
            now = time.monotonic()
            if now - parent_seen > _PARENT_SECONDS:
                # The daemon's end of the pipe can survive it in a child that it was just about to start.
                self._gone, parent_seen = self._gone or os.getppid() != self._parent, now
            if self._gone:
                return "orphaned"
            if self._stop and patience is None:
                patience = now + self._order.grace
                with contextlib.suppress(ProcessLookupError):
                    runner.send_signal(signal.SIGTERM)
            if patience is not None and now > patience:
                return "stopped"
            if now - looked > _LOOK_SECONDS:
                shorten(self._folder / "out" / "logs")
                self._log.flush()
                looked = now

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(0, 4096)
            self._gone = self._gone or not data
            self._stop = self._stop or b"stop" in data

    def _pump(self, fd: int, take: Callable[[bytes], None]) -> bool:
        """One chunk, so that nobody who talks without end keeps the guard from its other work."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        if data:
            take(data)
        return bool(data)

    def _take_log(self, data: bytes) -> None:
        self._log.write(data)
        self._said += data
        del self._said[: -4 * _TEXT]

    def _take_answer(self, data: bytes) -> None:
        # What is wanted of standard output is its last line: the answer, or the error, as JSON.
        self._answer += data
        del self._answer[:-_ANSWER_BYTES]

    def _drain(self, runner: subprocess.Popen[bytes]) -> None:
        assert runner.stdout is not None
        assert runner.stderr is not None
        deadline = time.monotonic() + _DRAIN_SECONDS
        for stream, take in ((runner.stdout, self._take_answer), (runner.stderr, self._take_log)):
            with contextlib.suppress(BlockingIOError):
                while time.monotonic() < deadline and (data := os.read(stream.fileno(), _CHUNK)):
                    take(data)
        shorten(self._folder / "out" / "logs")
        self._log.close()

    def _begin(self) -> None:
        """The record of a job that runs; and room for that of its end, which must be written on a full disk too."""
        room = os.open(self._folder / self._room, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(room, b" " * _RECORD_BYTES)
            os.fsync(room)
        finally:
            os.close(room)
        beside = self._folder / f".{self._order.record}.tmp"
        with beside.open("wb") as stream:
            stream.write(json.dumps({**self._told, "how": "running"}).encode())
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(self._folder / self._order.record)

    @property
    def _room(self) -> str:
        return f".{self._order.record}.end"

    def _end(
        self, how: str, *, code: int | None = None, signal: int | None = None, said: str | None = None
    ) -> None:
        last = bytes(self._answer).rstrip(b"\n").rpartition(b"\n")[2]
        told = {**self._told, "how": how, "code": code, "signal": signal, "error": _error(last)}
        told["ended"] = time.time()
        told["said"] = said or bytes(self._said).decode(errors="replace")[-_TEXT:]
        if self._order.answer is not None and code == 0:
            with contextlib.suppress(OSError):
                (self._folder / self._order.answer).write_bytes(last)
        text = json.dumps(told).encode()
        if len(text) > _RECORD_BYTES:
            text = json.dumps({**told, "said": ""}).encode()
        room = self._folder / self._room
        descriptor = os.open(room, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # In place, over the blanks: this takes no new block of the disk.
            os.pwrite(descriptor, text, 0)
            os.ftruncate(descriptor, len(text))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        room.replace(self._folder / self._order.record)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _error(line: bytes) -> dict[str, Any] | None:
    """The error that the command line printed as JSON, if that is what the line is."""
    if not line.startswith(b'{"error"'):
        return None
    try:
        found = json.loads(line)["error"]
        return {
            "kind": str(found["kind"])[:80],
            "message": str(found["message"])[:_TEXT],
            "hint": str(found["hint"])[: _TEXT // 2],
            "exit_code": int(found["exit_code"]),
        }
    except (ValueError, KeyError, TypeError):
        return None


def boot() -> str:
    """Tells one start of the machine from another."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def prctl(option: int, value: int) -> None:
    """Linux's call of that name; nothing elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


if __name__ == "__main__":
    main()
