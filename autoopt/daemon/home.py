"""Where the daemon keeps its state: `AUTOOPT_HOME`, and every path in it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import platformdirs

from autoopt.daemon.jobs import HomeInUse
from autoopt.errors import RunError
from autoopt.files import raise_unwritable

VARIABLE = "AUTOOPT_HOME"


class Home:
    """The state folder of a user's daemon.

        queue.db              the queue
        lock                  held by the daemon that serves this folder
        jobs/<id>/            a job: job.json, project/ (its code), out/ (its run), log.txt, guard.json
        run/autoopt.sock      where the daemon listens; the folder can be entered by its user only
        token                 of the page, readable by its user only
        uploads/              projects on their way in
        backup/               what was set aside: old and damaged files

    Args:
        path: the folder; `AUTOOPT_HOME`, or the system's place for a user's state, unless given.
        environment: environment variables; this process's unless given.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        variables = os.environ if environment is None else environment
        chosen = path or variables.get(VARIABLE) or platformdirs.user_state_dir("autoopt", appauthor=False)
        self.path = Path(os.path.realpath(chosen))
        self.database = self.path / "queue.db"
        self.lock_file = self.path / "lock"
        self.jobs = self.path / "jobs"
        self.run = self.path / "run"
        self.socket = self.run / "autoopt.sock"
        self.token = self.path / "token"
        self.backup = self.path / "backup"
        self.uploads = self.path / "uploads"

    def job(self, id_: str) -> Path:
        """The folder of a job."""
        return self.jobs / id_

    @property
    def digest(self) -> str:
        """Tells the processes of this folder's jobs from those of another daemon's."""
        return hashlib.sha256(str(self.path).encode()).hexdigest()[:16]

    def free(self) -> int:
        """Bytes that are free on its disk; 0 when the disk does not answer."""
        try:
            return shutil.disk_usage(self.path).free
        except OSError:
            return 0

    def put_out_aside(self, id_: str) -> Path | None:
        """Keep a job's run under another name, so that it starts anew; returns where it is now, `None` if there is none.

        Raises:
            DiskFull, RunError: it stays where it is.
        """
        out = self.job(id_) / "out"
        if not out.exists():
            return None
        number = 1
        while (kept := out.with_name(f"out.{number}")).exists():
            number += 1
        try:
            out.rename(kept)
        except OSError as error:
            raise_unwritable(error, kept, "Nothing was changed.")
        return kept

    def make(self) -> None:
        """Make the folders, readable by their user only.

        Raises:
            RunError: the place cannot be written to, or is another user's.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.jobs, self.run, self.backup, self.uploads):
                folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise_unwritable(error, self.path, "The daemon was not started.")
        if self.path.stat().st_uid != os.getuid():
            raise RunError(
                f"{self.path} belongs to another user.",
                f"Choose a folder of your own: {VARIABLE}=...",
            )


class Lock:
    """Held by the one daemon that serves a home; it goes with the process, however that dies.

    Raises:
        HomeInUse: another daemon serves it; the message names its process and since when.
    """

    def __init__(self, home: Home) -> None:
        self._path = home.lock_file
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise_unwritable(error, self._path, "The daemon was not started.")
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = self._holder()
            os.close(self._descriptor)
            raise HomeInUse(
                f"{home.path} is served by another daemon already{holder}.",
                "Use that one (`autoopt jobs`), stop it, or serve another folder: "
                f"{VARIABLE}=... autoopt serve.",
            ) from error
        try:
            text = json.dumps({"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")})
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode(), 0)
        except OSError as error:
            os.close(self._descriptor)
            raise_unwritable(error, self._path, "The daemon was not started.")

    def release(self) -> None:
        """Give the home free. Doing it twice is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _holder(self) -> str:
        with suppress(OSError, ValueError, KeyError):
            told = json.loads(self._path.read_text())
            return f": process {told['pid']}, since {told['since']}"
        return ""
