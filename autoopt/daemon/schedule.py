"""Which job may start now, on which devices: leased here, or the reason why it waits."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autoopt.daemon.jobs import Job
from autoopt.daemon.machine import Machine
from autoopt.errors import DeviceError
from autoopt.hardware.gpu import Gpu
from autoopt.hardware.leases import Lease, Leases, core
from autoopt.units import show_bytes

if TYPE_CHECKING:
    from autoopt.daemon.cluster import ClusterDevices

_COOLING_SECONDS = 30.0
"""So long a GPU may take to show that a job's memory is gone; then it is given back, and watched as any other."""


@dataclass
class Place:
    """Where a job runs. The leases are its own until they are released."""

    leases: list[Lease]
    uuids: list[str]
    cores: list[int] | None = None
    since: float = field(default_factory=time.monotonic)

    @property
    def devices(self) -> list[str]:
        """As the job's record has them."""
        return self.uuids or ["cpu"]

    @property
    def request(self) -> str:
        """The --device of a process that sees exactly these."""
        return ",".join(f"cuda:{i}" for i in range(len(self.uuids))) or "cpu"

    def release(self) -> None:
        """Give everything back."""
        for lease in self.leases:
            lease.release()


class Scheduler:
    """One pass over the queue at a time: `begin`, then `place` for each job in its order.

    A job that waits for cores or for a GPU that it names keeps later ones from overtaking it there; on other devices
    they may.
    """

    def __init__(self, machine: Machine, leases: Leases, cluster: ClusterDevices | None = None) -> None:
        self._machine, self._leases, self.cluster = machine, leases, cluster
        self._kept: set[str] = set()
        self._cpu_kept = False
        self._cooling: list[tuple[Place, float]] = []

    def begin(self) -> None:
        """A new pass."""
        self._kept, self._cpu_kept = set(), False
        self._cool()

    @property
    def full(self) -> bool:
        """Whether nothing is left that a further job of this pass could get."""
        here = self._cpu_kept and all(uuid in self._kept for uuid in self._machine.uuids)
        return here and (self.cluster is None or self.cluster.full)

    def place(self, job: Job, need: int | None = None) -> Place | str:
        """Devices for a job, leased; or why it waits, in words.

        Args:
            need: bytes of a GPU's memory that it needs at least; `None`: not known.

        Raises:
            DeviceError: it names a device that the daemon does not have.
        """
        if self.cluster is not None and self.cluster.is_for(job):
            return self.cluster.place(job)
        wanted = self._machine.wanted(job.submission.options.device)
        who = f"job {job.id}"
        if wanted == []:
            return self._cores(job, who)
        return self._any_gpu(who, need) if wanted is None else self._gpus(wanted, who, need)

    def give_back(self, place: Place) -> None:
        """After a job: cores at once, GPUs when they are seen to be free of it."""
        if place.uuids:
            self._cooling.append((place, time.monotonic()))
        else:
            place.release()

    @property
    def cooling(self) -> bool:
        """Whether a device is about to be given back."""
        return bool(self._cooling)

    def largest(self, job: Job) -> int | None:
        """Bytes of the largest GPU of this machine that the job could get; `None`: it is for the CPU, or for a cluster.

        Raises:
            DeviceError: as `place`.
        """
        if self.cluster is not None and self.cluster.is_for(job):
            return None
        wanted = self._machine.wanted(job.submission.options.device)
        if wanted == []:
            return None
        gpus = [g for g in self._machine.gpus() if wanted is None or g.uuid in wanted]
        return max((gpu.memory_total for gpu in gpus), default=None)

    def _cool(self) -> None:
        if not self._cooling:
            return
        still = []
        gpus = {gpu.uuid: gpu for gpu in self._machine.gpus()}
        for place, since in self._cooling:
            seen = self._machine.seen_since(since) and all(
                uuid in gpus and gpus[uuid].busy() is None for uuid in place.uuids
            )
            if seen or time.monotonic() - since > _COOLING_SECONDS:
                place.release()
            else:
                still.append((place, since))
        self._cooling = still

    def _cores(self, job: Job, who: str) -> Place | str:
        cores = self._machine.cores
        count = job.submission.cores or len(cores)
        if count > len(cores):
            raise DeviceError(
                f"The job asks for {count} cores, and the daemon has {len(cores)}.",
                "Ask for fewer with --cores.",
            )
        if self._cpu_kept:
            return "it waits for cores, and another job was there first"
        taken: list[Lease] = []
        numbers = []
        for number in cores:
            if len(taken) < count and (lease := self._leases.take(core(number), who)) is not None:
                taken.append(lease)
                numbers.append(number)
        if len(taken) < count:
            for lease in taken:
                lease.release()
            self._cpu_kept = True
            return f"it waits for {'a core' if count == 1 else f'{count} cores'}: {len(taken)} of {len(cores)} free"
        return Place(taken, [], numbers)

    def _any_gpu(self, who: str, need: int | None) -> Place | str:
        reasons = []
        for gpu in self._machine.gpus():
            if gpu.uuid in self._kept:
                continue
            if why := self._unfit(gpu, need):
                reasons.append(why)
            elif (lease := self._leases.take(gpu.uuid, who)) is not None:
                return Place([lease], [gpu.uuid])
            else:
                reasons.append(self._held(gpu.uuid))
        # Whoever comes later wants one of the same; a job that needs less memory may still find one.
        if need is None:
            self._kept |= set(self._machine.uuids)
        return "it waits for a GPU: " + ("; ".join(reasons) or self._machine.trouble or "others were first")

    def _gpus(self, wanted: list[str], who: str, need: int | None) -> Place | str:
        if self._kept & set(wanted):
            return "it waits for its GPU, and another job was there first"
        gpus = {gpu.uuid: gpu for gpu in self._machine.gpus()}
        reasons = [
            self._unfit(gpus[uuid], need) if uuid in gpus else f"{self._machine.name(uuid)} does not answer"
            for uuid in wanted
        ]
        taken = None if any(reasons) else self._leases.take_all(wanted, who)
        if taken is not None:
            return Place(taken, wanted)
        self._kept |= set(wanted)
        held = [self._held(uuid) for uuid in wanted if self._leases.holder(uuid)]
        return "it waits: " + "; ".join(filter(None, [*reasons, *held]))

    def _unfit(self, gpu: Gpu, need: int | None) -> str:
        name = self._machine.name(gpu.uuid)
        if self._leases.holder(gpu.uuid) is None and (busy := gpu.busy()) is not None:
            return f"{name}: {busy}"
        if need is not None and need > gpu.memory_total:
            return f"{name} has {show_bytes(gpu.memory_total)}, it needs {show_bytes(need)}"
        return ""

    def _held(self, uuid: str) -> str:
        return f"{self._machine.name(uuid)} is leased by {self._leases.holder(uuid) or 'somebody'}"
