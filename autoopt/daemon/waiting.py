"""Jobs that wait: why, in words, and until when those wait that could not be started or found the disk full."""

from __future__ import annotations

import time
from typing import NamedTuple

from autoopt.daemon.jobs import Job, State
from autoopt.daemon.limits import Limits


class _Held(NamedTuple):
    until: float
    pause: float


class Waiting:
    """Holds and reasons, in memory: a daemon that starts anew tries every job at once, and finds the reasons again.

    Args:
        limits: how long the pauses are.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held: dict[str, _Held] = {}
        self._reasons: dict[str, str] = {}

    def hold(self, id_: str) -> None:
        """Do not try it for a while: twice as long as the last time."""
        before = self._held.get(id_)
        pause = min(self._limits.pause if before is None else 2 * before.pause, self._limits.longest_pause)
        self._held[id_] = _Held(time.monotonic() + pause, pause)

    def held(self, id_: str) -> bool:
        """Whether it is too early to try it."""
        held = self._held.get(id_)
        return held is not None and time.monotonic() < held.until

    def let_go(self, id_: str) -> None:
        """Try it at once, and after that with the shortest pause."""
        self._held.pop(id_, None)

    def reason(self, id_: str) -> str:
        """Why a job waits, as of the last round; empty when it does not, or nobody has looked yet."""
        return self._reasons.get(id_, "")

    def replace(self, reasons: dict[str, str]) -> list[str]:
        """The reasons of a new round; returns the jobs whose reason is another one now."""
        changed = [id_ for id_, reason in reasons.items() if self._reasons.get(id_) != reason]
        self._reasons = reasons
        return changed

    def shown(self, job: Job) -> Job:
        """With the reason why it waits, which changes too often to be written down."""
        if job.state is not State.QUEUED:
            return job
        reason = self.reason(job.id) or job.reason or "it waits for its turn"
        return job.model_copy(update={"reason": reason})
