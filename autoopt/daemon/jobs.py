"""The daemon's nouns: a job, what was submitted, its states, and the moves between them that are allowed."""

from __future__ import annotations

import secrets
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from autoopt.errors import DiskFull as DiskFull
from autoopt.errors import RunError, UsageError
from autoopt.records import Record


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SET_ASIDE = "set_aside"


ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED, State.SET_ASIDE})
"""A job in one of these moves only when somebody asks for a retry."""
ALIVE = frozenset({State.RUNNING, State.CANCELLING})
"""A job in one of these has a guard, or had one when its daemon died."""

MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED, State.FAILED}),
    State.RUNNING: frozenset(
        # Back to the queue: its daemon died, the disk was full, or its process died for the first time.
        {State.DONE, State.FAILED, State.CANCELLING, State.CANCELLED, State.SET_ASIDE, State.QUEUED}
    ),
    # Done: it had finished when the cancel came.
    State.CANCELLING: frozenset({State.CANCELLED, State.DONE}),
    State.DONE: frozenset(),
    State.FAILED: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED}),
    State.SET_ASIDE: frozenset({State.QUEUED}),
}
"""From each state to those that may follow it. A job may also change within its state."""


class Options(Record):
    """What `autoopt profile` takes; `None` where it was not given."""

    steps: int | None = Field(None, ge=1)
    epochs: float | None = Field(None, gt=0)
    budget: str | float | None = None
    policy: str | None = None
    limit: str | None = None
    optimizers: list[str] | None = None
    device: str | None = None
    workers: int | None = Field(None, ge=1)
    ship: str | None = Field(None, description="folder of the project that a cluster's machines get")
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    accumulate: int | None = Field(None, ge=1)
    global_batch: int | None = Field(None, ge=1)
    clip: float | None = Field(None, gt=0)
    schedule: Literal["cosine", "linear", "constant", "wsd"] | None = None
    warmup: float | None = Field(None, ge=0)
    seed: int | None = None
    prior: list[str] = Field(default=[])


class Submission(Record):
    """What a user hands in. `cwd`, `interpreter` and `environment` are the submitter's own, known on this machine only."""

    target: str = Field(min_length=1, description="as the user gave it: model.py, or package.module:function")
    arguments: list[str] = Field(default=[])
    options: Options = Options()
    priority: int = Field(0, ge=-100, le=100, description="higher first")
    cores: int | None = Field(None, ge=1, description="of a job on the CPU; all unless given")
    name: str | None = Field(None, max_length=200)
    key: str | None = Field(
        None, min_length=1, max_length=200, description="of two submits with the same key one becomes a job"
    )
    cwd: str | None = None
    interpreter: str | None = None
    environment: dict[str, str] = Field(default={})


class Job(Record):
    """A job as it is recorded. Times are Unix seconds."""

    id: str = Field(description="12 characters, later ones sort after earlier ones")
    submission: Submission
    state: State = State.QUEUED
    reason: str = Field("", description="why it waits, or why it ended, in a sentence")
    created: float
    started: float | None = None
    ended: float | None = None
    attempts: int = Field(0, description="starts of its process")
    deaths: int = Field(0, description="of those that ended without a word; counted anew after a retry")
    losses: int = Field(0, description="of the cluster that it ran on; counted anew after a retry")
    devices: list[str] = Field(
        [], description="where it runs, or ran last: UUIDs of GPUs, cpu, or cluster: and a kind of device"
    )
    places: int = Field(0, description="trials at once that it may run on the cluster, now or last")
    digest: str = Field("", description="of the code that was handed in")
    changed: list[str] = Field([], description="what of that code has changed since, in words")
    error: dict[str, Any] | None = Field(
        None, description="kind, message, hint, exit_code, as the command line prints them"
    )
    complete: bool | None = Field(None, description="False: the recommendation is of a run stopped early")
    folder: str
    version: int = Field(0, description="increases with each change")

    def moved(self, state: State, **changes: Any) -> Job:
        """This job in another state (or changed within the same), one version later.

        Raises:
            ValueError: `MOVES` has no such move: a bug of the caller.
        """
        if state is not self.state and state not in MOVES[self.state]:
            raise ValueError(f"a job that is {self.state} cannot become {state}")
        return self.model_copy(update={**changes, "state": state, "version": self.version + 1})


class NoSuchJob(UsageError):
    """No job has that id."""


class NotPossible(RunError):
    """The job is in a state in which this cannot be done."""


class HomeInUse(RunError):
    """Another daemon serves the state folder."""


_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_TIME_DIGITS = 8
_ZERO = 1_577_836_800_000
"""Milliseconds of 2020-01-01; eight digits reach from there to the year 2109."""


def new_id(now: float, last: str | None) -> str:
    """An id for a job submitted at `now` (Unix seconds) that sorts after `last`, also when the clock was set back.

    >>> first = new_id(1.7e9, None)
    >>> first < new_id(1.6e9, first) < new_id(1.8e9, first), len(first)
    (True, 12)
    """
    value = max(0, int(now * 1000) - _ZERO)
    if last is not None:
        value = max(value, int(last[:_TIME_DIGITS], 36) + 1)
    digits = ""
    for _ in range(_TIME_DIGITS):
        value, digit = divmod(value, 36)
        digits = _DIGITS[digit] + digits
    return digits + "".join(secrets.choice(_DIGITS) for _ in range(4))
