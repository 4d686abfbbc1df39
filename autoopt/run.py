"""A run is a folder, and `events.jsonl` in it is its only truth: resuming is replaying.

Each event is one line, flushed to the disk before `append` returns. A process that is killed in the middle of
a line leaves that line torn; `Run.open` cuts it off. The folder is locked while a `Run` has it open.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from filelock import FileLock, Timeout

from autoopt.errors import RunError
from autoopt.files import plain, raise_unwritable, sync_folder
from autoopt.journal import FILE_NAME, has_run, parse, read, replay
from autoopt.records import Event

_LOCK = ".lock"
_HOLDER = ".holder"
_RESULTS = ("recommendation.yaml", "train.py", "report.html")


class Run:
    """A run's folder, locked and open for appending. Make one by `create` or `open`; it is a context manager.

    Example:
        >>> import tempfile
        >>> from autoopt.journal import replay
        >>> from autoopt.records import Noted
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Run.create(Path(folder) / "out") as run:
        ...         run.append(Noted(at=0.0, text="hello"))
        ...     [event.text for event in replay(run.folder)]
        ['hello']
    """

    def __init__(self, folder: Path, lock: FileLock) -> None:
        self.folder = folder
        self.moved: Path | None = None
        """Where an earlier run of this folder went."""
        self.dropped_bytes = 0
        """Length of the torn last line that `open` cut off; for `RunResumed`."""
        self._lock = lock
        self._stream = -1
        self._size = 0

    @classmethod
    def create(cls, out: str | os.PathLike[str], *, stay: Sequence[Path] = ()) -> Run:
        """Start a run in the folder `out`; a run that is there moves to `<out>.1` (the next free number).

        Args:
            out: the folder; made if need be.
            stay: files that must not move along with an old run, such as the user's model file.

        Raises:
            RunError: in use by another process; or moving the old run would move files of the user; or the
                folder holds results that no run of ours wrote.
        """
        folder = Path(os.path.realpath(out))
        _make(folder)
        lock = _locked(folder)
        try:
            moved = None
            if _holds_events(folder) and not _holds_trials(folder):
                for name in (FILE_NAME, *_RESULTS):
                    (folder / name).unlink(missing_ok=True)
            elif _holds_events(folder):
                _refuse_to_move(folder, stay)
                moved = _next_free(folder)
                _rename(folder, moved)
                # A process that waits with this file open must not take it for the new folder's lock.
                (moved / _LOCK).unlink(missing_ok=True)
                _make(folder)
                old, lock = lock, _locked(folder)
                old.release()
            else:
                _refuse_foreign(folder)
            run = cls(folder, lock)
            run.moved = moved
            run._open_stream()
        except BaseException:
            lock.release()
            raise
        return run

    @classmethod
    def open(cls, out: str | os.PathLike[str]) -> Run:
        """Open the run in the folder `out` to go on with it; a torn last line is cut off.

        Raises:
            RunError: no run there, in use by another process, or damaged before its last line.
        """
        folder = Path(os.path.realpath(out))
        if not has_run(folder):
            raise RunError(f"There is no run to resume in {out}.", "Leave out --resume to start one.")
        lock = _locked(folder)
        try:
            whole, torn = read(folder / FILE_NAME)
            parse(whole, folder / FILE_NAME)
            run = cls(folder, lock)
            run.dropped_bytes = len(torn)
            run._open_stream()
            if torn:
                run._size = len(whole)
                os.ftruncate(run._stream, run._size)
                os.fsync(run._stream)
        except BaseException:
            lock.release()
            raise
        return run

    @property
    def recommendation(self) -> Path:
        """Where recommendation.yaml goes."""
        return self.folder / "recommendation.yaml"

    @property
    def script(self) -> Path:
        """Where train.py goes."""
        return self.folder / "train.py"

    @property
    def report(self) -> Path:
        """Where report.html goes."""
        return self.folder / "report.html"

    @property
    def events_file(self) -> Path:
        """The events, one JSON object a line."""
        return self.folder / FILE_NAME

    @property
    def logs(self) -> Path:
        """Folder of the workers' logs."""
        return self.folder / "logs"

    def append(self, event: Event) -> None:
        """Add an event; it is on the disk when this returns, and not in the file at all if this raises.

        Raises:
            RunError: the disk is full, or the file cannot be written to.
        """
        line = json.dumps(plain(event), ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._stream, rest) :]
            os.fsync(self._stream)
        except BaseException as error:
            # Half a line in the middle would spoil the file for whatever is appended after it.
            os.ftruncate(self._stream, self._size)
            if isinstance(error, OSError):
                raise_unwritable(error, self.events_file, "What was recorded before is whole.")
            raise
        self._size += len(line)

    def events(self) -> list[Event]:
        """All events so far."""
        return replay(self.folder)

    def close(self) -> None:
        """Give the folder free. Doing it twice is harmless."""
        if self._stream >= 0:
            os.close(self._stream)
            self._stream = -1
            (self.folder / _HOLDER).unlink(missing_ok=True)
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_stream(self) -> None:
        try:
            self._stream = os.open(self.events_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            self._size = os.fstat(self._stream).st_size
            sync_folder(self.folder)
        except OSError as error:
            raise_unwritable(error, self.events_file, "Nothing was recorded.")


def in_use(folder: str | os.PathLike[str]) -> bool:
    """Whether a process of this machine has the run open, as far as its folder tells; takes no lock.

    >>> in_use("no-such-folder")
    False
    """
    try:
        holder = int(json.loads((Path(folder) / _HOLDER).read_text())["pid"])
        os.kill(holder, 0)
    except PermissionError:
        return True  # another user's
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise_unwritable(error, folder, "Nothing was changed.")


def _locked(folder: Path) -> FileLock:
    # The lock goes with the process, however it dies; the holder's file only says who it was.
    lock = FileLock(folder / _LOCK, blocking=False, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        _refuse_in_use(folder)
    except OSError as error:
        raise_unwritable(error, folder / _LOCK, "Nothing was changed.")
    holder = {"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    try:
        (folder / _HOLDER).write_text(json.dumps(holder))
    except OSError as error:
        lock.release()
        raise_unwritable(error, folder / _HOLDER, "Nothing was changed.")
    return lock


def _refuse_in_use(folder: Path) -> NoReturn:
    holder = {}
    with suppress(OSError, ValueError):
        holder = json.loads((folder / _HOLDER).read_text())
    who = f"process {holder['pid']} since {holder['since']}" if holder else "another process"
    raise RunError(
        f"The run in {folder} is in use by {who}.",
        "Wait until it ends, stop it, or choose another folder with --out.",
    )


def _holds_events(folder: Path) -> bool:
    path = folder / FILE_NAME
    return path.exists() and path.stat().st_size > 0


def _holds_trials(folder: Path) -> bool:
    """Whether a trial of the run ended, so that there is something to keep."""
    return b'"trial_finished"' in (folder / FILE_NAME).read_bytes()


def _refuse_to_move(folder: Path, stay: Sequence[Path]) -> None:
    # Moving the folder takes everything in it along.
    for path in [Path.cwd(), *stay]:
        if Path(os.path.realpath(path)).is_relative_to(folder):
            raise RunError(
                f"{folder} holds a run, which a new one would move aside, and {path} with it.",
                "Choose another folder with --out, or go on with that run by --resume.",
            )


def _refuse_foreign(folder: Path) -> None:
    for name in _RESULTS:
        if (folder / name).exists():
            raise RunError(
                f"{folder / name} is there already, and no run recorded in that folder wrote it.",
                "Choose another folder with --out, or move that file away.",
            )


def _next_free(folder: Path) -> Path:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    return aside


def _rename(folder: Path, aside: Path) -> None:
    try:
        folder.rename(aside)
        sync_folder(folder.parent)
    except OSError as error:
        raise_unwritable(error, aside, f"The old run is still in {folder}.")
