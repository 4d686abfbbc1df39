"""Taking a job in: checked, its code copied, its record on the disk; or refused, and nothing is left of it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from autoopt.daemon import commands, recovery, snapshot
from autoopt.daemon.checks import check
from autoopt.daemon.cluster import ClusterDevices
from autoopt.daemon.home import Home
from autoopt.daemon.jobs import Job, Submission, new_id
from autoopt.daemon.machine import Machine
from autoopt.daemon.store import Store
from autoopt.files import raise_unwritable, write_record


class Intake:
    """For any thread.

    Args:
        home: the state folder.
        store: the queue.
        machine: its devices.
        clock: Unix time.
        cluster: the one that it has besides.
    """

    def __init__(
        self,
        home: Home,
        store: Store,
        machine: Machine,
        clock: Callable[[], float],
        cluster: ClusterDevices | None = None,
    ) -> None:
        self._home, self._store, self._machine, self._cluster = home, store, machine, cluster
        self._clock = clock
        self._last_id = store.last_id()
        self._ids = threading.Lock()

    def take(self, submission: Submission, bundle: Path | None = None) -> tuple[Job, bool]:
        """The job, and whether it is a new one: with a key that is known it is the one that has it.

        Args:
            submission: what is asked.
            bundle: folder of a project that was sent; it becomes the job's.

        Raises:
            UsageError, WorkloadError: what is asked for cannot be done.
            DiskFull, RunError: it could not be kept; nothing was taken in.
        """
        if submission.key is not None and (known := self._store.by_key(submission.key)) is not None:
            return known, False
        base = bundle or Path(submission.cwd or Path.cwd())
        if bundle is not None:
            commands.check_sent(submission, bundle)
        check(submission, base, self._machine, self._cluster)
        now = self._clock()
        with self._ids:
            id_ = self._last_id = new_id(now, self._last_id)
        folder = self._home.job(id_)
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise_unwritable(error, folder, "The job was not accepted.")
        try:
            if bundle is not None:
                taken = snapshot.adopt(submission.target, bundle, folder)
                base = folder / "project"
            else:
                submission = submission.model_copy(update={"cwd": str(base)})
                taken = snapshot.take(submission.target, base, folder)
            submission = commands.make_durable(submission, base, folder)
            if submission.options.ship is not None:
                commands.shipped(submission.options.ship, taken, folder)
            job = Job(id=id_, submission=submission, created=now, digest=taken.digest, folder=f"jobs/{id_}")
            write_record(folder / recovery.JOB_FILE, job)
            inserted = self._store.insert(job)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise_unwritable(error, folder, "The job was not accepted.")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if inserted.id != id_:  # another submit with the same key was first
            shutil.rmtree(folder, ignore_errors=True)
            return inserted, False
        return job, True
