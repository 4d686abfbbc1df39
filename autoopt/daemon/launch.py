"""Launching a job on the devices that are leased for it: its record says that it runs, then its guard is started."""

from __future__ import annotations

from collections.abc import Callable

from autoopt.daemon import commands, orphans, recovery, snapshot
from autoopt.daemon.cluster import ClusterPlace
from autoopt.daemon.follow import first_damage
from autoopt.daemon.guarded import Guarded, order_for
from autoopt.daemon.home import Home
from autoopt.daemon.jobs import Job, State
from autoopt.daemon.moves import Moves
from autoopt.daemon.notes import Notes
from autoopt.daemon.schedule import Place
from autoopt.daemon.snapshot import Snapshot
from autoopt.daemon.waiting import Waiting
from autoopt.journal import has_run

Command = Callable[..., list[str]]
"""See `commands.profile`."""


class Launch:
    """How jobs are launched.

    Args:
        home: the state folder.
        moves: tells that the job runs.
        waiting: for a job whose guard cannot be started now.
        notes: takes what the operator should know.
        command: what a job's runner is.
        grace: seconds that a cancelled run has, to end by itself.
        clock: Unix time.
    """

    def __init__(
        self,
        home: Home,
        moves: Moves,
        waiting: Waiting,
        notes: Notes,
        *,
        command: Command,
        grace: float,
        clock: Callable[[], float],
    ) -> None:
        self._home, self._moves, self._waiting, self._notes = home, moves, waiting, notes
        self._command, self._grace, self._clock = command, grace, clock

    def guard(self, job: Job, taken: Snapshot, place: Place) -> Guarded | None:
        """The guard of a job that runs now; `None` when none could be started, and the job waits again.

        Raises:
            Changed: the job was moved by somebody else.
            DiskFull, RunError: nothing was started.
        """
        folder = self._home.job(job.id)
        out = folder / "out"
        reason = ""
        if damage := first_damage(out):
            kept = self._home.put_out_aside(job.id)
            reason = (
                f"the run's events were damaged ({damage}); they are kept in {kept}, and the job starts anew"
            )
            self._notes.say(f"Job {job.id}: {reason}.")
        on = {"cluster": place.cluster} if isinstance(place, ClusterPlace) else {}
        command = self._command(job, taken, folder, resume=has_run(out), device=place.request, **on)
        after = self._moves.move(
            job,
            State.RUNNING,
            attempts=job.attempts + 1,
            devices=place.devices,
            started=job.started or max(self._clock(), job.created),
            reason=reason,
            changed=snapshot.changes(taken),
        )
        home = self._home.digest
        order = order_for(
            folder,
            record=recovery.RECORD,
            attempt=after.attempts,
            command=command,
            cwd=taken.cwd,
            environment=commands.environment(
                job.submission, orphans.marker(home, job.id), place.uuids, places=folder if on else None
            ),
            grace=self._grace,
            group=orphans.group(home, job.id),
            cores=place.cores,
        )
        try:
            return Guarded(order, [lease.descriptor for lease in place.leases])
        except OSError as error:
            self._waiting.hold(job.id)
            self._moves.move(
                after, State.QUEUED, reason=f"its process could not be started now ({error.strerror})"
            )
            return None
