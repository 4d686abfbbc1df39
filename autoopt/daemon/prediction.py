"""What a GPU job needs of memory, asked before its first start: `autoopt memory` in a process that can be ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autoopt.daemon import commands, orphans, snapshot
from autoopt.daemon.guarded import Guarded, order_for
from autoopt.daemon.home import Home
from autoopt.daemon.jobs import Job
from autoopt.daemon.snapshot import Snapshot

_ANSWER = "memory.json"
_RECORD = "memory-guard.json"
_GRACE = 1.0


@dataclass(frozen=True)
class Prediction:
    """Bytes of a GPU that the leanest of a job's optimizers needs, the driver's part included; `None`: not known."""

    need: int | None


class Predictions:
    """One at a time: a prediction imports the user's code and keeps a core busy.

    Args:
        home: the state folder.
        command: that answers; for tests.
    """

    def __init__(
        self, home: Home, command: Callable[[Job, Snapshot, int], list[str]] = commands.memory
    ) -> None:
        self._home = home
        self._command = command
        self._known: dict[str, Prediction] = {}
        self._asked: tuple[str, Guarded] | None = None

    def ask(self, job: Job, capacity: int) -> Prediction | None:
        """The answer for a GPU of `capacity` bytes; `None` while it is being found, or another job's is."""
        if job.id in self._known:
            return self._known[job.id]
        folder = self._home.job(job.id)
        if (answer := folder / _ANSWER).exists():  # of an earlier daemon
            self._known[job.id] = read(answer)
            return self._known[job.id]
        if self._asked is None:
            taken = snapshot.read(folder)
            home = self._home.digest
            order = order_for(
                folder,
                record=_RECORD,
                attempt=1,
                command=self._command(job, taken, capacity),
                cwd=taken.cwd,
                environment=commands.environment(job.submission, orphans.marker(home, job.id), []),
                grace=_GRACE,
                group=orphans.group(home, job.id),
                answer=_ANSWER,
            )
            try:
                self._asked = job.id, Guarded(order)
            except OSError:
                self._known[job.id] = Prediction(None)
                return self._known[job.id]
        return None

    def turn(self) -> None:
        """Takes note of an answer that has come."""
        if self._asked is None:
            return
        id_, guard = self._asked
        if guard.ended():
            guard.close()
            self._known[id_] = read(self._home.job(id_) / _ANSWER)
            self._asked = None

    def forget(self, id_: str) -> None:
        """A job that is tried again is asked about again."""
        self._known.pop(id_, None)
        (self._home.job(id_) / _ANSWER).unlink(missing_ok=True)

    def close(self) -> None:
        """Ends what is being asked."""
        if self._asked is not None:
            self._asked[1].abandon()
            self._asked[1].wait(5.0)
            self._asked[1].close()
            self._asked = None


def read(path: Path) -> Prediction:
    """The least that one of the optimizers needs; not known where the prediction failed: then the run itself finds out."""
    try:
        told = json.loads(path.read_bytes())
        context = int(told["context_bytes"] or 0)
        needs = [row["peak_bytes"] + context for row in told["optimizers"] if row["peak_bytes"] is not None]
    except (OSError, ValueError, KeyError, TypeError):
        return Prediction(None)
    return Prediction(min(needs, default=None))
