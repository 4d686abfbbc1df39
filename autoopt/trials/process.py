"""One worker process, as the coordinator holds it: start, talk, end. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import re
import site
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from autoopt.records import Record
from autoopt.trials.keeper import SHOW_AND_DIE
from autoopt.trials.protocol import REPLIES, Advanced, Ended, Failed, Finished, Lines, Load, Loaded, encode

Reply = Loaded | Failed | Advanced | Finished | Ended

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_TAIL_BYTES = 8192
_LINE_CHARACTERS = 200
_NOISE = re.compile(
    r"""Extension\ modules: |            # faulthandler's list of them: one line of thousands of characters
        \ \ File\ "[^"]*(autoopt/trials/(drive|serve|worker|ranks|launch)\.py|<frozen\ runpy>|
            /multiprocessing/\w+\.py|torch/distributed/(elastic|launcher)/[\w/]+\.py)",\ line\ \d+\ in\ """,
    re.VERBOSE,
)
"""What is left out of a stack in the log: frames that are ours or the launcher's, not the user's."""


class Process:
    """A worker and its keeper, started on construction; the first command is sent at once.

    Args:
        request: what to load.
        log: file to which everything that the worker prints is appended.
        environment: variables over those of this process.
    """

    def __init__(self, request: Load, log: Path, environment: Mapping[str, str]) -> None:
        self._log = log

        def start(commands: int, replies: int) -> None:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as output:
                self._log_start = output.tell()
                self._process = subprocess.Popen(
                    # -P: no file in the working directory stands in for a module of the standard library.
                    [sys.executable, "-P", "-m", "autoopt.trials.worker", str(commands), str(replies)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment_of_worker(request.threads, environment),
                    pass_fds=(commands, replies),
                    start_new_session=True,  # Ctrl-C in the terminal is the coordinator's to handle
                )

        self._connect(start, request)

    def _connect(self, start: Callable[[int, int], None], request: Load) -> None:
        """Makes the two pipes, has a worker started on its ends of them (commands, replies), and sends the first command."""
        self._lines = Lines()
        self._ended = False
        commands, self._commands = os.pipe()
        self._replies, replies = os.pipe()
        try:
            start(commands, replies)
        except BaseException:
            os.close(self._commands)
            os.close(self._replies)
            self._commands = self._replies = -1
            raise
        finally:
            os.close(commands)
            os.close(replies)
        os.set_blocking(self._replies, False)
        self.send(request)

    def fileno(self) -> int:
        """Readable when there are replies (for `selectors`)."""
        return self._replies

    @property
    def pid(self) -> int:
        """Of the keeper, which lives a little longer than the worker."""
        return self._process.pid

    def send(self, command: Record) -> None:
        """Sends a command; to a process that is gone it goes nowhere, and `receive` tells of the end."""
        if self._commands >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._commands, encode(command))

    def receive(self) -> list[Reply]:
        """What has arrived, without waiting; an `Ended` is the last reply of a process."""
        replies: list[Reply] = []
        while not self._ended:
            try:
                data = os.read(self._replies, 65536)
            except BlockingIOError:
                break
            if not data:  # the keeper itself was killed
                replies.append(Ended())
            for line in self._lines.feed(data):
                try:
                    replies.append(REPLIES.validate_json(line))
                except ValidationError as error:
                    # Half a line is what a worker leaves that was killed while it wrote.
                    if error.errors()[0]["type"] != "json_invalid":
                        raise
            self._ended = bool(replies) and isinstance(replies[-1], Ended)
        return replies

    def show_and_die(self) -> None:
        """Has the worker write the stacks of its threads to the log and die."""
        if self._process.poll() is None:
            self._process.send_signal(SHOW_AND_DIE)

    def kill(self) -> None:
        """Has the keeper kill the worker and all that descends from it; returns at once."""
        if self._commands >= 0:
            os.close(self._commands)
            self._commands = -1

    def reap(self, timeout: float) -> None:
        """Kills, waits for the end and frees what belongs to the process; a late keeper is killed too."""
        self.kill()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the worker dies with it
            self._process.wait()
        if self._replies >= 0:
            os.close(self._replies)
            self._replies = -1

    def mark(self) -> None:
        """From here on what is logged belongs to the next trial: `tail` shows nothing older."""
        with contextlib.suppress(FileNotFoundError):
            self._log_start = self._log.stat().st_size

    def tail(self, lines: int = 12) -> str:
        """The last lines that the process wrote to its log since the mark; empty when it wrote nothing."""
        try:
            with self._log.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, end - _TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:  # somebody tidied up
            return ""
        kept = [line.rstrip()[:_LINE_CHARACTERS] for line in text.splitlines() if not _NOISE.match(line)]
        return "\n".join([line for line in kept if line][-lines:])


def environment_of_worker(threads: int, more: Mapping[str, str]) -> dict[str, str]:
    """Variables of a process that loads the user's file: thread counts, and where this package lies."""
    environment = {**os.environ, **more}
    environment.update({name: str(threads) for name in _THREAD_VARIABLES})
    environment["AUTOOPT_TRIAL"] = "1"
    environment["PYTHONUNBUFFERED"] = "1"
    root = str(Path(__file__).resolve().parents[2])
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()}
    if root not in installed:
        # Run from a checkout. Installed packages are found anyway, and PYTHONPATH would put all of them
        # before the standard library.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), root]))
    return environment
