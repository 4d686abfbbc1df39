"""What else moves a result beside the optimizer: clipping, warm-up and batch, as settings of a configuration.

They travel in a configuration's `Hyper` under reserved names, so that whatever compares, keeps and hands on a
configuration does so with them. The optimizer never sees them: `own` leaves them out. Where a name is missing, the
real run's `Settings` hold.
"""

from __future__ import annotations

from collections.abc import Mapping

from autoopt.records import Hyper, Settings

CLIP = "clip"
"""Largest norm of the gradient; 0: no clipping."""
WARMUP = "warmup"
"""Share of the run that warms up."""
BATCH = "batch"
"""Multiple of the run's own effective batch: a step takes so many times as many batches, a run so many times fewer steps.

The `steps` of trials, plans and comparisons count steps of the run's own batch, so that trials of one length have seen as
many samples whatever their batch; `steps_of` tells how many optimizer steps that are.
"""
Curve = list[tuple[int, float]]
"""(step, training loss since the point before), as a trial records it."""
NAMES = (CLIP, WARMUP, BATCH)


def own(hyper: Mapping[str, float]) -> Hyper:
    """What the optimizer's constructor is told.

    >>> own({"lr": 0.1, "clip": 1.0})
    {'lr': 0.1}
    """
    return {name: value for name, value in hyper.items() if name not in NAMES}


def chosen(hyper: Mapping[str, float]) -> Hyper:
    """What is left: the options that a configuration sets otherwise than the real run's settings.

    >>> chosen({"lr": 0.1, "clip": 1.0})
    {'clip': 1.0}
    """
    return {name: value for name, value in hyper.items() if name in NAMES}


def multiple(hyper: Mapping[str, float]) -> float:
    """How many times as many samples as in the real run an optimizer step of this configuration sees."""
    return hyper.get(BATCH, 1.0)


def steps_of(hyper: Mapping[str, float], steps: int) -> int:
    """Optimizer steps of a configuration that see as many samples as `steps` steps of the run's own batch.

    >>> steps_of({"lr": 0.1}, 100), steps_of({"lr": 0.1, "batch": 4.0}, 100), steps_of({"batch": 0.5}, 100)
    (100, 25, 200)
    """
    return max(1, round(steps / multiple(hyper)))


def in_own_steps(curve: Curve, hyper: Mapping[str, float]) -> Curve:
    """A trial's losses over steps of the run's own batch, so that curves are compared at equal samples.

    >>> in_own_steps([(1, 2.0), (3, 1.0)], {"lr": 0.1, "batch": 2.0})
    [(2, 2.0), (6, 1.0)]
    """
    return stretched(curve, multiple(hyper))


def stretched(curve: Curve, by: float) -> Curve:
    """A curve in other steps; of points that fall on one step the last."""
    if by == 1:
        return curve
    return sorted({max(1, round(step * by)): loss for step, loss in curve}.items())


def applied(hyper: Mapping[str, float], settings: Settings) -> Settings:
    """The settings that a training with this configuration runs under.

    >>> applied({"lr": 0.1, "clip": 0.0, "warmup": 0.02}, Settings(clip=1.0)).clip is None
    True
    >>> larger = applied({"lr": 0.1, "batch": 2.0}, Settings(steps=100, accumulate=3))
    >>> larger.steps, larger.accumulate
    (50, 6)
    """
    mine = chosen(hyper)
    if not mine:
        return settings
    update: dict[str, float | None] = {}
    if CLIP in mine:
        update["clip"] = mine[CLIP] or None
    if WARMUP in mine:
        update["warmup"] = mine[WARMUP]
    if BATCH in mine:
        update["accumulate"] = max(1, round(settings.accumulate * mine[BATCH]))
        update["steps"] = steps_of(mine, settings.steps)
    return settings.model_copy(update=update)
