"""Updates to whoever watches: numbered, kept for a while, so that a client that was away catches up."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Literal

from autoopt.records import Record

_KEPT = 4096


class Update(Record):
    """Something that changed: a job's record (`job`), what its run is doing (`live`), or all of it (`reset`)."""

    id: int
    kind: Literal["job", "live", "reset"]
    job_id: str = ""
    data: dict[str, Any]


class Hub:
    """A ring of updates.

    Args:
        everything: what a `reset` carries, for a client whose last update is no longer kept.
    """

    def __init__(self, everything: Callable[[], dict[str, Any]], kept: int = _KEPT) -> None:
        self._everything = everything
        self._ring: deque[Update] = deque(maxlen=kept)
        # Ids go on where those of an earlier daemon ended, so that a client of that one is reset, not fooled.
        self._last = int(time.time() * 1000)
        self._first = self._last
        self._condition = threading.Condition()
        self._listeners: set[Callable[[], None]] = set()
        self._closed = False

    @property
    def last(self) -> int:
        """Id of the newest update."""
        return self._last

    def publish(self, kind: Literal["job", "live"], job_id: str, data: dict[str, Any]) -> None:
        """Add an update and tell those who wait."""
        with self._condition:
            self._last += 1
            self._ring.append(Update(id=self._last, kind=kind, job_id=job_id, data=data))
            self._condition.notify_all()
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def reset(self) -> None:
        """Have everybody begin anew, with all that there is: something is there no more."""
        with self._condition:
            self._last += 1
            self._ring.clear()
            self._condition.notify_all()
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def after(self, last: int | None) -> list[Update]:
        """What followed the update `last`; a `reset` when that is no longer known, or `None`. Never waits."""
        with self._condition:
            newest = self._last
            oldest = self._ring[0].id if self._ring else newest + 1
            if last is not None and oldest - 1 <= last <= newest:
                # From the right: most clients are only a little behind.
                found: list[Update] = []
                for update in reversed(self._ring):
                    if update.id <= last:
                        break
                    found.append(update)
                return found[::-1]
        # What changes while this is gathered has a higher id, and comes again.
        return [Update(id=newest, kind="reset", data=self._everything())]

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called (from any thread, quickly please) at every update; returns how to end that."""
        with self._condition:
            self._listeners.add(listener)

        def end() -> None:
            with self._condition:
                self._listeners.discard(listener)

        return end

    def subscribe(self, after: int | None = None, pause: float = 15.0) -> Iterator[Update | None]:
        """Updates as they come, from `after` on; `None` when there was none for `pause` seconds. Ends with the daemon."""
        last = after
        while True:
            found = self.after(last)
            for update in found:
                last = update.id
                yield update
            with self._condition:
                if self._closed:
                    return
                if self._last == last and not self._condition.wait(pause):
                    quiet = True
                else:
                    quiet = False
            if quiet:
                yield None

    def close(self) -> None:
        """Ends all subscriptions."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    @property
    def closed(self) -> bool:
        """Whether no more updates will come."""
        return self._closed
