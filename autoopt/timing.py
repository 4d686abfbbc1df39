"""Where the time of a training step goes: waiting for data, forward, backward, the optimizer.

On a CPU the parts are told apart by the clock of the host. A GPU works behind the host's back, so there an event is put
between the parts of each measured step, and nobody waits for it: all are read at the end. What an event tells is when
the device came by. The wait for data is then the time that the device stood idle for it, and not the time that the host
took while the device was still busy.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

PARTS = ("data", "forward", "backward", "optimizer", "inside", "other")
"""Of a step. "inside": forward and backward happen inside the optimizer's step; "other": the user's `after_step`."""
_MOST_EVENTS = 64
"""Steps of which a GPU's events are kept: enough for a median, and few enough to cost nothing."""

Lap = Mapping[str, float]
"""part -> seconds of one step."""


class Stopwatch:
    """Laps of the steps `first` and later of one training, on the host's clock or by events of the device.

    Args:
        device: where the model is trained.
        first: the first step that is measured, counted from 0: the ones before it warm up.
        period: the cost of the optimizer repeats after so many steps; a whole number of periods is measured.

    Example:
        >>> watch = Stopwatch(torch.device("cpu"))
        >>> watch.begin(0); watch.mark("data"); watch.mark("forward")
        >>> sorted(watch.laps()[0])
        ['data', 'forward']
    """

    def __init__(self, device: torch.device, first: int = 0, period: int = 1) -> None:
        self.on_device = device.type == "cuda"
        self.period = period
        self._device, self._first = device, first
        self._most = max(1, _MOST_EVENTS // period) * period if self.on_device else None
        self._marks: list[list[tuple[str, Any]]] = []
        self._running = False

    @property
    def first(self) -> int:
        """The first step that is measured, counted from 0."""
        return self._first

    def begin(self, step: int) -> None:
        """A step begins, counted from 0."""
        self._running = step >= self._first and (self._most is None or step < self._first + self._most)
        if self._running:
            self._marks.append([("", self._now())])

    def mark(self, part: str) -> None:
        """What happened since the last mark was `part`, one of `PARTS`."""
        if self._running:
            self._marks[-1].append((part, self._now()))

    def laps(self) -> list[Lap]:
        """Seconds by part, a mapping for each measured step; waits for the device."""
        if self.on_device and self._marks:
            torch.cuda.synchronize(self._device)
        between: Callable[[Any, Any], float] = _between_events if self.on_device else _between_times
        laps: list[Lap] = []
        for marks in self._marks:
            lap: dict[str, float] = {}
            for (_, before), (part, after) in itertools.pairwise(marks):
                lap[part] = lap.get(part, 0.0) + between(before, after)
            laps.append(lap)
        return laps

    def _now(self) -> Any:
        if not self.on_device:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event


def _between_times(before: float, after: float) -> float:
    return after - before


def _between_events(before: torch.cuda.Event, after: torch.cuda.Event) -> float:
    return float(before.elapsed_time(after)) / 1e3


def compiled_seconds() -> float | None:
    """Seconds that this process has spent in torch.compile so far; `None` where this torch does not tell."""
    utils = sys.modules.get("torch._dynamo.utils")
    if utils is None:
        return 0.0  # nothing can have been compiled
    spent = getattr(utils, "calculate_time_spent", None)
    return None if spent is None else float(spent().get("total_wall_time", 0.0))
