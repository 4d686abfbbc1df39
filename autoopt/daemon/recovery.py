"""What a daemon does before it serves: it makes what an earlier one left, however that ended, whole again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from autoopt.daemon import orphans
from autoopt.daemon.guarded import read_record
from autoopt.daemon.home import Home
from autoopt.daemon.jobs import ALIVE, ENDED, Job, State
from autoopt.daemon.outcome import judge
from autoopt.daemon.store import Damaged, Store, set_aside
from autoopt.errors import RunError
from autoopt.files import read_record as read_json
from autoopt.files import write_record

JOB_FILE = "job.json"
"""In each job's folder: its record when it was accepted, and again when it ended, for a queue that must be rebuilt."""
RECORD = "guard.json"


def open_store(home: Home, say: Callable[[str], None]) -> Store:
    """The queue; a damaged one is set aside and rebuilt from the jobs' folders, and this is said.

    Raises:
        RunError: it is of a newer autoopt, or cannot be written to.
    """
    had_one = home.database.exists() and home.database.stat().st_size > 0
    try:
        store = Store(home.database, home.backup)
    except Damaged as error:
        kept = set_aside(home.database, home.backup)
        store = Store(home.database, home.backup)
        count = _rebuild(home, store, say)
        say(f"{error.message} It is kept as {kept}, and the queue was rebuilt from {count} jobs' folders.")
        return store
    if had_one:
        _remove_unacknowledged(home, store)
    elif count := _rebuild(home, store, say):
        say(f"{home.database} was gone: the queue was rebuilt from {count} jobs' folders.")
    return store


def settle(home: Home, store: Store, now: float, say: Callable[[str], None]) -> list[Job]:
    """Ends what still runs of an earlier daemon's jobs, and moves these on; returns those that moved.

    Raises:
        RunError: a process does not die.
    """
    try:
        killed = orphans.end_all(home.digest)
    except TimeoutError as error:
        raise RunError(
            f"Of an earlier daemon's jobs, {error}.", "Find out what holds them, or reboot."
        ) from error
    if killed:
        say(f"{killed} processes of an earlier daemon's jobs were ended.")
    moved = []
    for job in store.jobs(ALIVE, limit=1_000_000):
        folder = home.job(job.id)
        verdict = judge(job, read_record(folder / RECORD, job.attempts), folder / "out")
        after = move(store, home, job, verdict.state, now, **verdict.changes)
        moved.append(after)
    return moved


def move(store: Store, home: Home, job: Job, state: State, now: float, **changes: object) -> Job:
    """A move on the disk; of an ended job its folder tells it too.

    Raises:
        Changed, DiskFull, RunError: as `Store.replace`.
    """
    if state in ENDED:
        changes = {**changes, "ended": max(now, job.started or job.created)}
    elif state is State.QUEUED:
        changes = {**changes, "devices": [], "places": 0, "ended": None}
    after = store.replace(job, job.moved(state, **changes))
    if state in ENDED or job.state in ENDED:
        # The queue knows it; the copy in the folder matters only should the queue be lost.
        with suppress(RunError, ValueError):
            write_record(home.job(job.id) / JOB_FILE, after)
    return after


def _remove_unacknowledged(home: Home, store: Store) -> None:
    """Folders of submits that were cut off before they were acknowledged."""
    known = store.ids()
    for folder in home.jobs.iterdir():
        if folder.name not in known:
            shutil.rmtree(folder, ignore_errors=True)
    for upload in home.uploads.iterdir():
        shutil.rmtree(upload, ignore_errors=True)


def _rebuild(home: Home, store: Store, say: Callable[[str], None]) -> int:
    count = 0
    for folder in sorted(home.jobs.iterdir()):
        job = _from_folder(folder)
        if job is None:
            kept = _free(home.backup / f"job-{folder.name}")
            folder.rename(kept)
            say(f"{folder} holds no readable {JOB_FILE}: it is kept as {kept}.")
            continue
        if job.state not in ENDED:
            # What it was doing is not known any more; its events are, so it loses nothing but its place.
            job = job.model_copy(update={"state": State.QUEUED, "reason": "", "devices": []})
        store.insert(job)
        count += 1
    return count


def _from_folder(folder: Path) -> Job | None:
    try:
        job = read_json(folder / JOB_FILE, Job)
    except RunError:
        return None
    return job if job.id == folder.name else None


def _free(path: Path) -> Path:
    return path.with_name(f"{path.name}-{time.time_ns()}") if path.exists() else path
