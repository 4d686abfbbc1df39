"""Which devices to use and how many trials at once: from the user's request to devices that exist."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal, NamedTuple

from autoopt.errors import DeviceError, UsageError
from autoopt.hardware.cpu import available_memory, cpu_model, cpu_slots, total_memory
from autoopt.hardware.gpu import Gpu, Scan, scan
from autoopt.hardware.leases import other_holder

_HINT = "Use --device auto, cpu, or cuda:0 (several: cuda:0,cuda:1)."
_SPARE = 0.8
"""Share of the free memory that workers may plan with; the rest is for peaks, loaders and the page cache."""


@dataclass(frozen=True)
class Device:
    """A device to train on.

    Args:
        name: as the user writes it, "cpu" or "cuda:1"; what torch calls it in this process.
        worker_name: what torch calls it in a process started with `worker_environment`.
        reason: why this one, in words.
        gpu: what the driver says about it; None for the CPU.
    """

    name: str
    worker_name: str
    reason: str
    gpu: Gpu | None = None

    @property
    def kind(self) -> Literal["cpu", "cuda"]:
        """Torch's name for the kind of device."""
        return "cpu" if self.gpu is None else "cuda"

    @property
    def memory_free(self) -> int:
        """Bytes that can be allocated on it now."""
        return available_memory() if self.gpu is None else self.gpu.memory_free


class Workers(NamedTuple):
    """How many trials run at once, and the CPU threads of each."""

    workers: int
    threads: int


def devices(request: str = "auto", environment: Mapping[str, str] | None = None) -> list[Device]:
    """The devices that a request means: exactly those, or an error.

    "auto" takes one GPU that nobody else is on or has leased, else the CPU, and `Device.reason` says why. GPUs are numbered
    as torch does under `CUDA_VISIBLE_DEVICES`, in the order of the PCI bus.

    Args:
        request: "auto", "cpu", "cuda" (the first), or GPUs: "cuda:0", "cuda:0,cuda:2".
        environment: environment variables; None: this process's.

    Raises:
        DeviceError: a name that is no device, or a GPU that is not there for this process.

    Example:
        >>> [device.name for device in devices("cpu")]
        ['cpu']
    """
    names = [name.strip().lower() for name in request.split(",")]
    if names == ["auto"]:
        return [_automatic(usable(environment), environment)]
    if names == ["cpu"]:
        return [Device("cpu", "cpu", "as asked")]
    indices = [_index(name, request) for name in names]
    if len(set(indices)) < len(indices):
        raise DeviceError(
            f"--device {request} names a GPU twice.", "Name each once; --workers sets how many trials."
        )
    found = usable(environment)
    for index in indices:
        if index >= len(found.gpus):
            there = f"there are {len(found.gpus)}, numbered from 0" if found.gpus else found.why_none
            raise DeviceError(f"There is no GPU cuda:{index} to use: {there}.", _HINT)
    return [
        Device(f"cuda:{index}", f"cuda:{place}", "as asked", found.gpus[index])
        for place, index in enumerate(indices)
    ]


def worker_environment(chosen: Sequence[Device]) -> dict[str, str]:
    """Variables that make exactly these devices visible to a worker, numbered by their place in `chosen`.

    Without GPUs all are hidden: user code that asks `torch.cuda.is_available()` must not take one unasked.
    """
    uuids = [device.gpu.uuid for device in chosen if device.gpu is not None]
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(uuids)}


def workers_for(chosen: Sequence[Device], requested: int | None = None, bytes_per_worker: int = 0) -> Workers:
    """How many workers fit, all devices together, and how many CPU threads each gets.

    On the CPU as many as there are cores, fewer where memory does not suffice; on GPUs one each, because
    trials that share a GPU disturb each other's timing. A number that was asked for is kept or refused.

    Args:
        chosen: from `devices`.
        requested: the user's --workers; None: decide.
        bytes_per_worker: memory of one worker on its device; 0: unknown.

    Raises:
        UsageError: `requested` is below 1, or needs more memory than is free.

    Example:
        >>> workers_for(devices("cpu"), requested=1).workers
        1
    """
    cores = cpu_slots()
    fit = (
        [int(_SPARE * device.memory_free) // bytes_per_worker for device in chosen]
        if bytes_per_worker
        else []
    )
    if requested is not None:
        _check_requested(requested, fit, chosen, bytes_per_worker)
        workers = requested
    elif chosen[0].kind == "cpu":
        # One is always tried: that it fits is for the trial to find out, and a failure there is recorded.
        workers = max(1, min([cores, *fit]))
    else:
        workers = len(chosen)
    return Workers(workers, max(1, cores // workers))


def describe() -> dict[str, Any]:
    """The machine in plain data, for a result's provenance: sizes in bytes, no host or user names."""
    found = scan()
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": cpu_slots(),
        "memory": total_memory(),
        "gpus": [{"name": gpu.title, "memory": gpu.memory_total} for gpu in found.gpus],
        "driver": found.driver,
    }


def _automatic(found: Scan, environment: Mapping[str, str] | None) -> Device:
    reasons = []
    for index, gpu in enumerate(found.gpus):
        busy = gpu.busy()
        if busy is None and (holder := other_holder(gpu.uuid, environment)) is not None:
            busy = f"leased by {holder}"
        if busy is None:
            return Device(f"cuda:{index}", "cuda:0", f"{gpu.title} is idle", gpu)
        reasons.append(f"cuda:{index} is busy ({busy})")
    return Device("cpu", "cpu", "; ".join(reasons) or found.why_none)


def usable(environment: Mapping[str, str] | None = None) -> Scan:
    """The GPUs that the driver shows and this torch can use."""
    found = scan(os.environ if environment is None else environment)
    # The wheel's version says so without importing torch, which the coordinator never does.
    version = metadata.version("torch")
    if found.gpus and version.endswith("+cpu"):
        return Scan((), f"torch {version} is built for the CPU only", found.driver)
    return found


def _index(name: str, request: str) -> int:
    match = re.fullmatch(r"(?:cuda)?(?::?(\d+))?", name) if name else None
    if match is None:
        raise DeviceError(f"'{request}' is not a device.", _HINT)
    return int(match[1] or 0)


def _check_requested(requested: int, fit: list[int], chosen: Sequence[Device], size: int) -> None:
    if requested < 1:
        raise UsageError(f"--workers {requested} leaves nobody to work.", "Use --workers 1 or more.")
    if requested > 1 and fit and requested > sum(fit):
        needed, free = requested * size / 2**30, sum(device.memory_free for device in chosen) / 2**30
        raise UsageError(
            f"--workers {requested} needs {needed:.1f} GiB, and {free:.1f} GiB are free.",
            f"Use --workers {max(1, sum(fit))}, or leave --workers out.",
        )
