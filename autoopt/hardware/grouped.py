"""Devices for models that several processes train together: N of them to a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from autoopt.errors import DeviceError, UsageError
from autoopt.hardware.choose import Device, usable
from autoopt.hardware.cpu import cpu_slots
from autoopt.hardware.leases import other_holder


class Groups(NamedTuple):
    """The devices of each worker's processes, and the CPU threads of each process."""

    devices: list[list[Device]]
    threads: int


def request_for(request: str, ranks: int, environment: Mapping[str, str] | None = None) -> str:
    """What "auto" means where a model needs `ranks` devices: so many GPUs that nobody else is on, else the CPU.

    Any other request is given back as it is.

    >>> request_for("cpu", 2)
    'cpu'
    """
    if request.strip().lower() != "auto":
        return request
    idle = [
        f"cuda:{index}"
        for index, gpu in enumerate(usable(environment).gpus)
        if gpu.busy() is None and other_holder(gpu.uuid, environment) is None
    ]
    return ",".join(idle[:ranks]) if len(idle) >= ranks else "cpu"


def groups_for(chosen: Sequence[Device], ranks: int, requested: int | None = None) -> Groups:
    """The workers that the devices suffice for, of `ranks` processes each.

    On the CPU as many as there are `ranks` cores for, at least one; of GPUs each process has one of its own.

    Args:
        chosen: from `devices`.
        ranks: processes that train a model together.
        requested: the user's --workers; None: decide.

    Raises:
        DeviceError: there are fewer GPUs than processes.
        UsageError: `requested` workers need more.

    >>> from autoopt.hardware.choose import devices
    >>> [len(own) for own in groups_for(devices("cpu"), 2, requested=1).devices]
    [2]
    """
    cores = cpu_slots()
    if chosen[0].kind == "cpu":
        workers = requested or max(1, cores // ranks)
        own = [[chosen[0]] * ranks for _ in range(workers)]
        return Groups(own, max(1, cores // (workers * ranks)))
    fit = len(chosen) // ranks
    if not fit:
        names = ", ".join(device.name for device in chosen)
        raise DeviceError(
            f"--nproc {ranks} needs {ranks} GPUs, one a process, and there {'is' if len(chosen) == 1 else 'are'} {names}.",
            f"Name as many: --device {','.join(f'cuda:{i}' for i in range(ranks))}; or try it on the CPU: --device cpu.",
        )
    if requested is not None and requested > fit:
        raise UsageError(
            f"--workers {requested} with --nproc {ranks} needs {requested * ranks} GPUs, and there are {len(chosen)}.",
            f"Use --workers {fit}, or leave --workers out.",
        )
    workers = requested or fit
    own = [list(chosen[i * ranks : (i + 1) * ranks]) for i in range(workers)]
    return Groups(own, max(1, cores // (workers * ranks)))
