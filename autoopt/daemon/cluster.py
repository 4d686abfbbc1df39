"""A cluster as the daemon's devices: which jobs run there, with how many places each, told to them in a file.

Used by the loop's thread, but for what is told about it (`devices`, `figures`, `trouble`), which any thread may ask.
Ray counts what is really taken; what is decided here is who may ask Ray for how much.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from autoopt.daemon import cluster_told, shares
from autoopt.daemon.cluster_told import PREFIX
from autoopt.daemon.home import Home
from autoopt.daemon.jobs import Job
from autoopt.daemon.lookout import Lookout, Sight
from autoopt.daemon.schedule import Place
from autoopt.daemon.shares import Holder
from autoopt.errors import DeviceError
from autoopt.journal import has_run
from autoopt.records import Cluster
from autoopt.trials.cluster.address import check_usable
from autoopt.trials.cluster.allotted import ALLOTTED, HELD, Allotment, read_held, write
from autoopt.trials.cluster.places import Share, share

_REQUESTS = {"auto": "auto", "cluster": "auto", "cluster:cpu": "cpu", "cluster:cuda": "cuda"}
_LOG = "cluster.log"
_TOLD = 200
"""Of a queue that waits for the cluster so many are told why; those behind them wait for their turn."""


@dataclass
class ClusterPlace(Place):
    """Places of the cluster, as `Place` is of this machine. Which they are is in the file that the run reads."""

    cluster: Cluster | None = None
    kind: str = ""
    device: str = "auto"
    give: Callable[[], None] = lambda: None

    @property
    def devices(self) -> list[str]:
        """As the job's record has them."""
        return [f"{PREFIX}:{self.kind}"]

    @property
    def request(self) -> str:
        """The --device of the job's run."""
        return self.device

    def release(self) -> None:
        """Give the places back."""
        self.give()


class ClusterDevices:
    """The places of a cluster, shared out evenly among the jobs that run there.

    Args:
        given: the cluster, and what a trial takes of it.
        home: the state folder.
        wake: called when something has changed on the cluster.
        at_once: jobs that may run on it side by side: each has a process on this machine that leads it.
        lookout: for tests.

    Raises:
        UsageError: Ray is not installed, or that is no address.
    """

    def __init__(
        self,
        given: Cluster,
        home: Home,
        wake: Callable[[], None],
        at_once: int,
        lookout: Callable[..., Lookout] = Lookout,
    ) -> None:
        check_usable(given.address)
        self._given, self._home, self._at_once = given, home, at_once
        self._lookout = lookout(given.address, home.path / _LOG, wake)
        self._holders: dict[str, Holder] = {}
        self._waiting: list[tuple[str, int | None]] = []
        self._queue: list[tuple[str, int | None]] = []
        self._refused = 0

    # --- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look at the cluster."""
        self._lookout.start()

    def stop(self) -> None:
        """Leave it."""
        self._lookout.stop()

    def doubt(self) -> None:
        """A job has lost it."""
        self._lookout.doubt()

    # --- a pass over the queue ------------------------------------------------------------------------------

    @staticmethod
    def takes(device: str | None) -> bool:
        """Whether a job with this --device is for the cluster: it says so, or says nothing."""
        text = (device or "auto").strip().lower()
        return text == "auto" or text.startswith(PREFIX)

    def is_for(self, job: Job) -> bool:
        """As `takes`; but a run that began on this machine goes on there, since its times hold for it alone."""
        folder = self._home.job(job.id)
        began_here = has_run(folder / "out") and not (folder / ALLOTTED).exists()
        return self.takes(job.submission.options.device) and not began_here

    @staticmethod
    def check(device: str | None) -> None:
        """That a --device which names the cluster can be understood.

        Raises:
            DeviceError: it cannot.
        """
        text = (device or "auto").strip().lower()
        if text.startswith(PREFIX) and text not in _REQUESTS:
            raise DeviceError(
                f"--device {device} says nothing about the cluster.",
                "Use cluster, cluster:cpu or cluster:cuda; on which machines is the daemon's to choose.",
            )

    def begin(self) -> dict[str, int]:
        """A new pass: what runs gets its share of what is there now, where those count too who waited the last time.

        Returns the places of each job that runs there.
        """
        self._waiting, self._queue, self._refused = self._queue, [], 0
        sight = self._lookout.sight
        if sight.there:
            for id_, holder in self._holders.items():
                held = read_held(self._home.job(id_))
                holder.held, holder.loaded = held.places, held.loaded
            before = {id_: dict(holder.allotted) for id_, holder in self._holders.items()}
            self._share_out(sight)
            for id_, holder in self._holders.items():
                if holder.allotted != before[id_] and holder.allotted:
                    self._write(id_, holder)
        return {id_: holder.places for id_, holder in self._holders.items()}

    @property
    def full(self) -> bool:
        """Whether a further job of this pass would only hear what those before it heard."""
        return self._refused >= _TOLD

    def place(self, job: Job) -> Place | str:
        """Places for a job, at least one; or why it waits, in words.

        Raises:
            DeviceError: --device cannot be understood, or wants GPUs of a cluster that has none.
        """
        found = self._place(job)
        if isinstance(found, str):
            self._refused += 1
        return found

    def _place(self, job: Job) -> Place | str:
        self.check(job.submission.options.device)
        sight = self._lookout.sight
        if not sight.there:
            return f"it waits for the cluster at {self._given.address}: {sight.trouble or 'it is being connected to'}"
        if not sight.nodes:
            return f"it waits for the cluster at {self._given.address}: it has no machines now"
        most = job.submission.options.workers
        if len(self._holders) >= self._at_once:
            return f"it waits for its turn: {len(self._holders)} jobs use the cluster, as many as this machine can lead"
        request = _REQUESTS[(job.submission.options.device or "auto").strip().lower()]
        take = share(sight.nodes, request, self._given.cpus, self._given.gpus if request != "cpu" else 0.0)
        kind = self._kind(job, sight, take)
        if kind is None:
            return self._why(sight, take)
        holder = Holder(kind, take, most)
        target = self._targets(sight, kind, [most])[-1]
        first = all(waits != kind for waits, _ in self._queue)
        if not first or not shares.add(holder, max(1, target), sight.nodes, list(self._holders.values())):
            self._queue.append((kind, most))
            return self._why(sight, take)
        (self._home.job(job.id) / HELD).unlink(missing_ok=True)
        self._write(job.id, holder)
        self._holders[job.id] = holder
        cluster = Cluster(address=self._given.address, cpus=take.cpus, gpus=take.gpus)
        device = request if request != "auto" else "cuda" if take.gpus else "cpu"
        return ClusterPlace(
            [], [], cluster=cluster, kind=kind, device=device, give=lambda: self._give_back(job.id)
        )

    def _give_back(self, id_: str) -> None:
        self._holders.pop(id_, None)

    def _kind(self, job: Job, sight: Sight, take: Share) -> str | None:
        """The kind of device for a job: the one that it began on, while there are any; else that with most places free."""
        kinds = {node.device for node in sight.nodes if take.on(node)}
        with suppress(OSError, ValidationError):
            began = Allotment.model_validate_json((self._home.job(job.id) / ALLOTTED).read_bytes()).kind
            if began in kinds:
                return began
        holders = list(self._holders.values())
        room: Counter[str] = Counter()
        for node in sight.nodes:
            room[node.device] += shares.room(node, take, holders)
        asked = Counter([*(holder.kind for holder in holders), *(kind for kind, _ in self._queue)])

        def best(kind: str) -> tuple[int, float]:
            return room[kind], shares.total(sight.nodes, kind, take) / (1 + asked[kind])

        return max(sorted(kinds), key=best, default=None)

    def _why(self, sight: Sight, take: Share) -> str:
        every = sum(take.on(node) for node in sight.nodes)
        if not every:
            return f"no machine of the cluster has room for a trial of {take.cpus:g} cores and {take.gpus:g} GPUs"
        ours = sum(holder.places for holder in self._holders.values())
        return f"it waits for a place on the cluster: {every} in all, {ours} given to jobs that run"

    # --- shares ----------------------------------------------------------------------------------------------

    def _share_out(self, sight: Sight) -> None:
        nodes = {node.id: node for node in sight.nodes}
        for holder in self._holders.values():
            shares.forget_gone(holder, nodes)
        holders = list(self._holders.values())
        for kind in sorted({holder.kind for holder in holders}):
            own = [holder for holder in holders if holder.kind == kind]
            more = [most for waits, most in self._waiting if waits == kind]
            targets = self._targets(sight, kind, more[: self._at_once - len(holders)])
            for holder, target in zip(own, targets, strict=False):
                shares.take(holder, holder.places - max(1, target))
            for holder, target in zip(own, targets, strict=False):
                shares.add(holder, target - holder.places, sight.nodes, holders)

    def _targets(self, sight: Sight, kind: str, more: list[int | None]) -> list[int]:
        """Places of each job of a kind, in the order in which they began, then of those that would join them."""
        own = [holder for holder in self._holders.values() if holder.kind == kind]
        size = own[0].share if own else None
        there = [node for node in sight.nodes if node.device == kind]
        if size is None:
            size = share(there, "auto", self._given.cpus, self._given.gpus) if there else Share()
        holders = list(self._holders.values())
        there_for_us = sum(shares.room(node, size, holders, ours=False) for node in there)
        return shares.fair(there_for_us, [*(holder.most for holder in own), *more])

    def _write(self, id_: str, holder: Holder) -> None:
        machines = {node.id: node.device for node in self._lookout.sight.nodes}
        allotment = Allotment(kind=holder.kind, places=holder.allotted, machines=machines)
        write(self._home.job(id_) / ALLOTTED, allotment)

    # --- what is told ----------------------------------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """Why there is no cluster; empty when there is, or nobody has answered yet."""
        sight = self._lookout.sight
        return f"the cluster at {self._given.address}: {sight.trouble}" if sight.trouble else ""

    def devices(self) -> list[dict[str, Any]]:
        """As `machine.describe` has them, a kind of device each; without a cluster one that says why."""
        return cluster_told.devices(self._given, self._lookout.sight, dict(self._holders))

    def figures(self) -> dict[str, float]:
        """For monitoring; what is told of each kind has it after a slash."""
        return cluster_told.figures(self._given, self._lookout.sight, dict(self._holders))
