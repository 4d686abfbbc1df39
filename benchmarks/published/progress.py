"""How far a claim is, and how long it will still take."""

from __future__ import annotations

import sys
import time


class Progress:
    """Says what share of the work is done and the time left, on standard error.

    Args:
        name: of the claim.
        work: all of it, in any unit (steps).

    >>> remaining(seconds=30.0, done=10.0, work=40.0)
    90.0
    """

    def __init__(self, name: str, work: float) -> None:
        self.name = name
        self.work = work
        self._done = self._free = 0.0
        self._begin = time.monotonic()

    def add(self, work: float, note: str, free: bool = False) -> None:
        """Counts `work` as done; `free` work took no time, for it was kept from an earlier sitting."""
        self._done += work
        self._free += work if free else 0.0
        left = remaining(time.monotonic() - self._begin, self._done - self._free, self.work - self._free)
        told = "" if left is None else f", {left:.0f} s left"
        print(f"{self.name}: {self._done / self.work:.0%}{told}; {note}", file=sys.stderr, flush=True)


def remaining(seconds: float, done: float, work: float) -> float | None:
    """Seconds left if the rest goes at the pace so far; None before there is a pace."""
    return seconds / done * (work - done) if done > 0 else None
