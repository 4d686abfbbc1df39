"""The speed of a trial from the laps of its steps: medians and quartiles, or means over whole periods."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

from autoopt.records import Speed, Timing
from autoopt.timing import Lap

_FEWEST = 3
"""Steps without which nothing is told."""


def warm_from(steps: int) -> int:
    """The first step of a training that counts as warm, from 0: after a tenth of it, at least three.

    >>> warm_from(1000), warm_from(20)
    (100, 3)
    """
    return min(max(0, steps - 1), max(3, steps // 10))


def summarise(
    laps: Sequence[Lap],
    *,
    clock: Literal["host", "device"],
    period: int = 1,
    warmup_steps: int = 0,
    warmup_seconds: float = 0.0,
    compile_seconds: float | None = None,
    samples: float | None = None,
) -> Speed | None:
    """What the laps of a trial's warm steps say; `None` when there are fewer than three.

    Args:
        laps: seconds by part for each step, see `timing.PARTS`.
        clock: what measured them.
        period: steps after which the optimizer's cost repeats. Above 1 a median would hide the dear steps, so the
            optimizer's part is the mean over as many whole periods as there are.
        warmup_steps: that went before, and their `warmup_seconds`.
        compile_seconds: of torch.compile, from the first step to the last.
        samples: of one optimizer step.
    """
    whole = len(laps) // period * period
    if whole < max(_FEWEST, period):
        return None
    laps = laps[len(laps) - whole :]
    inside = any("inside" in lap for lap in laps)

    def part(name: str, *, amortised: bool = False) -> Timing:
        return _timing([lap.get(name, 0.0) for lap in laps], amortised and period > 1)

    data = part("data")
    step = _timing([sum(v for k, v in lap.items() if k != "data") for lap in laps], period > 1)
    total = data.seconds + step.seconds
    return Speed(
        clock=clock,
        steps=whole,
        data=data,
        forward=None if inside else part("forward"),
        backward=None if inside else part("backward"),
        optimizer=None if inside else part("optimizer", amortised=True),
        step=step,
        period=period,
        warmup_steps=warmup_steps,
        warmup_seconds=round(warmup_seconds, 6),
        compile_seconds=None if compile_seconds is None else round(compile_seconds, 6),
        samples_per_second=samples / total if samples and total > 0 else None,
    )


def _timing(values: Sequence[float], mean: bool) -> Timing:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    # Seven digits: nanoseconds of a step of ten milliseconds.
    shown = (statistics.fmean(values) if mean else middle, low, high)
    return Timing(**dict(zip(("seconds", "low", "high"), (float(f"{v:.7g}") for v in shown), strict=True)))
