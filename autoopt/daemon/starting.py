"""One pass over the queue: what may start is started, and of the others it is known why they wait."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from autoopt.daemon import snapshot
from autoopt.daemon.home import Home
from autoopt.daemon.jobs import ALIVE, Job, State
from autoopt.daemon.moves import Moves
from autoopt.daemon.notes import Notes
from autoopt.daemon.prediction import Predictions
from autoopt.daemon.runs import Runs
from autoopt.daemon.schedule import Scheduler
from autoopt.daemon.snapshot import Snapshot
from autoopt.daemon.store import Changed, Store
from autoopt.daemon.waiting import Waiting
from autoopt.errors import AutooptError, DeviceError, DiskFull, RunError
from autoopt.journal import has_run
from autoopt.trials.cluster.allotted import ALLOTTED
from autoopt.units import show_bytes

_TOLD = 20
_CANNOT_START = "it cannot be started"


class Starting:
    """In the order of priority and age.

    Args:
        home: the state folder.
        store: the queue.
        moves: what changes the jobs' states.
        waiting: why jobs wait, and which are not to be tried yet.
        predictions: what jobs need of memory.
        scheduler: which devices they get.
        runs: has them run.
        notes: takes what goes wrong.
        free: no job starts while fewer bytes are free on the disk.
    """

    def __init__(
        self,
        home: Home,
        store: Store,
        *,
        moves: Moves,
        waiting: Waiting,
        predictions: Predictions,
        scheduler: Scheduler,
        runs: Runs,
        notes: Notes,
        free: int,
    ) -> None:
        self._home, self._store, self._moves, self._waiting = home, store, moves, waiting
        self._predictions, self._scheduler, self._runs, self._notes = predictions, scheduler, runs, notes
        self._least = free
        self._places: dict[str, int] = {}

    def turn(self, ending: Callable[[], bool]) -> None:
        """A pass.

        Args:
            ending: whether nothing is to be started any more; asked before each job.
        """
        self._predictions.turn()
        self._scheduler.begin()
        self._tell_places()
        reasons: dict[str, str] = {}
        queued = self._store.queued()
        if queued and (free := self._home.free()) < self._least:
            least = show_bytes(self._least)
            reasons = dict.fromkeys(
                queued, f"it waits for space on the disk: {show_bytes(free)} free, {least} needed"
            )
            queued = []
        for id_ in queued:
            if self._scheduler.full or ending():
                break
            if self._waiting.held(id_):
                reasons[id_] = self._waiting.reason(id_)
                if reasons[id_].startswith(_CANNOT_START):
                    self._notes.found(f"Job {id_}: {reasons[id_]}")
                continue
            job = self._store.get(id_)
            if job.state is not State.QUEUED:  # cancelled a moment ago
                continue
            try:
                reason = self._begin(job)
            except Changed:
                continue
            except (DeviceError, _Refused) as error:
                told = {"kind": "DeviceError", "message": error.message, "hint": error.hint, "exit_code": 2}
                with contextlib.suppress(Changed):
                    self._moves.move(job, State.FAILED, reason=error.message, error=told)
                continue
            except DiskFull:
                raise
            except RunError as error:  # of this job's folder, or of the locks: the others have their turn
                self._waiting.hold(id_)
                reason = f"{_CANNOT_START}: {error.message}"
                self._notes.found(f"Job {id_}: {reason}")
            if reason:
                reasons[id_] = reason
        self._tell(reasons)

    def _tell_places(self) -> None:
        """Of jobs on a cluster, whose places change while they run: those that have others now."""
        if self._scheduler.cluster is None:
            return
        places = self._scheduler.cluster.begin()
        for id_, count in places.items():
            if self._places.get(id_) != count:
                job = self._store.get(id_)
                if job.state in ALIVE and job.places != count:
                    try:
                        self._moves.move(job, job.state, places=count)
                    except Changed:
                        places[id_] = job.places  # told the next time
        self._places = places

    def _tell(self, reasons: dict[str, str]) -> None:
        """Why jobs wait, to those who watch; of a long queue only those that are next."""
        for id_ in self._waiting.replace(reasons)[:_TOLD]:
            job = self._store.get(id_)
            if job.state is State.QUEUED:
                self._moves.tell(job)

    def _begin(self, job: Job) -> str:
        """Starts a job, or says why it waits."""
        taken = self._snapshot(job)
        folder = self._home.job(job.id)
        if self._scheduler.cluster is None and (folder / ALLOTTED).exists() and has_run(folder / "out"):
            return "it began on a cluster, and waits for a daemon that has one (autoopt serve --cluster)"
        need = None
        largest = self._scheduler.largest(job)
        if largest is not None and job.attempts == 0:
            asked = self._predictions.ask(job, largest)
            if asked is None:
                return "the memory that it needs is being predicted"
            need = asked.need
            if need is not None and need > largest:
                raise _Refused(
                    f"The job needs {show_bytes(need)} of a GPU's memory at least (predicted, with the leanest of its"
                    f" optimizers), and the largest GPU here has {show_bytes(largest)}.",
                    "Use smaller batches with --accumulate, another precision, or a larger GPU; see `autoopt memory`.",
                )
        place = self._scheduler.place(job, need)
        if isinstance(place, str):
            return place
        self._runs.start(job, taken, place)
        return ""

    def _snapshot(self, job: Job) -> Snapshot:
        try:
            return snapshot.read(self._home.job(job.id))
        except RunError as error:
            raise _Refused(
                f"The job's copy of its code is lost: {error.message}", "Submit it anew."
            ) from error


class _Refused(AutooptError):
    """A job that no device here can hold."""
