"""How long ended jobs are kept, and what they take of the disk. What waits or runs is never touched.

A job that is forgotten leaves the queue first, if it is still the ended job that was seen, and then its folder goes: code,
run, log. Of a daemon that dies in between the next one removes the folder.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from autoopt.daemon.home import Home
from autoopt.daemon.jobs import ENDED, Job, NotPossible, State
from autoopt.daemon.notes import Notes
from autoopt.daemon.store import Changed, Store
from autoopt.errors import AutooptError, RunError

DAY = 86_400.0
_EVERY = 3600.0
"""Seconds between two looks at the jobs' ages."""
_ALL = 1_000_000


@dataclass(frozen=True)
class Keep:
    """How long ended jobs stay: both must hold. `inf` days keeps for ever."""

    days: float = 365.0
    """Since they ended."""
    jobs: int = 10_000
    """The newest so many."""


@dataclass(frozen=True)
class Disk:
    """What the jobs take.

    Args:
        jobs: how many there are.
        bytes: of their folders; what is linked from them, as data is, is not counted.
        free: bytes that are free on that disk.
    """

    jobs: int
    bytes: int
    free: int

    def record(self) -> dict[str, int]:
        """As plain data."""
        return asdict(self)


class Retention:
    """Forgets jobs: those that are named, and by itself those that are too old. For any thread.

    Args:
        home: the state folder.
        store: the queue.
        running: the jobs that run; it changes as they come and go.
        gone: told the ids of those that were forgotten.
        notes: takes what goes wrong.
        clock: Unix time.
        keep: how long ended jobs stay.
    """

    def __init__(
        self,
        home: Home,
        store: Store,
        *,
        running: Collection[str],
        gone: Callable[[list[str]], None],
        notes: Notes,
        clock: Callable[[], float],
        keep: Keep,
    ) -> None:
        self._home, self._store, self._running = home, store, running
        self._gone, self._notes, self._clock = gone, notes, clock
        self.keep = keep
        self._taken: Disk | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._go, name="autoopt-retention", daemon=True)

    def start(self) -> None:
        """Begin to look, once an hour."""
        self._thread.start()

    def stop(self) -> None:
        """End; a folder that is being removed is removed before."""
        self._ending.set()
        self._thread.join()

    def forget(self, id_: str) -> int:
        """Remove an ended job and all that it left; returns the bytes that this freed.

        Raises:
            NoSuchJob.
            NotPossible: it has not ended, or a job that has not ended names its run as a prior.
            RunError: its folder could not be removed wholly; the next start of the daemon tries it again.
        """
        job = self._store.get(id_)
        if job.state not in ENDED:
            raise NotPossible(
                f"Job {id_} is {job.state.replace('_', ' ')}: only what has ended can be forgotten.",
                f"autoopt cancel {id_}",
            )
        if id_ in self._running:
            raise NotPossible(f"Job {id_} is just ending.", "Try it again in a moment.")
        if (other := self._needed_by(id_)) is not None:
            raise NotPossible(
                f"Job {other} has the run of job {id_} as a prior, and has not ended.",
                f"Wait for it, or cancel it: autoopt cancel {other}",
            )
        freed = self._remove(job)
        self._gone([id_])
        return freed

    def prune(self, keep: Keep | None = None, *, dry_run: bool = False) -> tuple[list[str], int]:
        """Forget ended jobs that are not to be kept; returns their ids, the oldest first, and the bytes freed.

        Args:
            keep: what to keep; as the daemon was told unless given.
            dry_run: only say which.
        """
        found = self._due(keep or self.keep)
        if dry_run:
            return [job.id for job in found], sum(size(self._home.job(job.id)) for job in found)
        forgotten: list[str] = []
        freed = 0
        try:
            for job in found:
                if self._ending.is_set():
                    break
                with suppress(Changed):  # somebody has tried it again meanwhile, or forgotten it
                    try:
                        freed += self._remove(job)
                    except RunError as error:
                        self._notes.found(error.message)
                    forgotten.append(job.id)
        finally:
            if forgotten:
                self._gone(forgotten)
        return forgotten, freed

    def disk(self) -> Disk:
        """What the jobs take now: their folders are walked through."""
        taken = size(self._home.jobs, self._ending.is_set)
        self._taken = Disk(len(self._store.ids()), taken, self._home.free())
        return self._taken

    @property
    def taken(self) -> Disk | None:
        """The same as of the last look; `None` before the first."""
        return self._taken

    def _due(self, keep: Keep) -> list[Job]:
        now = self._clock()
        ended = sorted(self._store.jobs(ENDED, _ALL), key=lambda job: job.ended or job.created, reverse=True)
        old = [
            job
            for number, job in enumerate(ended)
            if number >= keep.jobs or now - (job.ended or job.created) > keep.days * DAY
        ]
        needed = self._needed()
        return [job for job in reversed(old) if job.id not in self._running and not self._in(job.id, needed)]

    def _needed(self) -> list[tuple[str, Path]]:
        """(job, folder of a run that it takes as a prior) of those that have not ended."""
        waiting = self._store.jobs(set(State) - ENDED, _ALL)
        return [
            (job.id, Path(os.path.realpath(prior)))
            for job in waiting
            for prior in job.submission.options.prior
        ]

    def _in(self, id_: str, needed: Iterable[tuple[str, Path]]) -> str | None:
        folder = Path(os.path.realpath(self._home.job(id_)))
        return next((other for other, prior in needed if prior.is_relative_to(folder)), None)

    def _needed_by(self, id_: str) -> str | None:
        return self._in(id_, self._needed())

    def _remove(self, job: Job) -> int:
        folder = self._home.job(job.id)
        taken = size(folder)
        self._store.remove(job)
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            raise RunError(
                f"{folder} could not be removed wholly.",
                "Check its permissions; the next start of the daemon tries it again.",
            )
        return taken

    def _go(self) -> None:
        while True:
            try:
                self.prune()
                self.disk()
            except AutooptError as error:
                self._notes.found(error.message)
            except Exception as error:  # the thread outlives whatever it finds
                self._notes.found(f"{type(error).__name__}: {error}")
            if self._ending.wait(_EVERY):
                return


def size(folder: Path, enough: Callable[[], bool] = lambda: False) -> int:
    """Bytes of the files in a folder, as far as they can be seen; what is linked counts as a link.

    Args:
        enough: whether to leave it at what was counted; asked at each folder.
    """
    total = 0
    for place, _, files in os.walk(folder):
        if enough():
            break
        for name in files:
            with suppress(OSError):  # gone meanwhile
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118  # of thousands of files
    return total
