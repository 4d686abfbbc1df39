"""A log with a cap: of what is too long the beginning and the end are kept. Standard library only: the guard imports this.

A job writes to two places. What its runner says comes to the guard through a pipe, and goes to `log.txt` and, beyond the
cap, to `log-end.txt`. The trials' workers write files of their own in `out/logs`, whose middle is given back to the file
system when they grow too long: their length stays, and so does what follows.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

HEAD_BYTES = 1 << 20
TAIL_BYTES = 1 << 18
_WORKER_BYTES = 8 << 20
_WORKER_KEPT = 1 << 20
_PUNCH_HOLE = 0x02 | 0x01  # and keep the length


class Log:
    """Takes what a runner says. A full disk loses some of it and harms nothing else.

    Args:
        folder: of the job.
    """

    def __init__(self, folder: Path) -> None:
        self._end_path = folder / "log-end.txt"
        self._head = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._head).st_size
        self._left_out = 0
        self._tail = bytearray()
        self._changed = False

    def write(self, data: bytes) -> None:
        """Add some bytes."""
        room = max(0, HEAD_BYTES - self._size)
        if room:
            with suppress(OSError):
                self._size += os.write(self._head, data[:room])
        if rest := data[room:]:
            self._tail += rest
            if (more := len(self._tail) - TAIL_BYTES) > 0:
                del self._tail[:more]
                self._left_out += more
            self._changed = True

    def flush(self) -> None:
        """Put the end on the disk, where there is one."""
        if not self._changed:
            return
        beside = self._end_path.with_suffix(".tmp")
        with suppress(OSError):
            beside.write_bytes(f"[... {self._left_out} bytes left out ...]\n".encode() + self._tail)
            beside.replace(self._end_path)
            self._changed = False

    def close(self) -> None:
        """Flush, and no more."""
        self.flush()
        os.close(self._head)


def shorten(folder: Path) -> None:
    """Give back the middle of workers' logs in `folder` that have grown too long."""
    try:
        found = list(os.scandir(folder))
    except OSError:
        return
    for entry in found:
        with suppress(OSError):
            status = entry.stat(follow_symlinks=False)
            if entry.is_file(follow_symlinks=False) and status.st_blocks * 512 > _WORKER_BYTES:
                _punch(entry.path, status.st_size)


def _punch(path: str, size: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        length = size - 2 * _WORKER_KEPT
        fallocate = getattr(ctypes.CDLL(None), "fallocate", None)
        if fallocate is not None:
            offsets = ctypes.c_long(_WORKER_KEPT), ctypes.c_long(length)
            if fallocate(descriptor, _PUNCH_HOLE, *offsets) == 0:
                return
        # A file system without holes: only the beginning is kept, and who writes goes on from there.
        os.ftruncate(descriptor, _WORKER_KEPT)
    finally:
        os.close(descriptor)


def read(folder: Path, tail: int) -> str:
    """The last `tail` bytes of what a job said: its runner, then each worker, under a heading."""
    parts = [_end(folder / name, tail) for name in ("log.txt", "log-end.txt")]
    text = b"".join(parts)[-tail:].decode(errors="replace")
    with suppress(OSError):
        for path in sorted((folder / "out" / "logs").iterdir()):
            if said := _end(path, tail).decode(errors="replace"):
                text += f"\n== {path.name} ==\n{said}"
    return text.lstrip("\n")[-tail:]


def _end(path: Path, length: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        size = os.fstat(descriptor).st_size
        begin = max(0, size - length)
        data = os.pread(descriptor, length, begin)
    finally:
        os.close(descriptor)
    return data.lstrip(b"\0") if begin else data
