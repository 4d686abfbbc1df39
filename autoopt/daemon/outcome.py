"""What became of a job, from what its guard told: the next state of its record."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any, NamedTuple

from autoopt.daemon.guard import boot
from autoopt.daemon.jobs import Job, State

MAX_DEATHS = 2
"""A job whose process died so often without a word is set aside."""
MAX_LOSSES = 5
"""A job that lost its cluster so often is set aside: it may be what brings the cluster down."""
_INTERRUPTED = 130
_COMPLETE = re.compile(rb"^complete: (true|false)\s*$", re.MULTILINE)
_RESULT = "recommendation.yaml"


class Verdict(NamedTuple):
    """The next state, and what changes with it."""

    state: State
    changes: dict[str, Any]
    no_space: bool = False
    """The disk was full: it is tried again when there is space."""
    no_cluster: bool = False
    """The cluster was lost: it is tried again when that is there."""


def judge(job: Job, record: dict[str, Any] | None, out: Path, guard: int | None = None) -> Verdict:
    """The verdict on a job that is running or cancelling and whose guard is gone.

    Args:
        record: what the guard told of this attempt; `None`: nothing.
        out: the run's folder.
        guard: the guard's own exit code (negative: a signal); `None`: not known.
    """
    told = record or {}
    how = told.get("how")
    if how == "ended" or how == "stopped":
        verdict = _ended(job, told, out)
    elif how == "not_started":
        verdict = _failed(
            "WorkerError",
            f"The job's process could not be started: {told.get('said', '')}.",
            "Check the interpreter and the folder that it was submitted with.",
            6,
        )
    elif how == "running" and told.get("boot") in ("", boot()):
        # The guard itself was killed, and on this start of the machine: not a power cut.
        verdict = _died(job, "its processes were killed")
    elif how is None and guard not in (None, 0):
        # It ended before it had written anything: nothing says that the next one would do better.
        verdict = _died(
            job, f"its guard could not begin (exit code {guard}, see guard-errors.txt in its folder)"
        )
    else:
        verdict = Verdict(State.QUEUED, {"reason": "it goes on where it was when its daemon ended"})
    if job.state is State.CANCELLING and verdict.state is not State.DONE:
        return Verdict(State.CANCELLED, {"reason": "it was cancelled", "error": None})
    return verdict


def _ended(job: Job, told: dict[str, Any], out: Path) -> Verdict:
    code, number = told.get("code"), told.get("signal")
    if number is not None:
        return _died(job, f"its process was ended by {_signal(number)}")
    complete = read_complete(out)
    if code == 0 and complete is not None:
        reason = "" if job.state is State.RUNNING else "it had finished when the cancel came"
        return Verdict(State.DONE, {"reason": reason, "complete": complete, "error": None})
    if code == _INTERRUPTED:
        if complete is not None and job.state is State.RUNNING:
            reason = "it was interrupted from outside; the recommendation is of what was measured until then"
            return Verdict(State.DONE, {"reason": reason, "complete": False, "error": None})
        return Verdict(State.CANCELLED, {"reason": "it was interrupted from outside", "error": None})
    error = told.get("error")
    if isinstance(error, dict):
        if error.get("kind") == "DiskFull":
            return Verdict(
                State.QUEUED, {"reason": "the disk was full; it goes on when there is space"}, True
            )
        if error.get("kind") == "ClusterGone":
            return _lost(job, str(error.get("message", "")))
        return Verdict(State.FAILED, {"reason": str(error.get("message", "")), "error": error})
    said = str(told.get("said", "")).strip().splitlines()
    last = f" Its last words: {said[-1][:300]}" if said else ""
    if code == 0:
        return _failed("Unexpected", f"The job ended without a recommendation.{last}", "See its log.", 1)
    return _failed("Unexpected", f"The job's process ended with exit code {code}.{last}", "See its log.", 1)


def _died(job: Job, how: str) -> Verdict:
    deaths = job.deaths + 1
    if deaths < MAX_DEATHS:
        return Verdict(State.QUEUED, {"deaths": deaths, "reason": f"{how}; it is tried once more"})
    hint = "Perhaps memory ran out: see its log. `autoopt retry` tries it again."
    message = f"The job was set aside: {how}, and so were those of the attempt before."
    error = {"kind": "WorkerError", "message": message, "hint": hint, "exit_code": 6}
    return Verdict(State.SET_ASIDE, {"deaths": deaths, "reason": message, "error": error})


def _lost(job: Job, said: str) -> Verdict:
    losses = job.losses + 1
    if losses < MAX_LOSSES:
        reason = f"it waits for the cluster, and goes on where it was: {said}"
        return Verdict(State.QUEUED, {"losses": losses, "reason": reason}, no_cluster=True)
    hint = "Perhaps it is what brings the machines down: see its log. `autoopt retry` goes on with it."
    message = f"The job was set aside: it has lost the cluster {losses} times. {said}"
    error = {"kind": "ClusterGone", "message": message, "hint": hint, "exit_code": 6}
    return Verdict(State.SET_ASIDE, {"losses": losses, "reason": message, "error": error}, no_cluster=True)


def _failed(kind: str, message: str, hint: str, code: int) -> Verdict:
    error = {"kind": kind, "message": message, "hint": hint, "exit_code": code}
    return Verdict(State.FAILED, {"reason": message, "error": error})


def read_complete(out: Path) -> bool | None:
    """Whether a folder's recommendation is of a whole run; `None` when there is no recommendation."""
    try:
        found = _COMPLETE.search((out / _RESULT).read_bytes())
    except OSError:
        return None
    return None if found is None else found[1] == b"true"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
