"""The life of a worker: load once, then trial after trial, until told to stop. Runs in the worker process."""

from __future__ import annotations

import faulthandler
import os
import resource
import select
import sys
import traceback
from collections import deque
from collections.abc import Callable
from functools import partial

from autoopt.records import Outcome, Record, TrialResult, TrialSpec, WorkloadReport
from autoopt.trials.drive import Throttle, drive
from autoopt.trials.engine import Engine, resolve
from autoopt.trials.failures import load_failure
from autoopt.trials.protocol import (
    COMMANDS,
    Advanced,
    Cancel,
    Failed,
    Finished,
    Lines,
    Load,
    Loaded,
    Run,
    Stop,
    encode,
)


class Channel:
    """The worker's ends of the two pipes. No thread: commands are looked at between steps."""

    def __init__(self, commands: int, replies: int) -> None:
        self._commands, self._replies = commands, replies
        self._lines = Lines()
        self._waiting: deque[Load | Run | Stop] = deque()
        self._cancelled: set[int] = set()
        self._stopping = False
        # A loader process forked by the user's code would otherwise keep the pipes open.
        os.register_at_fork(after_in_child=self._forget)

    def send(self, message: Record) -> None:
        """Writes one message, all of it."""
        data = memoryview(encode(message))
        while data:
            data = data[os.write(self._replies, data) :]

    def receive(self) -> Load | Run | Stop:
        """The next command; waits for it."""
        while not self._waiting:
            self._read()
        return self._waiting.popleft()

    def cancelled(self, trial: int) -> bool:
        """Whether this trial is to end; takes in what has arrived, without waiting."""
        while not self._stopping and select.select([self._commands], [], [], 0)[0]:
            self._read()
        return self._stopping or trial in self._cancelled

    def _read(self) -> None:
        data = os.read(self._commands, 65536)
        if not data:  # the coordinator is gone; the keeper is about to kill us
            self._stop()
            return
        for line in self._lines.feed(data):
            command = COMMANDS.validate_json(line)
            if isinstance(command, Cancel):
                self._cancelled.add(command.trial)
            elif isinstance(command, Stop):
                self._stop()
            else:
                self._waiting.append(command)

    def _stop(self) -> None:
        self._stopping = True
        self._waiting.append(Stop())

    def _forget(self) -> None:
        for fd in (self._commands, self._replies):
            if fd >= 0:
                os.close(fd)
        self._commands = self._replies = -1  # a child of the child must not close them again


def serve(commands: int, replies: int) -> int:
    """Answers the commands on one pipe with replies on the other; returns the exit code of the process."""
    faulthandler.enable()  # a crash writes the Python stack to the log
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    request = _first(commands)
    # What the user's file would see under `python model.py ...`.
    sys.argv = [request.target, *request.arguments]
    if request.ranks:
        from autoopt.trials.launch import launch

        return launch(request, commands, replies)
    channel = Channel(commands, replies)
    engine, report, error = load(request)
    if error is not None or engine is None:
        channel.send(Failed.of(load_failure(error or RuntimeError("nothing was loaded"), request.target)))
        return 1
    channel.send(Loaded(report=report))
    while isinstance(command := channel.receive(), Run):
        cancelled = partial(channel.cancelled, command.spec.id)
        result = trial(engine, command.spec, request.slot, cancelled, channel.send)
        channel.send(Finished(result=result))
        if result.outcome is Outcome.OUT_OF_MEMORY:
            return 0  # what still holds memory is not known: a fresh process takes over
    engine.close()
    return 0


def _first(commands: int) -> Load:
    """The first command and not a byte more: whoever runs the trials reads on from there."""
    line = bytearray()
    while not line.endswith(b"\n"):
        data = os.read(commands, 1)
        if not data:
            raise RuntimeError("the coordinator has gone before it said what to load")
        line += data
    request = COMMANDS.validate_json(bytes(line))
    if not isinstance(request, Load):
        raise RuntimeError(f"the first command was {request.kind}, not load")
    return request


def load(request: Load) -> tuple[Engine | None, WorkloadReport | None, BaseException | None]:
    """The engine of a request with its report, or the error that loading ended in."""
    try:
        engine = resolve(request.engine)(request)
        return engine, engine.load(full=request.full), None
    except BaseException as error:  # sys.exit at import is an answer too
        traceback.print_exception(error)
        return None, None, error


def trial(
    engine: Engine,
    spec: TrialSpec,
    slot: int,
    cancelled: Callable[[], bool],
    send: Callable[[Advanced], None] = lambda _message: None,
) -> TrialResult:
    """Runs a trial to its result; `send` takes the progress, `cancelled` is asked after each step."""
    throttle = Throttle()
    for item in drive(engine, spec, slot, cancelled, on_error=traceback.print_exception):
        if isinstance(item, TrialResult):
            return item
        if throttle.ready():
            send(Advanced(trial=spec.id, step=item.step, steps=item.steps, loss=item.loss))
    raise RuntimeError("a driven trial always has a result")
