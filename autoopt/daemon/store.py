"""The queue on the disk: the only file that knows SQLite.

What a method has returned from is on the disk: the write-ahead log is flushed at every commit. A move is a
compare-and-set on state and version, so that of two who move a job at once one succeeds and one is told.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from autoopt.daemon.jobs import Job, NoSuchJob, State
from autoopt.errors import DiskFull, RunError
from autoopt.files import raise_unwritable, sync_folder

Migration = Callable[[sqlite3.Connection], None]


def _first(database: sqlite3.Connection) -> None:
    database.execute(
        """
        CREATE TABLE jobs (
            id TEXT PRIMARY KEY,            -- later jobs sort after earlier ones
            key TEXT UNIQUE,                -- of an idempotent submit
            state TEXT NOT NULL,
            priority INTEGER NOT NULL,
            version INTEGER NOT NULL,
            record TEXT NOT NULL            -- the job, as JSON
        ) WITHOUT ROWID
        """
    )
    database.execute("CREATE INDEX by_state ON jobs (state, priority DESC, id)")


MIGRATIONS: tuple[Migration, ...] = (_first,)
"""The n-th turns a database of version n into one of version n + 1; each in one transaction."""


class Changed(Exception):
    """The job is no longer what the caller took it to be: read it again, decide again."""


class Damaged(RunError):
    """The database is not one, or not whole."""


class Store:
    """Jobs by id, for several threads.

    Args:
        path: the database; made if there is none.
        backup: folder for copies of older versions.
        migrations: see `MIGRATIONS`.

    Raises:
        Damaged: not a whole database.
        RunError: of a newer version of autoopt, or the place cannot be written to.
    """

    def __init__(self, path: Path, backup: Path, migrations: Sequence[Migration] = MIGRATIONS) -> None:
        self._path, self._backup, self._migrations = path, backup, migrations
        self._lock = threading.RLock()
        self._make()
        try:
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        except sqlite3.Error as error:
            raise RunError(f"{path} cannot be opened: {error}.", "Check its permissions.") from error
        try:
            self._open()
        except BaseException:
            self._database.close()
            raise

    def insert(self, job: Job) -> Job:
        """Add a job. When its key is known, the job that has it is returned, and nothing is added.

        Raises:
            DiskFull, RunError: nothing was added.
        """
        values = (job.id, job.submission.key, job.state, job.submission.priority, job.version, _text(job))
        with self._write() as database:
            done = database.execute(
                "INSERT INTO jobs (id, key, state, priority, version, record) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (key) DO NOTHING",
                values,
            )
            if done.rowcount == 1:
                return job
        known = self.by_key(job.submission.key or "")
        assert known is not None
        return known

    def replace(self, before: Job, after: Job) -> Job:
        """Put `after` in the place of `before`, if that is still what is there.

        Raises:
            Changed: it is not.
            DiskFull, RunError: nothing was changed.
        """
        with self._write() as database:
            done = database.execute(
                "UPDATE jobs SET state = ?, version = ?, record = ? WHERE id = ? AND state = ? AND version = ?",
                (after.state, after.version, _text(after), before.id, before.state, before.version),
            )
        if done.rowcount != 1:
            raise Changed(before.id)
        return after

    def remove(self, job: Job) -> None:
        """Take a job out, if it is still what `job` says.

        Raises:
            Changed: it is not.
            DiskFull, RunError: nothing was changed.
        """
        with self._write() as database:
            done = database.execute(
                "DELETE FROM jobs WHERE id = ? AND state = ? AND version = ?",
                (job.id, job.state, job.version),
            )
        if done.rowcount != 1:
            raise Changed(job.id)

    def get(self, id_: str) -> Job:
        """A job.

        Raises:
            NoSuchJob: none has that id.
        """
        rows = self._read("SELECT record FROM jobs WHERE id = ?", id_)
        if not rows:
            raise NoSuchJob(f"There is no job {id_!r}.", "`autoopt jobs` lists them.")
        return _job(rows[0][0])

    def by_key(self, key: str) -> Job | None:
        """The job of an idempotency key."""
        rows = self._read("SELECT record FROM jobs WHERE key = ?", key)
        return _job(rows[0][0]) if rows else None

    def jobs(
        self, states: Collection[State] | None = None, limit: int = 200, before: str | None = None
    ) -> list[Job]:
        """Jobs, the newest first; those older than the job `before`, for the next page."""
        where, values = ["id < ?"] if before else [], [before] if before else []
        if states is not None:
            where.append(f"state IN ({', '.join('?' * len(states))})")
            values += [str(state) for state in states]
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        rows = self._read(f"SELECT record FROM jobs{condition} ORDER BY id DESC LIMIT ?", *values, limit)
        return [_job(row[0]) for row in rows]

    def queued(self) -> list[str]:
        """The ids of jobs that wait, in the order in which they are to start."""
        rows = self._read("SELECT id FROM jobs WHERE state = ? ORDER BY priority DESC, id", State.QUEUED)
        return [row[0] for row in rows]

    def counts(self) -> dict[State, int]:
        """How many jobs are in each state."""
        rows = self._read("SELECT state, count(*) FROM jobs GROUP BY state")
        found = {row[0]: int(row[1]) for row in rows}
        return {state: found.get(str(state), 0) for state in State}

    def ids(self) -> set[str]:
        """Of all jobs."""
        return {row[0] for row in self._read("SELECT id FROM jobs")}

    def last_id(self) -> str | None:
        """Of the newest job."""
        found: str | None = self._read("SELECT max(id) FROM jobs")[0][0]
        return found

    def close(self) -> None:
        """Doing it twice is harmless."""
        with self._lock:
            self._database.close()

    def _read(self, query: str, *values: object) -> list[tuple[str, ...]]:
        with self._lock:
            try:
                return self._database.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise RunError(
                    f"{self._path} cannot be read: {error}.", "Check the disk, then restart the daemon."
                ) from error

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield self._database
                self._database.execute("COMMIT")
            except BaseException as error:
                with suppress(sqlite3.Error):  # some errors end the transaction by themselves
                    self._database.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise self._unwritable(error) from error
                raise

    def _unwritable(self, error: sqlite3.Error) -> RunError:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return DiskFull(
                f"The disk is full: {self._path} could not be written. What was recorded before is whole.",
                "Free some space.",
            )
        return RunError(
            f"{self._path} could not be written: {error}. What was recorded before is whole.",
            "Check the disk and the permissions.",
        )

    def _make(self) -> None:
        # SQLite would make it readable by everybody; its other files take the mode of this one.
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            sync_folder(self._path.parent)
        except OSError as error:
            raise_unwritable(error, self._path, "The daemon was not started.")

    def _open(self) -> None:
        try:
            # EXTRA flushes what FULL does, and the folder too where there is no write-ahead log (some network disks).
            self._database.execute("PRAGMA journal_mode = WAL").fetchall()
            self._database.execute("PRAGMA synchronous = EXTRA")
            (answer,) = self._database.execute("PRAGMA integrity_check").fetchone()
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise Damaged(f"{self._path} is damaged: {error}.") from error
            raise self._unwritable(error) from error
        if answer != "ok":
            raise Damaged(f"{self._path} is damaged: {answer}.")
        newest = len(self._migrations)
        if version > newest:
            raise RunError(
                f"{self._path} is of version {version}, and this autoopt knows versions up to {newest}.",
                "Serve it with the newer autoopt that wrote it, or another folder: "
                "AUTOOPT_HOME=... autoopt serve.",
            )
        if 0 < version < newest:
            self._copy(version)
        for number in range(version, newest):
            with self._write() as database:
                self._migrations[number](database)
                database.execute(f"PRAGMA user_version = {number + 1}")

    def _copy(self, version: int) -> None:
        """Keep the database of an older version before it is migrated."""
        target = self._backup / f"queue-version-{version}-{time.strftime('%Y%m%d-%H%M%S')}.db"
        beside = target.with_suffix(".tmp")
        try:
            self._backup.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                beside.unlink()
            copy = sqlite3.connect(beside)
            try:
                self._database.backup(copy)
            finally:
                copy.close()
            beside.replace(target)
            sync_folder(self._backup)
        except OSError as error:
            raise_unwritable(error, target, "Nothing was migrated.")
        except sqlite3.Error as error:
            raise self._unwritable(error) from error


def set_aside(path: Path, backup: Path) -> Path:
    """Move a damaged database, with the files that SQLite keeps beside it, into `backup`; returns where it is now."""
    target = backup / f"queue-damaged-{time.strftime('%Y%m%d-%H%M%S')}.db"
    try:
        backup.mkdir(parents=True, exist_ok=True)
        for ending in ("-wal", "-shm", ""):
            part = path.with_name(path.name + ending)
            if part.exists():
                part.replace(target.with_name(target.name + ending))
        sync_folder(backup)
        sync_folder(path.parent)
    except OSError as error:
        raise_unwritable(error, target, "The damaged database is where it was.")
    return target


def _text(job: Job) -> str:
    return job.model_dump_json()


def _job(text: str) -> Job:
    try:
        return Job.model_validate_json(text)
    except ValidationError as error:
        raise RunError(
            f"A job in the queue cannot be read: {error.errors()[0]['msg']}.", "Restore the state folder."
        ) from error
