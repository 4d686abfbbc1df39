"""The runs' events, followed for those who watch: what is new since the last round, and the whole view of one job."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Collection
from typing import Any

from autoopt.daemon.follow import Follower
from autoopt.daemon.home import Home
from autoopt.daemon.hub import Hub

_KEPT = 64


class Following:
    """Followers, of all jobs that run and of those that were looked at last.

    Args:
        home: the state folder.
        hub: tells those who watch.
        running: the jobs that run; it changes as they come and go.
    """

    def __init__(self, home: Home, hub: Hub, running: Collection[str]) -> None:
        self._home, self._hub, self._running = home, hub, running
        self._followers: OrderedDict[str, Follower] = OrderedDict()
        self._lock = threading.Lock()

    def tell(self) -> None:
        """What the runs have written since the last round."""
        for id_ in list(self._running):
            with self._lock:
                follower = self._follower(id_)
                told = follower.update()
                progress = follower.progress(running=True)
            for change in told:
                self._hub.publish("live", id_, {"progress": progress, **change})

    def view(self, id_: str, *, running: bool) -> dict[str, Any]:
        """What a job is doing, read up to now; see `Follower.view`."""
        with self._lock:
            follower = self._follower(id_)
            follower.update()
            # A copy, as JSON has it: the follower goes on writing in what it shows.
            view: dict[str, Any] = json.loads(json.dumps(follower.view(running=running)))
            return view

    def forget(self, id_: str) -> None:
        """Of a job that is there no more."""
        with self._lock:
            self._followers.pop(id_, None)

    def _follower(self, id_: str) -> Follower:
        follower = self._followers.get(id_)
        if follower is None:
            follower = self._followers[id_] = Follower(self._home.job(id_) / "out")
            while len(self._followers) > _KEPT + len(self._running):
                self._followers.popitem(last=False)
        self._followers.move_to_end(id_)
        return follower
