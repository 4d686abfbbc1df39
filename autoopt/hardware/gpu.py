"""NVIDIA GPUs as the driver's management library (NVML) sees them: no CUDA context, no torch.

Indices are in the order of the PCI bus, as `nvidia-smi` prints them; `CUDA_VISIBLE_DEVICES` is read as CUDA
reads it under `CUDA_DEVICE_ORDER=PCI_BUS_ID`, which is what workers are started with.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil
import pynvml


@dataclass(frozen=True)
class Process:
    """A process on a GPU. `owner` and `memory_bytes` are None where the driver or the system does not say."""

    pid: int
    owner: str | None
    memory_bytes: int | None


@dataclass(frozen=True)
class Gpu:
    """A GPU, or an instance (MIG) of one. Sizes are in bytes, `utilization` in percent; None: not told."""

    index: int
    title: str
    uuid: str
    memory_total: int
    memory_used: int
    memory_free: int
    utilization: int | None = None
    processes: tuple[Process, ...] = ()
    instance: bool = False

    def busy(self) -> str | None:
        """Why the GPU is not idle: a process that is not ours, or more than 5 % of its memory in use."""
        foreign = [process for process in self.processes if process.pid not in our_processes()]
        if foreign:
            first = foreign[0]
            return f"process {first.pid} of {first.owner or 'an unknown user'} is on it"
        if self.memory_used > 0.05 * self.memory_total:
            return f"{self.memory_used / self.memory_total:.0%} of its memory is in use"
        return None


@dataclass(frozen=True)
class Scan:
    """The GPUs that this process may use, or why there are none."""

    gpus: tuple[Gpu, ...]
    why_none: str = ""
    driver: str | None = None


def scan(environment: Mapping[str, str] | None = None) -> Scan:
    """Ask the driver; obey CUDA_VISIBLE_DEVICES, or what Slurm granted where that is not set.

    Args:
        environment: environment variables; None: this process's.
    """
    variables = os.environ if environment is None else environment
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Scan((), f"no NVIDIA driver ({_text(error)})")
    try:
        driver = _string(pynvml.nvmlSystemGetDriverVersion())
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        listed = [gpu for index, handle in enumerate(handles) for gpu in _gpus(index, handle)]
        visible, why = _visible(listed, len(handles), variables)
        return Scan(tuple(visible), "" if visible else why, driver)
    except pynvml.NVMLError as error:
        return Scan((), f"the NVIDIA driver does not answer ({_text(error)})")
    finally:
        pynvml.nvmlShutdown()


class DriverError(Exception):
    """The driver is missing, does not answer, or has lost the GPU."""


@dataclass(frozen=True)
class Look:
    """A GPU at a moment, in bytes. `processes` is None where the driver does not tell them (some containers)."""

    used: int
    total: int
    processes: tuple[Process, ...] | None


@contextmanager
def driver() -> Iterator[None]:
    """Keeps the driver's library open, for a series of looks. Raises DriverError when there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise DriverError(_text(error)) from error
    try:
        yield
    finally:
        with suppress(pynvml.NVMLError):  # the driver went away meanwhile: nothing is left to shut down
            pynvml.nvmlShutdown()


def look(uuid: str) -> Look:
    """A GPU, or an instance of one, inside `driver()`. Raises DriverError, e.g. when it has fallen off the bus."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        found = _running(handle)
    except pynvml.NVMLError as error:
        raise DriverError(_text(error)) from error
    return Look(int(memory.used), int(memory.total), None if found is None else tuple(found))


def process_bytes(uuid: str, pid: int) -> int | None:
    """Bytes of GPU memory that process `pid` holds on the GPU `uuid`, None where the driver does not say."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(
            uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        )
        return next((p.memory_bytes for p in _processes(handle) if p.pid == pid), None)
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _gpus(index: int, handle: Any) -> list[Gpu]:
    """The GPU itself, or its instances when it is split into such."""
    try:
        split = pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    except pynvml.NVMLError:  # older than MIG
        split = False
    if not split:
        return [_gpu(index, handle, instance=False)]
    instances = []
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except pynvml.NVMLError:  # a place without an instance
            continue
        instances.append(_gpu(index, part, instance=True))
    return instances


def _gpu(index: int, handle: Any, *, instance: bool) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    try:
        utilization = int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except pynvml.NVMLError:  # not told for instances
        utilization = None
    return Gpu(
        index=index,
        title=_string(pynvml.nvmlDeviceGetName(handle)),
        uuid=_string(pynvml.nvmlDeviceGetUUID(handle)),
        memory_total=int(memory.total),
        memory_used=int(memory.used),
        memory_free=int(memory.free),
        utilization=utilization,
        processes=tuple(_processes(handle)),
        instance=instance,
    )


def _processes(handle: Any) -> list[Process]:
    return _running(handle) or []


def _running(handle: Any) -> list[Process] | None:
    try:
        found = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except pynvml.NVMLError:  # not told in some containers; the memory in use still tells
        return None
    return [
        Process(int(p.pid), _owner(int(p.pid)), None if p.usedGpuMemory is None else int(p.usedGpuMemory))
        for p in found
    ]


def _owner(pid: int) -> str | None:
    try:
        return psutil.Process(pid).username()
    except psutil.Error:
        return None


def our_processes() -> set[int]:
    """This process and all that descends from it."""
    me = psutil.Process()
    return {me.pid, *(child.pid for child in me.children(recursive=True))}


def _visible(listed: list[Gpu], count: int, variables: Mapping[str, str]) -> tuple[list[Gpu], str]:
    """The listed GPUs that the environment leaves visible, in its order, and why there are none."""
    value = variables.get("CUDA_VISIBLE_DEVICES")
    if value is not None:
        return _chosen(listed, value.split(",")), f"CUDA_VISIBLE_DEVICES={value!r} shows none"
    if "SLURM_JOB_ID" not in variables:
        return listed, "the NVIDIA driver finds no GPU"
    granted = variables.get("SLURM_STEP_GPUS") or variables.get("SLURM_JOB_GPUS")
    if not granted:
        return [], "Slurm granted this job no GPU"
    indices = _slurm_indices(granted)
    # Where Slurm fences devices off, the driver shows only ours, numbered from 0.
    if count <= len(indices):
        return listed, "the NVIDIA driver finds no GPU"
    return _chosen(
        listed, [str(index) for index in indices]
    ), f"Slurm's GPUs {granted} are not on this machine"


def _chosen(listed: list[Gpu], entries: list[str]) -> list[Gpu]:
    """As CUDA does: the list ends at the first entry that names nothing, and one named twice hides all."""
    chosen: list[Gpu] = []
    for entry in (entry.strip() for entry in entries):
        if entry.isdecimal():
            matches = [gpu for gpu in listed if gpu.index == int(entry)]
        elif entry.startswith(("GPU-", "MIG-")):
            # A prefix that only one UUID has is enough.
            matches = [gpu for gpu in listed if gpu.uuid.startswith(entry)]
            matches = matches if len(matches) == 1 else []
        else:
            matches = []
        if not matches:
            break
        if any(gpu in chosen for gpu in matches):
            return []
        chosen.extend(matches)
    return chosen


def _slurm_indices(text: str) -> list[int]:
    """Numbers of a list such as "0-2,5"."""
    indices: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdecimal() and (last.isdecimal() or not last):
            indices.extend(range(int(first), int(last or first) + 1))
    return indices


def _string(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
