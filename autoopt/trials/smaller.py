"""Which batch fits, once one did not: its half, a quarter ... tried for real, in the process that ran out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

from autoopt import options
from autoopt.memory.room import bounded, release
from autoopt.records import Outcome, Shortage, TrialSpec
from autoopt.trials.execute import execute
from autoopt.trials.failures import outcome_of
from autoopt.trials.runner import Progress
from autoopt.workload import Workload
from autoopt.workload.data import nbytes, samples
from autoopt.workload.portion import portion

_STEPS = 2
"""So many make a step with the optimizer's state in place, which the first one creates."""
_MOST_BATCHES = 64
_SECONDS = 30.0
"""No attempt is begun later."""


def largest_fit(workload: Workload, spec: TrialSpec, shortage: Shortage, steps_done: int = 0) -> Shortage:
    """The shortage, completed by the largest batch whose step fits.

    The largest batch of those that the trial had seen is cut to its first half, quarter ... and as many are accumulated
    as make the same step; for each, optimizer steps are taken for real. The batch itself is tried first: where it fits
    now, something else had taken the memory.

    Args:
        workload: whose step ran out.
        spec: of the trial that ran out; its optimizer and seed are used.
        shortage: what is known so far.
        steps_done: steps that the trial had done.
    """
    begin = time.monotonic()
    release(workload.model, workload.device)
    count = (steps_done + 1) * options.applied(spec.hyper, workload.settings).accumulate
    batch = max(islice(workload.batches(spec.seed), min(count, _MOST_BATCHES)), key=nbytes, default=None)
    size = samples(batch)
    if size is None:
        return shortage
    parts = 1
    while time.monotonic() - begin < _SECONDS:
        wanted = -(-size // parts)
        cut = portion(batch, wanted)
        if cut is None:
            return shortage
        fits = _fits(cast("Workload", _Portioned(workload, cut, parts)), spec)
        release(workload.model, workload.device)
        if fits is None:
            return shortage
        if fits:
            accumulate = workload.settings.accumulate * parts
            return shortage.model_copy(update={"batch": size, "fits": wanted, "accumulate": accumulate})
        if wanted == 1:
            return shortage.model_copy(update={"batch": size})
        parts *= 2
    return shortage


def _fits(workload: Workload, spec: TrialSpec) -> bool | None:
    """Whether steps fit; None when they fail for another reason, e.g. a loss that needs the whole batch."""
    short = spec.model_copy(update={"steps": math.ceil((_STEPS + 1) * options.multiple(spec.hyper))})
    try:
        with bounded(workload.device):
            items = execute(workload, short)
            for item in items:
                if isinstance(item, Progress) and item.step >= _STEPS:
                    items.close()  # type: ignore[attr-defined]
                    break
    except Exception as error:
        return False if outcome_of(error)[0] is Outcome.OUT_OF_MEMORY else None
    return True


class _Portioned:
    """A workload that gives one small batch again and again, and accumulates as many as make a step."""

    def __init__(self, workload: Workload, batch: Any, parts: int) -> None:
        self._workload, self._batch = workload, batch
        settings = workload.settings
        self.settings = settings.model_copy(update={"accumulate": settings.accumulate * parts})

    def batches(self, _seed: int) -> Iterator[Any]:
        """As `Workload.batches`."""
        while True:
            yield self._batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workload, name)
