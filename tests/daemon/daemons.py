"""Daemons for tests: started in processes of their own, asked, killed, started again; and what must hold in the end."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from autoopt.daemon import orphans
from autoopt.daemon.home import Home
from autoopt.hardware.leases import Leases, core
from tests.polling import looks

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
ENDED = {"done", "failed", "cancelled", "set_aside"}

RUNNER = """
import os, pathlib, signal, sys, time
folder, how, *words = sys.argv[1:]
def await_file(name):
    while not pathlib.Path(name).exists():
        time.sleep(0.01)
out = pathlib.Path(folder, "out")
out.mkdir(exist_ok=True)
with (out / "attempts").open("a") as file:
    file.write(how + "\\n")
do = dict(word.split("=", 1) for word in words)
if "touch" in do:
    pathlib.Path(do["touch"]).write_text(str(os.getpid()))
if "code" in do:
    exec(do["code"])
if "wait" in do:
    await_file(do["wait"])
(out / "recommendation.yaml").write_text("complete: true\\n")
print('{"complete": true}')
"""
"""Does what its words say, then is done: `touch=FILE`, `code=STATEMENTS`, `wait=FILE` (until it is there)."""


def fill(disk: Path, leave: int = 0) -> Path:
    """A file that takes all that is free, or all but `leave` bytes."""
    path = disk / "ballast"
    with path.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
        file.truncate(file.tell() - leave)
    return path


def until(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """What `condition` returns once it is true."""
    for _ in looks(patience):
        if found := condition():
            return found
    raise AssertionError("it did not come true")


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has reaped has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class Refused(Exception):
    """An error of autoopt's that the daemon answered with: its class's name, and the message."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind, self.message = kind, message


class NotPossible(Refused):
    """The error of that name."""


class Daemon:
    """A daemon's process."""

    def __init__(self, home: Path, runner: Path | str, environment: dict[str, str], limits: dict[str, float]):
        self.home = home
        self.errors = home.parent / "errors.txt"
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.daemon.serving", str(home), str(runner), json.dumps(limits)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self._numbers = itertools.count()
        self._answers: dict[int, dict[str, Any]] = {}
        self._condition = threading.Condition()
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        assert first, self.errors.read_text()
        told = json.loads(first)
        if "error" in told:
            self.process.wait()
            self._close()
            raise Refused(told["error"], told["message"])
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, method: str, *arguments: Any, patience: float = PATIENCE) -> Any:
        """The answer of one of the service's methods."""
        number = next(self._numbers)
        line = json.dumps({"id": number, "method": method, "arguments": arguments})
        assert self.process.stdin is not None
        with self._condition:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answered = self._condition.wait_for(lambda: number in self._answers or not self.alive, patience)
            assert answered, f"no answer to {method}"
            told = self._answers.pop(number, None)
        if told is None:
            raise ConnectionError(f"the daemon ended: {self.errors.read_text()}")
        if "error" in told:
            kind = NotPossible if told["error"] == "NotPossible" else Refused
            raise kind(told["error"], told["message"])
        return told["value"]

    def submit(self, *words: str, target: str = "model.py", **more: Any) -> str:
        """The id of a job; its runner gets the words."""
        given = {"target": target, "arguments": list(words), "cwd": str(self.home.parent), "cores": 1, **more}
        id_: str = self.ask("submit", given)["id"]
        return id_

    def job(self, id_: str) -> dict[str, Any]:
        told: dict[str, Any] = self.ask("job", id_)
        return told

    def state(self, id_: str) -> str:
        return str(self.job(id_)["state"])

    def end(self, id_: str, patience: float = PATIENCE) -> dict[str, Any]:
        """The job when it has ended."""
        told: dict[str, Any] = until(lambda: (job := self.job(id_))["state"] in ENDED and job, patience)
        return told

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """As kill -9."""
        self.process.kill()
        self.process.wait()
        self._close()

    def stop(self) -> None:
        """As it ends by itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self._close()

    def _close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None and not (stream is self.process.stdout and hasattr(self, "_reader")):
                with suppress(BrokenPipeError):
                    stream.close()
        if hasattr(self, "_reader"):
            self._reader.join(PATIENCE)
            assert self.process.stdout is not None
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            with self._condition:
                self._answers[told["id"]] = told
                self._condition.notify_all()
        with self._condition:
            self.process.wait()
            self._condition.notify_all()


class Place:
    """A folder of a test's: the user's project, the daemon's home, the machine's locks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.runner: Path | str = folder / "runner" / "run.py"
        (folder / "runner").mkdir()
        (folder / "runner" / "run.py").write_text(RUNNER)
        (folder / "model.py").write_text("")
        self.environment = {"AUTOOPT_LEASES": str(folder / "leases")}
        self.limits = {"grace": 0.5, "pause": 0.05, "longest_pause": 0.2, "free": 0}
        self.daemons: list[Daemon] = []

    def serve(self) -> Daemon:
        self.daemons.append(Daemon(self.home, self.runner, self.environment, self.limits))
        return self.daemons[-1]

    def job_folder(self, id_: str) -> Path:
        return self.home / "jobs" / id_

    def attempts(self, id_: str) -> list[str]:
        path = self.job_folder(id_) / "out" / "attempts"
        return path.read_text().split() if path.exists() else []

    def processes(self) -> list[int]:
        """Of all jobs."""
        return [process.pid for process in orphans.find(Home(self.home).digest)]

    def is_free(self) -> bool:
        """Whether nobody has a core."""
        leases = Leases(self.folder / "leases")
        return all(leases.holder(core(number)) is None for number in os.sched_getaffinity(0))

    def is_whole(self) -> bool:
        """Whether the database is."""
        with closing(sqlite3.connect(self.home / "queue.db")) as database:
            found: str = database.execute("PRAGMA integrity_check").fetchone()[0]
        return found == "ok"

    def sound(self, daemon: Daemon) -> None:
        """What must hold after every fault."""
        until(lambda: not self.processes() and self.is_free(), 10)
        assert daemon.ask("health")["status"] == "ok"
        assert self.is_whole()

    def clean_up(self) -> None:
        for daemon in self.daemons:
            if daemon.alive:
                os.killpg(daemon.process.pid, signal.SIGKILL)
                daemon.kill()
        orphans.end(Home(self.home).digest, grace=6)
