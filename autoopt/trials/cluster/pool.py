"""A pool of workers on a cluster whose machines come and go. Runs in the coordinator: no torch, no Ray."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

from autoopt.errors import ClusterGone, UserCodeError, WorkerError
from autoopt.records import Flags, Outcome, TrialResult, TrialSpec, WorkloadReport
from autoopt.trials.cluster.allotted import Allotted
from autoopt.trials.cluster.messages import Connect, Node, Open
from autoopt.trials.cluster.places import kind_of, share
from autoopt.trials.cluster.remote import Gateway, RemoteProcess, variables_of
from autoopt.trials.cluster.shipping import Shipment, with_way_to_files
from autoopt.trials.pool import Pool
from autoopt.trials.process import Process
from autoopt.trials.protocol import Load
from autoopt.trials.runner import Progress

_MOST_LOSSES = 3
"""After so many lost machines a trial is taken for the cause."""
_CONNECT_SECONDS = 120.0
"""Ray itself takes most of a minute on a busy machine."""


class ClusterPool:
    """Runs trials on a Ray cluster; see `autoopt.trials.runner.Runner`.

    A machine that is lost takes its trials along: they run again elsewhere, and whoever asks sees one result each. Machines
    that join are used. All trials run on machines with one kind of device, since their times are compared.

    Args:
        address: "auto", HOST:PORT or ray://HOST:PORT.
        shipment: the user's code, as every machine gets it.
        device: "auto", "cpu" or "cuda".
        cpus, gpus: of each trial; one core, and a GPU where there are any, unless given.
        workers: at most so many trials at once.
        ranks: processes that train each model together, in one actor on one machine.
        log_dir: gets what the bridge prints.

    Raises:
        UsageError: Ray is not installed, or that is no address.
        ClusterGone: there is no such cluster.
        WorkerError: it refuses us.
        DeviceError: no trial fits on any machine.
    """

    def __init__(
        self,
        address: str,
        shipment: Shipment,
        arguments: Sequence[str] = (),
        flags: Flags | None = None,
        *,
        log_dir: Path,
        device: str = "auto",
        cpus: float | None = None,
        gpus: float | None = None,
        workers: int | None = None,
        ranks: int = 1,
        load_seconds: float = 900.0,
        timing_seconds: float | None = None,
    ) -> None:
        self._allotted = Allotted.of(os.environ)
        self._folder = shipment.folder
        order = Connect(
            address=address,
            folder=str(shipment.folder),
            variables=variables_of(os.environ),
            devices={} if self._allotted is None else self._allotted.now.machines,
        )
        self._gateway = Gateway(order, log_dir / "cluster.log")
        try:
            nodes = self._gateway.first(min(_CONNECT_SECONDS, load_seconds))
            self._share = share(nodes, device, cpus, gpus, ranks)
            self.kind = kind_of(nodes, self._share) if self._allotted is None else self._allotted.now.kind
            self._most, self._all = workers, {node.id: node for node in nodes}
            self._places = self._free(nodes)
            if not self._places:  # of what was allotted nothing is left
                raise ClusterGone(f"No machine of the cluster at {address} is left for this run.")
            self._most_at_once: Counter[str] = Counter()
            self._leaving: set[int] = set()
            self._again: deque[TrialSpec] = deque()
            self._losses: Counter[int] = Counter()
            self.notes: list[str] = []
            self._say_unused(nodes)
            self._pool = Pool(
                shipment.target,
                arguments,
                flags,
                log_dir=log_dir,
                devices=[
                    f"cuda:{rank}" if self._share.gpus and device != "cpu" else "cpu" for rank in range(ranks)
                ],
                workers=len(self._places),
                ranks=ranks,
                threads=max(1, int(self._share.cpus) // ranks),
                load_seconds=load_seconds,
                timing_seconds=timing_seconds,
                launch=self._launch,
            )
        except BaseException:
            self._gateway.close()
            raise

    @property
    def about(self) -> dict[str, object]:
        """For the provenance: the device that times hold for, and the machines that were used."""
        used: Counter[str] = Counter()
        for place, most in self._peak().items():
            if place in self._all:
                used[self._all[place].address] += most
        return {
            "device": self.kind,
            "slots": sum(self._peak().values()),
            "machines": dict(sorted(used.items())),
        }

    @property
    def greeting(self) -> str:
        """What the user is told while the machines get ready."""
        machines = len({self._all[place].address for place in self._places})
        return (
            f"the cluster has room for {len(self._places)} trial{'s' * (len(self._places) != 1)} at once, on {machines} "
            f"machine{'s' * (machines != 1)} ({self.kind}); they get your code and load it"
        )

    @property
    def slots(self) -> int:
        """Trials that can run at once now."""
        return self._pool.slots

    def start(self) -> WorkloadReport:
        """See `Runner.start`."""
        try:
            return self._pool.start()
        except UserCodeError as error:
            raise with_way_to_files(error, self._folder) from None

    def idle(self) -> list[int]:
        """Slots that can take a trial now; those of lost machines come first."""
        self._rerun()
        return self._pool.idle()

    def submit(self, slot: int, spec: TrialSpec) -> None:
        """See `Runner.submit`."""
        self._pool.submit(slot, spec)

    def wait(self, timeout: float) -> list[Progress | TrialResult]:
        """What happened, at the latest after `timeout` seconds.

        Raises: ClusterGone when the cluster is gone, or no machine of it is left; WorkerError when no worker is kept alive.
        """
        nodes = self._gateway.nodes()
        if nodes is not None:
            self._changed(nodes)
        try:
            happened = [item for item in self._pool.wait(timeout) if not self._is_lost(item)]
        except WorkerError:
            self._gateway.nodes()  # says so, if it is the cluster that is gone, and not its workers
            raise
        self._rerun()
        return happened

    def cancel(self) -> list[TrialResult]:
        """See `Runner.cancel`."""
        known = [item for item in self._pool.cancel() if not self._is_lost(item)]
        waiting = [
            TrialResult(spec=spec, outcome=Outcome.CANCELLED, message="cancelled before it could run again")
            for spec in self._again
        ]
        self._again.clear()
        return [*known, *waiting]

    def close(self) -> None:
        """Ends everything, and leaves the cluster; may be called twice."""
        self._pool.close()
        self._gateway.close()

    def _launch(self, slot: int, request: Load) -> Process:
        take = self._share
        order = Open(node=self._places[slot], cpus=take.cpus, gpus=take.gpus)
        return RemoteProcess(self._gateway, order, request)

    def _free(self, nodes: Sequence[Node]) -> list[str]:
        """The machine of each slot, in turn, so that few trials go to different ones."""
        room = {node.id: self._room(node) for node in nodes if node.device == self.kind}
        places = [name for i in range(max(room.values(), default=0)) for name in room if i < room[name]]
        return places[: self._most]

    def _peak(self) -> Counter[str]:
        """The most slots that each machine had at once."""
        return Counter(self._places) if self._allotted is None else self._most_at_once

    def _room(self, node: Node) -> int:
        """Trials at once on a machine."""
        there = self._share.on(node)
        return there if self._allotted is None else min(there, self._allotted.now.places.get(node.id, 0))

    def _keep_to(self, allotted: Allotted) -> None:
        """Slots as they are allotted now: what is too much goes when its trial has ended."""
        new = allotted.changed()
        room = {name: self._room(node) for name, node in self._all.items()}
        alive = {slot: loaded for slot, loaded in self._pool.alive().items() if slot not in self._leaving}
        have = Counter(self._places[slot] for slot in alive)
        for place in self._free(list(self._all.values())) if new else []:
            if have[place] < room[place]:
                have[place] += 1
                self._places.append(place)
                self._pool.grow()
        for slot in sorted(alive, key=lambda slot: alive[slot]):  # those that have loaded are the last to go
            place = self._places[slot]
            if place in room and have[place] > room[place] and self._pool.give_back(slot):
                have[place] -= 1
                self._leaving.add(slot)
        alive = self._pool.alive()
        held = Counter(self._places[slot] for slot in alive)
        self._most_at_once |= held
        allotted.tell(
            held,
            Counter(self._places[slot] for slot, loaded in alive.items() if loaded),
        )

    def _changed(self, nodes: Sequence[Node]) -> None:
        """Slots on machines that joined; none any more on those that are gone."""
        now = {node.id: node for node in nodes}
        for slot, place in enumerate(self._places):
            if place in self._all and place not in now:
                self._pool.drop(slot)
        joined = [node for node in nodes if node.id not in self._all]
        self._all = now
        for place in self._free(joined):
            if self._most is None or self._pool.slots < self._most:
                self._places.append(place)
                self._pool.grow()
        self._say_unused(joined)

    def _say_unused(self, nodes: Sequence[Node]) -> None:
        for kind, count in sorted(Counter(n.device for n in nodes if n.device != self.kind).items()):
            self.notes.append(
                f"{count} machine{'s' * (count > 1)} of the cluster with another kind of device ({kind}) "
                f"{'were' if count > 1 else 'was'} not used: times on it and on {self.kind} cannot be compared"
            )

    def _is_lost(self, item: Progress | TrialResult) -> bool:
        """Whether a result only tells that its machine is gone; its trial is then put back."""
        if not isinstance(item, TrialResult) or not item.lost:
            return False
        self._losses[item.spec.id] += 1
        if self._losses[item.spec.id] >= _MOST_LOSSES:
            return False
        self._again.append(item.spec)
        return True

    def _rerun(self) -> None:
        if self._allotted is not None:
            self._keep_to(self._allotted)
        for slot in self._pool.idle():
            if not self._again:
                return
            self._pool.submit(slot, self._again.popleft())
