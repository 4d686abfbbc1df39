"""Memory of a whole trial: the allocator's peaks on CUDA, tracked tensors elsewhere, and the process's own memory."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from autoopt.memory.measured import Source, StepMemory
from autoopt.memory.resident import ResidentPeak

_TRACKED = (1, 2)
"""Steps (from 0) whose tensors are tracked: the first one creates the optimizer's state, and is unlike the others."""


@dataclass(frozen=True)
class Used:
    """What a trial used while it trained, in bytes; None: not known."""

    peak: int | None
    source: Source
    process: int
    reserved: int | None = None
    reserved_begin: int | None = None


class TrialMemory:
    """Measures one trial; made when it begins, before anything of it is allocated.

    On CUDA the allocator's peaks are set back and its cache is given up first, so that they are this trial's alone;
    they then cover every step with the optimizer's temporaries. Elsewhere the tensors of two whole steps are tracked
    (see `autoopt.memory.measured`), which costs Python calls and is left out of the timing by whoever times.

    Args:
        device: where it trains.
        steps: of the trial; a trial of a single step is tracked in that one.

    >>> model = nn.Linear(4, 2, bias=False)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> memory = TrialMemory(torch.device("cpu"), steps=1)
    >>> memory.of(model, optimizer)
    >>> with memory.around(0):
    ...     model(torch.ones(3, 4)).sum().backward()
    >>> memory.stepped(1)
    >>> memory.used().peak, memory.used().source
    (112, 'tracked')
    """

    def __init__(self, device: torch.device, steps: int) -> None:
        self._device = device
        self._steps = {min(step, steps - 1) for step in _TRACKED}
        self._meter: StepMemory | None = None
        self._model: nn.Module | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._peaks: list[tuple[int | None, Source]] = []
        self._begin: int | None = None
        self._resident = ResidentPeak()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self._begin = int(torch.cuda.memory_reserved(device))

    def of(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """What trains; to be called before the first step."""
        self._model, self._optimizer = model, optimizer

    def around(self, step: int) -> AbstractContextManager[Any]:
        """What to enter around forward and backward of a step (from 0)."""
        if self._device.type == "cuda" or self._model is None or step not in self._steps:
            return nullcontext()
        self._meter = StepMemory(self._model, self._device)
        return self._meter

    def stepped(self, step: int) -> None:
        """After the optimizer's step `step` (from 1)."""
        if self._meter is not None and self._optimizer is not None:
            self._peaks.append(self._meter.peak_bytes(self._optimizer))
            self._meter = None
        if step <= len(_TRACKED) + 1:
            self._resident.look()

    def used(self) -> Used:
        """To be asked when the training has ended, before it is evaluated."""
        process = self._resident.bytes()
        if self._device.type == "cuda":
            return Used(
                int(torch.cuda.max_memory_allocated(self._device)),
                "allocator",
                process,
                int(torch.cuda.max_memory_reserved(self._device)),
                self._begin,
            )
        known = [(size, source) for size, source in self._peaks if size is not None]
        if not known or len(known) < len(
            self._peaks
        ):  # a step that hid its tensors may have been the larger one
            return Used(None, "unknown", process)
        size, source = max(known)
        return Used(size, source, process)
