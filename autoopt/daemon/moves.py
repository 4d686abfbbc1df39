"""A job's move from state to state: on the disk first, then told to those who watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autoopt.daemon import recovery
from autoopt.daemon.home import Home
from autoopt.daemon.hub import Hub
from autoopt.daemon.jobs import Job, State
from autoopt.daemon.store import Store
from autoopt.daemon.waiting import Waiting


class Moves:
    """For any thread: of two who move a job at once, one succeeds and one is told.

    Args:
        home: the state folder.
        store: the queue.
        waiting: knows why jobs wait, for those who watch.
        hub: tells them.
        clock: Unix time.
    """

    def __init__(
        self, home: Home, store: Store, waiting: Waiting, hub: Hub, clock: Callable[[], float]
    ) -> None:
        self._home, self._store, self._waiting, self._hub = home, store, waiting, hub
        self._clock = clock

    def move(self, job: Job, state: State, **changes: Any) -> Job:
        """Into another state, with other changes of its record.

        Raises:
            Changed, DiskFull, RunError: as `Store.replace`.
        """
        after = recovery.move(self._store, self._home, job, state, self._clock(), **changes)
        self.tell(after)
        return after

    def tell(self, job: Job) -> None:
        """Those who watch see the job as it is now."""
        self._hub.publish("job", job.id, self._waiting.shown(job).model_dump(mode="json"))
