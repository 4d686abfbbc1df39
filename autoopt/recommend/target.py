"""How long an optimizer takes to reach what tuned AdamW reaches: the question behind most claims of a speed-up.

Compared are training losses of trials of one length and seed, each averaged over a tenth of the run: the target is
AdamW's last tenth. A curve is met in the middle of its schedule, with a rate that has not decayed yet; a run that were
planned shorter would be there earlier, so what is told is an upper bound.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from autoopt.options import in_own_steps, multiple
from autoopt.recommend.evidence import Evidence
from autoopt.recommend.numbers import median
from autoopt.recommend.windows import Window, mean_loss
from autoopt.records import Outcome, TrialResult
from autoopt.tuning.arm import Key, key_of

_SHARE = 0.1
"""Of the run over which losses are averaged."""
Curve = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class ToTarget:
    """Seconds of training until the target; `None` with the reason where they are not known."""

    seconds: float | None
    reason: str = ""


def to_adamw(e: Evidence, key: Key | None, adamw: Key | None, untried: str = "") -> ToTarget:
    """Seconds that the configuration `key` trains until it is where tuned AdamW ends.

    Args:
        key: the best of an optimizer; `None` where nothing of it ended well.
        adamw: AdamW's best.
        untried: why nothing of it was tried; empty where something was.
    """
    if adamw is None:
        return ToTarget(None, "no trial of AdamW to compare with")
    if key is None:
        return ToTarget(None, f"not tried: {untried}" if untried else "no trial of it ended well")
    mine, theirs = _longest(e, key), _longest(e, adamw)
    steps = max({n for n, _ in mine} & {n for n, _ in theirs}, default=None)
    if steps is None:
        return ToTarget(None, "no length and seed was trained with both")
    seeds = [s for n, s in mine if n == steps and (n, s) in theirs]
    reached = [steps_to(_curve(mine[steps, s]), _curve(theirs[steps, s])) for s in seeds]
    times = [(n, _pace(mine[steps, s])) for n, s in zip(reached, seeds, strict=True) if n is not None]
    if 2 * len(times) <= len(seeds):
        return ToTarget(None, f"not reached in {steps} steps")
    seconds = median(n * pace for n, pace in times if pace is not None)
    if seconds is None:
        return ToTarget(None, "its steps were not timed")
    return ToTarget(float(f"{seconds:.4g}"), f"of a run of {steps} steps, by the training loss")


def steps_to(curve: Curve, target: Curve) -> float | None:
    """Steps until a curve, averaged over a tenth of the run, is down to the last tenth of `target`; `None`: never.

    Args:
        curve: (step, mean training loss since the point before), as a trial records it.
        target: the same of a run of the same length.

    >>> steps_to([(n, 10.0 - n) for n in range(1, 11)], [(n, 5.0) for n in range(1, 11)])
    5.0
    """
    if not curve or not target:
        return None
    steps = max(curve[-1][0], target[-1][0])
    width = _SHARE * steps
    goal = mean_loss(target, Window(steps - width, steps))
    if goal is None:
        return None
    smooth = [
        (step, loss)
        for step, _ in curve
        if step >= width and (loss := mean_loss(curve, Window(step - width, step))) is not None
    ]
    if smooth and smooth[0][1] <= goal:
        return float(smooth[0][0])
    for (before, high), (step, low) in itertools.pairwise(smooth):
        if low <= goal < high:
            return before + (step - before) * (high - goal) / (high - low)
    return None


def _longest(e: Evidence, key: Key) -> dict[tuple[int, int], TrialResult]:
    """(steps, seed) -> a trial of this configuration that ended well."""
    key = e.stand_in(key)
    return {
        (r.spec.steps, r.spec.seed): r
        for r in e.results_of(key[0])
        if r.outcome is Outcome.COMPLETED and r.curve and key_of(key[0], r.spec.hyper) == key
    }


def _curve(result: TrialResult) -> Curve:
    return in_own_steps(result.curve, result.spec.hyper)


def _pace(result: TrialResult) -> float | None:
    """Seconds for the samples of a step of the run's own batch, with the wait for data."""
    if result.step_seconds is None:
        return None
    seconds = result.step_seconds + (result.speed.data.seconds if result.speed else 0.0)
    return seconds / multiple(result.spec.hyper)
