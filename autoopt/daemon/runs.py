"""The jobs that run: their guards, which are the daemon's children, and the devices that are leased for them.

It is what the loop holds in memory; all else is on the disk. A job stays among them until its end is written down.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from autoopt.daemon import orphans, snapshot
from autoopt.daemon.guard import NO_SPACE
from autoopt.daemon.guarded import Guarded
from autoopt.daemon.home import Home
from autoopt.daemon.jobs import ALIVE, Job, State
from autoopt.daemon.launch import Launch
from autoopt.daemon.moves import Moves
from autoopt.daemon.notes import Notes
from autoopt.daemon.outcome import Verdict, judge
from autoopt.daemon.schedule import Place, Scheduler
from autoopt.daemon.snapshot import Snapshot
from autoopt.daemon.store import Changed, Store
from autoopt.daemon.waiting import Waiting
from autoopt.daemon.waking import Waking
from autoopt.errors import RunError

_DRAIN_SECONDS = 6.0


@dataclass
class _Running:
    guard: Guarded
    place: Place
    job: str
    asked: bool = False
    verdict: Verdict | None = None
    """When it could not be written down yet."""


class Runs:
    """Started, stopped and ended by the loop's thread only.

    Args:
        home: the state folder.
        store: the queue.
        moves: what changes the jobs' states.
        waiting: for jobs that found the disk full.
        launch: what starts their guards.
        scheduler: gets their devices back.
        waking: tells when a guard has ended.
        notes: takes what goes wrong.
    """

    def __init__(
        self,
        home: Home,
        store: Store,
        *,
        moves: Moves,
        waiting: Waiting,
        launch: Launch,
        scheduler: Scheduler,
        waking: Waking,
        notes: Notes,
    ) -> None:
        self._home, self._store, self._moves, self._waiting = home, store, moves, waiting
        self._launch, self._scheduler, self._waking, self._notes = launch, scheduler, waking, notes
        self._running: dict[str, _Running] = {}
        self.starts = 0
        """Since the daemon began; so are `ends`."""
        self.ends = 0

    @property
    def ids(self) -> Collection[str]:
        """The jobs that run; it changes as they come and go."""
        return self._running.keys()

    def start(self, job: Job, taken: Snapshot, place: Place) -> None:
        """Have a job run at a place, which is its own from then on; given back at once when no guard could be started.

        Raises:
            Changed, DiskFull, RunError: it does not run, and the place is given back.
        """
        try:
            guard = self._launch.guard(job, taken, place)
            if guard is None:
                place.release()
                return
            self.starts += 1
            self._running[job.id] = _Running(guard, place, job.id)
            self._waking.watch(guard)
        except BaseException:
            if job.id not in self._running:
                place.release()
            raise

    def reap(self) -> None:
        """Guards that ended: what they told becomes the job's next state, then their devices are free."""
        for id_, running in list(self._running.items()):
            if not running.guard.ended():
                continue
            self._waking.forget(running.guard)
            try:
                if running.verdict is None:
                    running.verdict = self._verdict(running)
            except TimeoutError as error:
                # Inside a call of a driver: its device stays leased, and the others go on.
                self._notes.found(f"Of job {id_}, {error}")
                continue
            self._settle(id_, running)

    def cancel(self) -> None:
        """Guards of jobs that are to be cancelled are told so, once."""
        for job in self._store.jobs({State.CANCELLING}):
            running = self._running.get(job.id)
            if running is not None and not running.asked:
                running.asked = True
                running.guard.stop()

    def end(self, abrupt: Callable[[], bool]) -> None:
        """Everything that runs is ended; it goes on when a daemon starts again.

        Args:
            abrupt: whether not to wait for it; asked again and again.
        """
        for running in self._running.values():
            running.guard.abandon()
        deadline = time.monotonic() + (0.0 if abrupt() else _DRAIN_SECONDS)
        for id_, running in list(self._running.items()):
            while not running.guard.ended() and time.monotonic() < deadline and not abrupt():
                running.guard.wait(0.05)
            if running.guard.ended():
                try:
                    self._waking.forget(running.guard)
                    running.verdict = self._verdict(running)
                    self._settle(id_, running)
                except Exception as error:  # the next start finds it as it is
                    self._notes.in_trouble(f"{type(error).__name__}: {error}")
            running.guard.close()
            running.place.release()  # the guard keeps its own hold while anything of the job lives

    def _settle(self, id_: str, running: _Running) -> None:
        """Write the verdict down; the job stays among the running until that has worked."""
        job = self._store.get(id_)
        if job.state in ALIVE:
            if job.state is State.CANCELLING and running.verdict is not None:
                # It may have been cancelled after the verdict, which then reads differently.
                running.verdict = self._verdict(running)
            assert running.verdict is not None
            verdict = running.verdict
            if verdict.no_space or verdict.no_cluster:
                self._waiting.hold(id_)
            if verdict.no_cluster and self._scheduler.cluster is not None:
                self._scheduler.cluster.doubt()
            changed = self._changed_since(id_)
            try:
                self._moves.move(job, verdict.state, **verdict.changes, changed=changed)
            except Changed:  # a cancel came in between
                self._waking.wake()
                return
        del self._running[id_]
        self.ends += 1
        running.guard.close()
        self._scheduler.give_back(running.place)

    def _verdict(self, running: _Running) -> Verdict:
        job = self._store.get(running.job)
        folder = self._home.job(running.job)
        if running.guard.code == NO_SPACE:
            state = State.CANCELLED if job.state is State.CANCELLING else State.QUEUED
            return Verdict(state, {"reason": "the disk was full; it goes on when there is space"}, True)
        record = running.guard.record()
        if record is None or record["how"] == "running":
            # The guard was killed: nobody else has seen to it that all is gone.
            orphans.end(self._home.digest, job.id)
        verdict = judge(job, record, folder / "out", running.guard.code)
        error = verdict.changes.get("error")
        if isinstance(error, dict):
            with contextlib.suppress(RunError):
                taken = snapshot.read(folder)
                told = {
                    key: snapshot.in_users_words(value, taken, folder) if isinstance(value, str) else value
                    for key, value in error.items()
                }
                verdict = verdict._replace(
                    changes={**verdict.changes, "error": told, "reason": told["message"]}
                )
        return verdict

    def _changed_since(self, id_: str) -> list[str]:
        try:
            return snapshot.changes(snapshot.read(self._home.job(id_)))
        except RunError:
            return []
