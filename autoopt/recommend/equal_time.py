"""The loss of an optimizer after as many seconds as the recommended one was trained for, where its trials tell it.

A slower optimizer gets fewer steps in that time, and a faster one more. The loss there is read off the line through y at
two lengths of its own trials (`tuning.verdict.at_equal_time`). Far beyond them the line says nothing: it falls below a loss
of zero.
"""

from __future__ import annotations

from autoopt.recommend.evidence import Evidence
from autoopt.records import Expected
from autoopt.tuning.verdict import at_equal_time

_BEYOND = 1.5
"""Times the longest length of its trials, or less than the shortest, up to which the line is followed."""


def loss_at_equal_time(
    e: Evidence,
    name: str,
    seen: Expected | None,
    pace: float | None,
    chosen: Expected,
    its_pace: float | None,
) -> float | None:
    """The loss; `None` where there is no line, or the time is too far from any trial, or the line ends below zero.

    Args:
        name: the optimizer, with what its best configuration reached, `seen`.
        pace: its seconds for the samples of a step of the run's own batch.
        chosen: what the recommended configuration reached, with `its_pace`.
    """
    slope = e.slope(name)
    if e.score.metric is not None or seen is None or seen.loss is None or slope is None:
        return None
    if not pace or not its_pace:
        return None
    seconds = chosen.steps * its_pace
    lengths = [t.steps for t in e.planner.arms[name].tried.values() if t.alive]
    if not min(lengths) / _BEYOND <= seconds / pace <= _BEYOND * max(lengths):
        return None
    y = at_equal_time(e.score.of_loss(seen.loss), slope, seen.steps * pace, seconds)
    return None if e.score.positive and y <= 0 < seen.loss else e.score.unit(y)
