"""Room for tensors on a device: how much there is, giving back what is held, and a bound for daring attempts."""

from __future__ import annotations

import gc
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
from torch import nn

from autoopt.hardware.cpu import available_memory, total_memory

_BOUND = 0.9
"""Share of the memory that is available which an attempt may take."""


def room(device: torch.device) -> tuple[int | None, int | None]:
    """(bytes that can be allocated now, bytes that there are); None where nobody can say.

    On the CPU the least of the machine's, the control group's and the limit of the address space (`ulimit -v`).

    >>> free, total = room(torch.device("cpu"))
    >>> 0 < free <= total
    True
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        # What the allocator keeps in its cache is not free for the driver, but for us.
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free) + int(cached), int(total)
    if device.type != "cpu":
        return None, None
    free, total = available_memory(), total_memory()
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        free = min(free, max(0, limit - int(psutil.Process().memory_info().vms)))
        total = min(total, limit)
    return free, total


def release(model: nn.Module, device: torch.device) -> None:
    """Gives back what a training that failed has left: gradients, cycles of objects, the allocator's cache.

    To be called outside of the `except` block: the exception's frames hold the tensors that they worked on.
    """
    model.zero_grad(set_to_none=True)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def bounded(device: torch.device) -> Iterator[None]:
    """On the CPU, an allocation inside that would take (nearly) all that is left raises instead.

    The kernel grants it, and then kills a process, not always this one, when it is used.
    """
    if device.type != "cpu":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = int(psutil.Process().memory_info().vms) + int(_BOUND * available_memory())
    if soft != resource.RLIM_INFINITY:
        bound = min(bound, soft)
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
