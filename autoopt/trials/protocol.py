"""What coordinator and worker say to each other: one JSON object a line, on two pipes of their own.

JSON and not pickle, so that reading a message cannot run code; pipes and not stdout, so that nothing that the
user's code prints can be mistaken for a message. Imports no torch.

    coordinator -> worker    load, then any of: run, cancel; at last: stop
    worker -> coordinator    loaded or failed; then for each run: progress ..., finished
    keeper -> coordinator    ended, as the very last line
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from autoopt import errors
from autoopt.errors import AutooptError, UserCodeError, WorkerError
from autoopt.records import Flags, Record, TrialResult, TrialSpec, WorkloadReport


class Load(Record):
    """The first command: what to load, and where."""

    kind: Literal["load"] = "load"
    engine: str = Field(description="import string module:function of a factory Load -> Engine")
    target: str
    arguments: list[str]
    flags: Flags
    device: str
    ranks: list[str] = Field(
        default=[],
        description="devices of the processes that train each model together; empty: one, on `device`",
    )
    slot: int
    threads: int = Field(
        ge=1, description="CPU threads for the arithmetic of this worker, of each of its processes"
    )
    full: bool = Field(description="also measure, and answer with the report")
    timing_seconds: float | None = Field(None, gt=0, description="that timing the optimizers may take then")


class Run(Record):
    kind: Literal["run"] = "run"
    spec: TrialSpec


class Cancel(Record):
    """Ends one trial at its next step; ignored when that trial is already over."""

    kind: Literal["cancel"] = "cancel"
    trial: int


class Stop(Record):
    kind: Literal["stop"] = "stop"


class Loaded(Record):
    kind: Literal["loaded"] = "loaded"
    report: WorkloadReport | None = None


class Failed(Record):
    """Loading ended in an exception, which the coordinator raises again."""

    kind: Literal["failed"] = "failed"
    error: str = Field(description="class name in autoopt.errors")
    message: str
    hint: str = ""
    where: str = ""
    trace: str = ""

    @classmethod
    def of(cls, error: AutooptError) -> Failed:
        """The message for an error; a class that `autoopt.errors` lacks goes by its nearest base there."""
        name = next(base.__name__ for base in type(error).__mro__ if base.__module__ == errors.__name__)
        where, trace = (error.where, error.trace) if isinstance(error, UserCodeError) else ("", "")
        return cls(error=name, message=error.message, hint=error.hint, where=where, trace=trace)

    def exception(self) -> AutooptError:
        """The error again, with the class, message, hint and place that it had in the worker."""
        found = getattr(errors, self.error, None)
        if not (isinstance(found, type) and issubclass(found, AutooptError)):
            return WorkerError(f"A worker failed with {self.error}: {self.message}", self.hint)
        if issubclass(found, UserCodeError):
            return found(self.message, self.hint, where=self.where, trace=self.trace)
        return found(self.message, self.hint)


class Advanced(Record):
    """Progress of the trial in this worker, at most four a second."""

    kind: Literal["progress"] = "progress"
    trial: int
    step: int
    steps: int
    loss: float | None


class Finished(Record):
    kind: Literal["finished"] = "finished"
    result: TrialResult
    leaves: bool = Field(False, description="the worker ends after it, and runs no other trial")


class Ended(Record):
    """The worker process is gone: it left with `code`, or `signal` killed it; both None: not known."""

    kind: Literal["ended"] = "ended"
    code: int | None = None
    signal: int | None = None
    rank: int | None = Field(None, description="whose end it was, of a worker of several processes")
    tail: str = Field("", description="the end of its log, where that lies on another machine")
    lost: str = Field("", description="why it is gone, where the machine or the way to it is gone with it")


Command = Annotated[Load | Run | Cancel | Stop, Field(discriminator="kind")]
Reply = Annotated[Loaded | Failed | Advanced | Finished | Ended, Field(discriminator="kind")]

COMMANDS: TypeAdapter[Load | Run | Cancel | Stop] = TypeAdapter(Command)
REPLIES: TypeAdapter[Loaded | Failed | Advanced | Finished | Ended] = TypeAdapter(Reply)


def encode(message: Record) -> bytes:
    """One line of JSON, with its newline."""
    return message.model_dump_json(by_alias=True).encode() + b"\n"


class Lines:
    """Cuts a stream of bytes into whole lines; an unfinished one waits for its rest.

    >>> lines = Lines()
    >>> lines.feed(b'{"kind": "st'), lines.feed(b'op"}\\n')
    ([], [b'{"kind": "stop"}'])
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their newlines; empty lines are left out."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line for line in lines if line]
