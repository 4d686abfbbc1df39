"""The daemon's service: it takes jobs in, runs them one per device, and tells how they are. Its methods are for any thread.

A thread of its own goes round a loop: it takes note of guards that ended, starts what may start, reads what runs have
written. The truth is on the disk (the queue, the jobs' folders); what the loop holds in memory are the guards, which are its
children, and the leases. A round that fails changes nothing that the next round would not find again.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoopt import __version__
from autoopt.daemon import commands, logs, orphans, recovery, snapshot
from autoopt.daemon.checks import check
from autoopt.daemon.follow import Follower, first_damage
from autoopt.daemon.guard import NO_SPACE
from autoopt.daemon.guarded import Guarded, order_for
from autoopt.daemon.home import Home, Lock
from autoopt.daemon.hub import Hub, Update
from autoopt.daemon.jobs import ALIVE, ENDED, Job, NotPossible, State, Submission, new_id
from autoopt.daemon.machine import Machine, describe
from autoopt.daemon.outcome import Verdict, judge
from autoopt.daemon.prediction import Predictions
from autoopt.daemon.schedule import Place, Scheduler
from autoopt.daemon.snapshot import Snapshot
from autoopt.daemon.store import Changed
from autoopt.errors import AutooptError, DeviceError, DiskFull, RunError
from autoopt.files import plain, raise_unwritable, write_record
from autoopt.hardware.leases import Leases
from autoopt.journal import has_run
from autoopt.units import show_bytes

_TICK = 0.5
_STALLED_SECONDS = 30.0
_DRAIN_SECONDS = 6.0
_FOLLOWED = 64
_LISTED = 200
_TOLD = 20
_CANNOT_START = "it cannot be started"

Command = Callable[..., list[str]]
"""See `commands.profile`."""


@dataclass
class Limits:
    """How patient the service is, in seconds, and how careful with the disk, in bytes."""

    grace: float = 5.0
    """That a cancelled run has, to end by itself."""
    pause: float = 5.0
    """Before a job is tried again that found the disk full; doubled each time, up to `longest_pause`."""
    longest_pause: float = 300.0
    free: int = 64 * 2**20
    """No job starts while less is free on the disk."""


@dataclass
class _Running:
    guard: Guarded
    place: Place
    job: str
    asked: bool = False
    verdict: Verdict | None = None
    """When it could not be written down yet."""


@dataclass
class _Held:
    until: float
    pause: float
    reason: str = field(default="")


class Service:
    """The jobs of a home.

    Args:
        home: the state folder.
        devices: that it may use: "auto" (all), "cpu", or GPUs: "cuda:0,cuda:1".
        limits: see `Limits`.
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
        limits: Limits | None = None,
        command: Command = commands.profile,
        memory: Callable[[Job, Snapshot, int], list[str]] = commands.memory,
        machine: Machine | None = None,
        leases: Leases | None = None,
        clock: Callable[[], float] = time.time,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.home = home
        self._devices = devices
        self._limits = limits or Limits()
        self._command, self._memory = command, memory
        self._given_machine = machine
        self._leases = leases or Leases()
        self._clock = clock
        self._say_to = say or _to_stderr
        self._notes: list[str] = []
        self._trouble = ""
        self._found: list[str] = []  # of this round
        self._lock: Lock | None = None
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._abrupt = False
        self._since = clock()
        self._round = time.monotonic()
        self._running: dict[str, _Running] = {}
        self._held: dict[str, _Held] = {}
        self._reasons: dict[str, str] = {}
        self._ids = threading.Lock()
        self._last_id: str | None = None
        self._followers: OrderedDict[str, Follower] = OrderedDict()
        self._following = threading.Lock()
        self._starts = self._ends = 0
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
            self._scheduler = Scheduler(self._machine, self._leases)
            self._leases.holder("none")  # whether the place can be used is better known now
            self._store = recovery.open_store(self.home, self._say)
            recovery.settle(self.home, self._store, self._clock(), self._say)
            self._predictions = Predictions(self.home, self._memory)
            self._last_id = self._store.last_id()
            self._selector = selectors.DefaultSelector()
            self._wake_read, self._wake_write = os.pipe()
            os.set_blocking(self._wake_read, False)
            os.set_blocking(self._wake_write, False)
            self._selector.register(self._wake_read, selectors.EVENT_READ)
        except BaseException:
            self._lock.release()
            raise
        self._thread = threading.Thread(target=self._loop, name="autoopt-service", daemon=True)
        self._thread.start()

    def stop(self, drain: bool = True) -> None:
        """End. Jobs that run are ended too, and go on at the next start; nothing is started any more.

        Args:
            drain: wait until they are ended (a few seconds); else their guards see to it.
        """
        if self._thread is None:
            return
        self._abrupt = self._abrupt or not drain
        self._ending.set()
        self._wake()
        self._thread.join()
        self._thread = None
        self.hub.close()
        self._store.close()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        assert self._lock is not None
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
        if submission.key is not None and (known := self._store.by_key(submission.key)) is not None:
            return known
        base = bundle or Path(submission.cwd or Path.cwd())
        if bundle is not None:
            commands.check_sent(submission, bundle)
        check(submission, base, self._machine)
        now = self._clock()
        with self._ids:
            id_ = self._last_id = new_id(now, self._last_id)
        folder = self.home.job(id_)
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise_unwritable(error, folder, "The job was not accepted.")
        try:
            if bundle is not None:
                taken = snapshot.adopt(submission.target, bundle, folder)
                base = folder / "project"
            else:
                submission = submission.model_copy(update={"cwd": str(base)})
                taken = snapshot.take(submission.target, base, folder)
            submission = commands.make_durable(submission, base, folder)
            job = Job(id=id_, submission=submission, created=now, digest=taken.digest, folder=f"jobs/{id_}")
            write_record(folder / recovery.JOB_FILE, job)
            inserted = self._store.insert(job)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise_unwritable(error, folder, "The job was not accepted.")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if inserted.id != id_:  # another submit with the same key was first
            shutil.rmtree(folder, ignore_errors=True)
            return inserted
        self._changed(job)
        self._wake()
        return job

    def jobs(
        self, states: Collection[State] | None = None, limit: int = _LISTED, before: str | None = None
    ) -> list[Job]:
        """Jobs, the newest first; those older than the job `before`, for the next page."""
        return [self._shown(job) for job in self._store.jobs(states, limit, before)]

    def job(self, id_: str) -> Job:
        """A job. Raises NoSuchJob."""
        return self._shown(self._store.get(id_))

    def cancel(self, id_: str) -> Job:
        """End a job. A second cancel changes nothing; one that comes when the job has finished is too late.

        Raises:
            NoSuchJob.
            NotPossible: it ended otherwise.
        """
        while True:
            job = self._store.get(id_)
            if job.state in (State.CANCELLED, State.CANCELLING):
                return self._shown(job)
            if job.state in ENDED:
                raise NotPossible(f"Job {id_} has ended already: it is {_words(job.state)}.", "")
            state = State.CANCELLED if job.state is State.QUEUED else State.CANCELLING
            with contextlib.suppress(Changed):
                after = self._move(job, state, reason="it was cancelled")
                self._wake()
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
                self._put_out_aside(self.home.job(id_))
            with contextlib.suppress(Changed):
                after = self._move(
                    job, State.QUEUED, reason="", error=None, deaths=0, complete=None, started=None
                )
                self._held.pop(id_, None)
                self._predictions.forget(id_)
                self._wake()
                return after

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
        with self._following:
            follower = self._follower(id_)
            follower.update()
            view = follower.view(running=job.state in ALIVE)
            return {"job": job.model_dump(mode="json"), **json.loads(json.dumps(view))}

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
        """{"uuid", "name", "kind", "total", "free", "leased_by", "others"} of each; bytes, or cores of the CPU."""
        return describe(self._machine, self._leases)

    def health(self) -> dict[str, Any]:
        """{"status": "ok", "degraded" or "stalled", "stalled", "trouble": [...], "notes": [...], "version", ...}."""
        stalled = time.monotonic() - self._round > _STALLED_SECONDS
        trouble = [text for text in (self._trouble, self._machine.trouble) if text]
        return {
            "status": "stalled" if stalled else "degraded" if trouble else "ok",
            "stalled": stalled,
            "trouble": trouble,
            "notes": self._notes,
            "version": __version__,
            "pid": os.getpid(),
            "since": self._since,
            "home": str(self.home.path),
            "running": len(self._running),
        }

    def metrics(self) -> dict[str, float]:
        """Numbers for a monitoring system: jobs in each state, starts and ends since the daemon began, and more."""
        counts: dict[str, float] = {str(state): count for state, count in self._store.counts().items()}
        counts["starts_total"], counts["ends_total"] = self._starts, self._ends
        counts["guards"] = len(self._running)
        counts["disk_free_bytes"] = self._free()
        counts["loop_age_seconds"] = time.monotonic() - self._round
        return counts

    # --- the loop ---------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._ending.is_set():
            found: list[str] = []
            self._found = found
            try:
                self._wait()
                self._reap()
                self._cancel()
                self._schedule()
                self._tell()
            except AutooptError as error:
                found.append(error.message)
            except Exception as error:  # the loop outlives whatever a round finds
                found.append(f"{type(error).__name__}: {error}")
                self._ending.wait(_TICK)
            self._in_trouble("; ".join(found[:3]))
            self._round = time.monotonic()
        self._end()

    def _wait(self) -> None:
        # A disk that was full a moment ago is asked again soon, not at once and for ever.
        for key, _ in self._selector.select(_TICK):
            if key.fd == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b".")

    def _reap(self) -> None:
        """Guards that ended: what they told becomes the job's next state, then their devices are free."""
        for id_, running in list(self._running.items()):
            if not running.guard.ended():
                continue
            self._forget_descriptor(running)
            try:
                if running.verdict is None:
                    running.verdict = self._verdict(running)
            except TimeoutError as error:
                # Inside a call of a driver: its device stays leased, and the others go on.
                self._found.append(f"Of job {id_}, {error}")
                continue
            self._settle(id_, running)

    def _settle(self, id_: str, running: _Running) -> None:
        """Write the verdict down; the job stays among the running until that has worked."""
        job = self._store.get(id_)
        if job.state in ALIVE:
            if job.state is State.CANCELLING and running.verdict is not None:
                # It may have been cancelled after the verdict, which then reads differently.
                running.verdict = self._verdict(running)
            assert running.verdict is not None
            verdict = running.verdict
            if verdict.no_space:
                self._hold(id_)
            changed = self._changed_since(id_)
            try:
                self._move(job, verdict.state, **verdict.changes, changed=changed)
            except Changed:  # a cancel came in between
                self._wake()
                return
        del self._running[id_]
        self._ends += 1
        running.guard.close()
        self._scheduler.give_back(running.place)

    def _verdict(self, running: _Running) -> Verdict:
        job = self._store.get(running.job)
        folder = self.home.job(running.job)
        if running.guard.code == NO_SPACE:
            state = State.CANCELLED if job.state is State.CANCELLING else State.QUEUED
            return Verdict(state, {"reason": "the disk was full; it goes on when there is space"}, True)
        record = running.guard.record()
        if record is None or record["how"] == "running":
            # The guard was killed: nobody else has seen to it that all is gone.
            orphans.end(self.home.digest, job.id)
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

    def _cancel(self) -> None:
        for job in self._store.jobs({State.CANCELLING}):
            running = self._running.get(job.id)
            if running is not None and not running.asked:
                running.asked = True
                running.guard.stop()

    def _schedule(self) -> None:
        """Starts what may start, in the order of priority and age."""
        self._predictions.turn()
        self._scheduler.begin()
        reasons: dict[str, str] = {}
        queued = self._store.queued()
        if queued and (free := self._free()) < self._limits.free:
            least = show_bytes(self._limits.free)
            reasons = dict.fromkeys(
                queued, f"it waits for space on the disk: {show_bytes(free)} free, {least} needed"
            )
            queued = []
        for id_ in queued:
            if self._scheduler.full or self._ending.is_set():
                break
            held = self._held.get(id_)
            if held is not None and time.monotonic() < held.until:
                reasons[id_] = self._reasons.get(id_, "")
                if reasons[id_].startswith(_CANNOT_START):
                    self._found.append(f"Job {id_}: {reasons[id_]}")
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
                    self._move(job, State.FAILED, reason=error.message, error=told)
                continue
            except DiskFull:
                raise
            except RunError as error:  # of this job's folder, or of the locks: the others have their turn
                self._hold(id_)
                reason = f"{_CANNOT_START}: {error.message}"
                self._found.append(f"Job {id_}: {reason}")
            if reason:
                reasons[id_] = reason
        self._tell_reasons(reasons)

    def _tell_reasons(self, reasons: dict[str, str]) -> None:
        """Why jobs wait, to those who watch; of a long queue only those that are next."""
        changed = [id_ for id_, reason in reasons.items() if self._reasons.get(id_) != reason]
        self._reasons = reasons
        for id_ in changed[:_TOLD]:
            job = self._store.get(id_)
            if job.state is State.QUEUED:
                self._changed(job)

    def _begin(self, job: Job) -> str:
        """Starts a job, or says why it waits."""
        taken = self._snapshot(job)
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
        try:
            self._run(job, taken, place)
        except BaseException:
            if job.id not in self._running:
                place.release()
            raise
        return ""

    def _snapshot(self, job: Job) -> Snapshot:
        try:
            return snapshot.read(self.home.job(job.id))
        except RunError as error:
            raise _Refused(
                f"The job's copy of its code is lost: {error.message}", "Submit it anew."
            ) from error

    def _run(self, job: Job, taken: Snapshot, place: Place) -> None:
        folder = self.home.job(job.id)
        out = folder / "out"
        reason = ""
        if damage := first_damage(out):
            kept = self._put_out_aside(folder)
            reason = (
                f"the run's events were damaged ({damage}); they are kept in {kept}, and the job starts anew"
            )
            self._say(f"Job {job.id}: {reason}.")
        command = self._command(job, taken, folder, resume=has_run(out), device=place.request)
        after = self._move(
            job,
            State.RUNNING,
            attempts=job.attempts + 1,
            devices=place.devices,
            started=job.started or max(self._clock(), job.created),
            reason=reason,
            changed=snapshot.changes(taken),
        )
        home = self.home.digest
        order = order_for(
            folder,
            record=recovery.RECORD,
            attempt=after.attempts,
            command=command,
            cwd=taken.cwd,
            environment=commands.environment(job.submission, orphans.marker(home, job.id), place.uuids),
            grace=self._limits.grace,
            group=orphans.group(home, job.id),
            cores=place.cores,
        )
        try:
            guard = Guarded(order, [lease.descriptor for lease in place.leases])
        except OSError as error:
            self._hold(job.id)
            self._move(after, State.QUEUED, reason=f"its process could not be started now ({error.strerror})")
            return
        self._starts += 1
        self._running[job.id] = _Running(guard, place, job.id)
        if guard.descriptor >= 0:
            self._selector.register(guard.descriptor, selectors.EVENT_READ)

    def _tell(self) -> None:
        """What the runs have written since the last round."""
        for id_ in list(self._running):
            with self._following:
                told = self._follower(id_).update()
                progress = self._followers[id_].progress(running=True)
            for change in told:
                self.hub.publish("live", id_, {"progress": progress, **change})

    def _end(self) -> None:
        """Everything that runs is ended; it goes on when a daemon starts again."""
        self._predictions.close()
        for running in self._running.values():
            running.guard.abandon()
        deadline = time.monotonic() + (0.0 if self._abrupt else _DRAIN_SECONDS)
        for id_, running in list(self._running.items()):
            while not running.guard.ended() and time.monotonic() < deadline and not self._abrupt:
                running.guard.wait(0.05)
            if running.guard.ended():
                try:
                    self._forget_descriptor(running)
                    running.verdict = self._verdict(running)
                    self._settle(id_, running)
                except Exception as error:  # the next start finds it as it is
                    self._in_trouble(f"{type(error).__name__}: {error}")
            running.guard.close()
            running.place.release()  # the guard keeps its own hold while anything of the job lives

    # --- small things -----------------------------------------------------------------------------------------

    def _move(self, job: Job, state: State, **changes: Any) -> Job:
        after = recovery.move(self._store, self.home, job, state, self._clock(), **changes)
        self._changed(after)
        return after

    def _changed(self, job: Job) -> None:
        self.hub.publish("job", job.id, self._shown(job).model_dump(mode="json"))

    def _shown(self, job: Job) -> Job:
        """With the reason why it waits, which changes too often to be written down."""
        if job.state is not State.QUEUED:
            return job
        reason = self._reasons.get(job.id) or job.reason or "it waits for its turn"
        return job.model_copy(update={"reason": reason})

    def _everything(self) -> dict[str, Any]:
        return {"jobs": [job.model_dump(mode="json") for job in self.jobs(limit=_LISTED)]}

    def _follower(self, id_: str) -> Follower:
        follower = self._followers.get(id_)
        if follower is None:
            follower = self._followers[id_] = Follower(self.home.job(id_) / "out")
            while len(self._followers) > _FOLLOWED + len(self._running):
                self._followers.popitem(last=False)
        self._followers.move_to_end(id_)
        return follower

    def _hold(self, id_: str) -> None:
        before = self._held.get(id_)
        pause = min(self._limits.pause if before is None else 2 * before.pause, self._limits.longest_pause)
        self._held[id_] = _Held(time.monotonic() + pause, pause)

    def _changed_since(self, id_: str) -> list[str]:
        try:
            return snapshot.changes(snapshot.read(self.home.job(id_)))
        except RunError:
            return []

    def _put_out_aside(self, folder: Path) -> Path | None:
        out = folder / "out"
        if not out.exists():
            return None
        number = 1
        while (kept := folder / f"out.{number}").exists():
            number += 1
        try:
            out.rename(kept)
        except OSError as error:
            raise_unwritable(error, kept, "Nothing was changed.")
        return kept

    def _forget_descriptor(self, running: _Running) -> None:
        if running.guard.descriptor >= 0:
            with contextlib.suppress(KeyError):
                self._selector.unregister(running.guard.descriptor)

    def _free(self) -> int:
        try:
            return shutil.disk_usage(self.home.path).free
        except OSError:
            return 0

    def _say(self, text: str) -> None:
        self._notes.append(text)
        del self._notes[:-100]
        self._say_to(text)

    def _in_trouble(self, text: str) -> None:
        if text not in ("", self._trouble):
            self._say_to(text)
        self._trouble = text


class _Refused(AutooptError):
    """A job that no device here can hold."""


def _words(state: State) -> str:
    return str(state).replace("_", " ")


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
