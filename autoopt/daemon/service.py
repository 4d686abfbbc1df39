"""The daemon's service: it takes jobs in, runs them one per device, and tells how they are. Its methods are for any thread.

A thread of its own does the work, see `Loop`. The truth is on the disk (the queue, the jobs' folders); what is held in
memory are the guards, which are children of this process, and the leases.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from autoopt import __version__
from autoopt.daemon import commands, logs, recovery
from autoopt.daemon.cluster import ClusterDevices
from autoopt.daemon.following import Following
from autoopt.daemon.home import Home, Lock
from autoopt.daemon.hub import Hub, Update
from autoopt.daemon.intake import Intake
from autoopt.daemon.jobs import ALIVE, ENDED, Job, NotPossible, State, Submission
from autoopt.daemon.launch import Command, Launch
from autoopt.daemon.limits import Limits
from autoopt.daemon.loop import Loop
from autoopt.daemon.machine import Machine, describe
from autoopt.daemon.moves import Moves
from autoopt.daemon.notes import Notes
from autoopt.daemon.prediction import Predictions
from autoopt.daemon.retention import Keep, Retention
from autoopt.daemon.runs import Runs
from autoopt.daemon.schedule import Scheduler
from autoopt.daemon.snapshot import Snapshot
from autoopt.daemon.starting import Starting
from autoopt.daemon.store import Changed
from autoopt.daemon.waiting import Waiting
from autoopt.daemon.waking import Waking
from autoopt.files import plain
from autoopt.hardware.cpu import cpu_slots
from autoopt.hardware.leases import Leases
from autoopt.records import Cluster

_STALLED_SECONDS = 30.0
_LISTED = 200


class Service:
    """The jobs of a home.

    Args:
        home: the state folder.
        devices: that it may use: "auto" (all), "cpu", "none", or GPUs: "cuda:0,cuda:1".
        cluster: where jobs run that name no device of this machine, and what each trial takes of it.
        limits: see `Limits`.
        keep: how long ended jobs stay.
        command: what a job's runner is; for tests.
        memory: what predicts the memory that it needs; for tests.
        machine: its devices; asked from the driver unless given.
        leases: the machine's locks.
        clock: Unix time; for tests.
        say: takes what whoever started the daemon should know; to standard error unless given.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     service = Service(Home(folder), devices="cpu")
        ...     service.start()
        ...     counts = service.metrics()["queued"]
        ...     service.stop()
        >>> counts
        0
    """

    def __init__(
        self,
        home: Home,
        *,
        devices: str = "auto",
        cluster: Cluster | None = None,
        limits: Limits | None = None,
        keep: Keep | None = None,
        command: Command = commands.profile,
        memory: Callable[[Job, Snapshot, int], list[str]] = commands.memory,
        machine: Machine | None = None,
        leases: Leases | None = None,
        clock: Callable[[], float] = time.time,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.home = home
        self._devices, self._given_cluster = devices, cluster
        self._limits = limits or Limits()
        self._keep = keep or Keep()
        self._command, self._memory = command, memory
        self._given_machine = machine
        self._leases = leases or Leases()
        self._clock = clock
        self._notes = Notes(say)
        self._waiting = Waiting(self._limits)
        self._since = clock()
        self._works = False
        self.hub = Hub(self._everything)

    # --- life ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take the home, make whole what an earlier daemon left, begin to work.

        Raises:
            HomeInUse: another daemon serves it.
            RunError: it cannot be written to, is of a newer autoopt, or the locks' folder cannot be used.
            DeviceError: a device to serve that is not there.
        """
        self.home.make()
        self._lock = Lock(self.home)
        try:
            self._machine = self._given_machine or Machine(self._devices)
            self._waking = Waking()
            self._cluster = self._make_cluster()
            scheduler = Scheduler(self._machine, self._leases, self._cluster)
            self._leases.holder("none")  # whether the place can be used is better known now
            self._store = recovery.open_store(self.home, self._notes.say)
            recovery.settle(self.home, self._store, self._clock(), self._notes.say)
            self._put_together(scheduler)
        except BaseException:
            self._lock.release()
            raise
        self._works = True
        if self._cluster is not None:
            self._cluster.start()
        self._loop.start()
        self._retention.start()

    def _make_cluster(self) -> ClusterDevices | None:
        if self._given_cluster is None:
            return None
        return ClusterDevices(self._given_cluster, self.home, self._waking.wake, max(2, 2 * cpu_slots()))

    def _put_together(self, scheduler: Scheduler) -> None:
        home, store, waiting, notes, clock = self.home, self._store, self._waiting, self._notes, self._clock
        self._predictions = Predictions(home, self._memory)
        self._intake = Intake(home, store, self._machine, clock, self._cluster)
        self._moves = moves = Moves(home, store, waiting, self.hub, clock)
        launch = Launch(
            home, moves, waiting, notes, command=self._command, grace=self._limits.grace, clock=clock
        )
        self._runs = Runs(
            home,
            store,
            moves=moves,
            waiting=waiting,
            launch=launch,
            scheduler=scheduler,
            waking=self._waking,
            notes=notes,
        )
        starting = Starting(
            home,
            store,
            moves=moves,
            waiting=waiting,
            predictions=self._predictions,
            scheduler=scheduler,
            runs=self._runs,
            notes=notes,
            free=self._limits.free,
        )
        self._following = Following(home, self.hub, self._runs.ids)
        self._retention = Retention(
            home,
            store,
            running=self._runs.ids,
            gone=self._forgotten,
            notes=notes,
            clock=clock,
            keep=self._keep,
        )
        self._loop = Loop(self._waking, self._runs, starting, self._following, self._predictions, notes)

    def stop(self, drain: bool = True) -> None:
        """End. Jobs that run are ended too, and go on at the next start; nothing is started any more.

        Args:
            drain: wait until they are ended (a few seconds); else their guards see to it.
        """
        if not self._works:
            return
        self._retention.stop()
        self._loop.stop(abrupt=not drain)
        if self._cluster is not None:
            self._cluster.stop()
        self._works = False
        self.hub.close()
        self._store.close()
        self._waking.close()
        self._lock.release()

    # --- what users ask for ----------------------------------------------------------------------------------

    def submit(self, submission: Submission, bundle: Path | None = None) -> Job:
        """Take a job in. It is on the disk, with a copy of its code, when this returns.

        Args:
            submission: what is asked.
            bundle: folder of a project that was sent; it becomes the job's. Without it, `submission.cwd` says where the
                target is.

        Raises:
            UsageError, WorkloadError: what is asked for cannot be done.
            DiskFull, RunError: it could not be kept; nothing was taken in.
        """
        job, new = self._intake.take(submission, bundle)
        if new:
            self._moves.tell(job)
            self._waking.wake()
        return job

    def jobs(
        self, states: Collection[State] | None = None, limit: int = _LISTED, before: str | None = None
    ) -> list[Job]:
        """Jobs, the newest first; those older than the job `before`, for the next page."""
        return [self._waiting.shown(job) for job in self._store.jobs(states, limit, before)]

    def job(self, id_: str) -> Job:
        """A job. Raises NoSuchJob."""
        return self._waiting.shown(self._store.get(id_))

    def cancel(self, id_: str) -> Job:
        """End a job. A second cancel changes nothing; one that comes when the job has finished is too late.

        Raises:
            NoSuchJob.
            NotPossible: it ended otherwise.
        """
        while True:
            job = self._store.get(id_)
            if job.state in (State.CANCELLED, State.CANCELLING):
                return self._waiting.shown(job)
            if job.state in ENDED:
                raise NotPossible(f"Job {id_} has ended already: it is {_words(job.state)}.", "")
            state = State.CANCELLED if job.state is State.QUEUED else State.CANCELLING
            with contextlib.suppress(Changed):
                after = self._moves.move(job, state, reason="it was cancelled")
                self._waking.wake()
                return after

    def retry(self, id_: str) -> Job:
        """Queue a job again that failed, was cancelled or set aside: with the code that was handed in.

        A failed one starts anew, its events being what failed; the others go on where they were.

        Raises:
            NoSuchJob.
            NotPossible: it is done, or has not ended.
        """
        while True:
            job = self._store.get(id_)
            if job.state not in ENDED or job.state is State.DONE:
                raise NotPossible(
                    f"Job {id_} is {_words(job.state)}: only what failed, was cancelled or set aside can be tried again.",
                    "Submit it anew.",
                )
            if job.state is State.FAILED:
                self.home.put_out_aside(id_)
            with contextlib.suppress(Changed):
                after = self._moves.move(
                    job, State.QUEUED, reason="", error=None, deaths=0, losses=0, complete=None, started=None
                )
                self._waiting.let_go(id_)
                self._predictions.forget(id_)
                self._waking.wake()
                return after

    def forget(self, id_: str) -> dict[str, Any]:
        """Remove an ended job and all that it left: {"jobs", "freed_bytes"}. See `Retention.forget`."""
        while True:
            with contextlib.suppress(Changed):
                return {"jobs": [id_], "freed_bytes": self._retention.forget(id_)}

    def prune(
        self, days: float | None = None, jobs: int | None = None, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Remove ended jobs that are not to be kept: {"jobs", "freed_bytes"}. What is not given is as at the start."""
        keep = Keep(
            self._keep.days if days is None else days,
            self._keep.jobs if jobs is None else jobs,
        )
        gone, freed = self._retention.prune(keep, dry_run=dry_run)
        return {"jobs": gone, "freed_bytes": freed}

    def disk(self) -> dict[str, Any]:
        """{"jobs", "bytes", "free", "keep"}: what jobs take of the disk, and how long ended ones are kept."""
        days = self._keep.days if math.isfinite(self._keep.days) else None
        return {**self._retention.disk().record(), "keep": {"days": days, "jobs": self._keep.jobs}}

    def _forgotten(self, ids: list[str]) -> None:
        for id_ in ids:
            self._following.forget(id_)
            self._waiting.let_go(id_)
            self._predictions.forget(id_)
        self.hub.reset()

    def result(self, id_: str) -> dict[str, Any]:
        """The recommendation, as plain data.

        Raises:
            NoSuchJob.
            NotPossible: there is none.
            RunError: it is damaged.
        """
        from autoopt.report import recipe

        job = self._store.get(id_)
        path = self.home.job(id_) / "out" / recipe.FILE_NAME
        if job.state is not State.DONE or not path.exists():
            why = f": {job.reason.rstrip('.')}" if job.reason else ""
            raise NotPossible(
                f"Job {id_} has no recommendation, it is {_words(job.state)}{why}.",
                "" if job.state in ENDED else f"Wait for it: autoopt watch {id_}.",
            )
        return plain(recipe.load(path))

    def live(self, id_: str) -> dict[str, Any]:
        """What a job is doing: {"job", "plan", "workload", "progress", "trials", "rounds", ...}. Raises NoSuchJob."""
        job = self.job(id_)
        view = self._following.view(id_, running=job.state in ALIVE)
        return {"job": job.model_dump(mode="json"), **view}

    def log(self, id_: str, tail: int = 65536) -> str:
        """The last `tail` bytes of what a job's processes printed. Raises NoSuchJob."""
        self._store.get(id_)
        return logs.read(self.home.job(id_), tail)

    def file(self, id_: str, name: str) -> Path:
        """A file of a job's results: recommendation.yaml, train.py, report.html.

        Raises:
            NoSuchJob.
            NotPossible: it is not there.
        """
        self._store.get(id_)
        path = self.home.job(id_) / "out" / name
        if name not in ("recommendation.yaml", "train.py", "report.html") or not path.is_file():
            raise NotPossible(f"Job {id_} has no {name}.", "It is written when the job is done.")
        return path

    def updates(self, after: int | None) -> list[Update]:
        """What followed the update `after`; never waits. See `Hub.after`."""
        return self.hub.after(after)

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """See `Hub.listen`."""
        return self.hub.listen(wake)

    def subscribe(self, after: int | None = None, pause: float = 15.0) -> Iterator[Update | None]:
        """Updates as they come; see `Hub.subscribe`."""
        return self.hub.subscribe(after, pause)

    # --- what an operator asks for ----------------------------------------------------------------------------

    def devices(self) -> list[dict[str, Any]]:
        """{"uuid", "name", "kind", "total", "free", "leased_by", "others"} of each; bytes, cores of the CPU, or places.

        Of a cluster besides: "address", "used", "machines", "trouble" (why it is not there).
        """
        there = [] if self._cluster is None else self._cluster.devices()
        return [*there, *describe(self._machine, self._leases)]

    def health(self) -> dict[str, Any]:
        """{"status": "ok", "degraded" or "stalled", "stalled", "trouble": [...], "notes": [...], "version", ...}."""
        stalled = self._loop.age > _STALLED_SECONDS
        there = "" if self._cluster is None else self._cluster.trouble
        trouble = [text for text in (self._notes.trouble, self._machine.trouble, there) if text]
        return {
            "status": "stalled" if stalled else "degraded" if trouble else "ok",
            "stalled": stalled,
            "trouble": trouble,
            "notes": self._notes.told,
            "version": __version__,
            "pid": os.getpid(),
            "since": self._since,
            "home": str(self.home.path),
            "running": len(self._runs.ids),
        }

    def metrics(self) -> dict[str, float]:
        """Numbers for a monitoring system: jobs in each state, starts and ends since the daemon began, and more."""
        counts: dict[str, float] = {str(state): count for state, count in self._store.counts().items()}
        counts["starts_total"], counts["ends_total"] = self._runs.starts, self._runs.ends
        counts["guards"] = len(self._runs.ids)
        counts["disk_free_bytes"] = self.home.free()
        if (taken := self._retention.taken) is not None:
            counts["disk_jobs_bytes"] = taken.bytes
        counts["loop_age_seconds"] = self._loop.age
        return counts if self._cluster is None else {**counts, **self._cluster.figures()}

    def _everything(self) -> dict[str, Any]:
        return {"jobs": [job.model_dump(mode="json") for job in self.jobs(limit=_LISTED)]}


def _words(state: State) -> str:
    return str(state).replace("_", " ")
