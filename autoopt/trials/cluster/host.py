"""What an actor on a node does: it holds one worker process and passes on what goes in and comes out. Knows no Ray."""

from __future__ import annotations

import os
import select
import tempfile
from pathlib import Path

from autoopt.trials.process import Process
from autoopt.trials.protocol import COMMANDS, Ended, Load, Run, encode

SHOW = b'{"kind":"show"}\n'
"""A command that is for the host: have the worker write its stacks down and die."""


class Host:
    """One worker and its keeper on this node. When this process dies, the keeper sees the pipe close and ends the worker.

    Args:
        environment: variables of the worker, over those of this process.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._folder = tempfile.TemporaryDirectory(prefix="autoopt-worker-")
        self._process: Process | None = None

    def send(self, line: bytes) -> None:
        """Takes a command; the first one starts the worker.

        Raises: OSError when no process can be started.
        """
        if line == SHOW:
            if self._process is not None:
                self._process.show_and_die()
            return
        command = COMMANDS.validate_json(line)
        if self._process is None:
            if not isinstance(command, Load):
                raise RuntimeError(f"the first command was {command.kind}, not load")
            log = Path(self._folder.name) / "worker.log"
            self._process = Process(command, log, self._environment)
            return
        if isinstance(command, Run):
            self._process.mark()
        self._process.send(command)

    def receive(self, seconds: float) -> bytes:
        """Lines that the worker has written, after at most so many seconds; the last line of all says how it ended."""
        process = self._process
        if process is None or not select.select([process], [], [], seconds)[0]:
            return b""
        lines = b""
        for reply in process.receive():
            if isinstance(reply, Ended):
                reply = reply.model_copy(update={"tail": process.tail()})
            lines += encode(reply)
        return lines

    def end(self) -> None:
        """Kills the worker and what descends from it; how it ended is still received."""
        if self._process is not None:
            self._process.kill()


def device_model() -> str:
    """The kind of this machine's CPU, for machines without a GPU."""
    from autoopt.hardware.cpu import cpu_model

    return cpu_model() or os.uname().machine
