"""What an optimizer trades against tuned AdamW, in a sentence: loss for memory for time.

A difference of losses is told as one only where it is decided; all else is noise between seeds and said to be that.
"""

from __future__ import annotations

from autoopt.recommend.evidence import Evidence
from autoopt.recommend.numbers import ratio
from autoopt.records import Expected
from autoopt.tuning.arm import Key
from autoopt.tuning.option import Option

ADAMW = "adamw"
_DECIDED = 0.9
"""Probability of a difference from which on it is told."""
_MOST_PERCENT = 1000.0
"""Above it a percentage of a loss near zero says nothing."""
_SAME = 0.03
"""Relative difference of costs that counts as none: less is timing noise."""


def trade(
    e: Evidence, key: Key | None, seen: Expected | None, adamw: Key | None, its: Expected | None
) -> str:
    """The sentence of an optimizer; empty where it or AdamW was not measured, and for AdamW itself.

    Args:
        key: its best configuration, and what it is expected to reach, `seen`.
        adamw: those of AdamW, with `its` expectation.
    """
    if key is None or seen is None or adamw is None or its is None or key[0] == ADAMW:
        return ""
    parts = [_loss(e, key, seen, adamw, its)]
    state, peak = ratio(seen.state_bytes, its.state_bytes), ratio(seen.peak_bytes, its.peak_bytes)
    if state is not None:
        parts.append(f"{times(state)} its state")
    if peak is not None and abs(peak - 1) > _SAME:
        parts.append(f"{times(peak)} its peak memory")
    step = e.planner.pace.timed(key[0]) or ratio(e.pace(key[0], key), e.pace(adamw[0], adamw))
    if step is not None:
        parts.append(f"{times(step)} its step")
    return ", ".join(parts)


def _loss(e: Evidence, key: Key, seen: Expected, adamw: Key, its: Expected) -> str:
    metric = e.score.metric
    what = metric[0] if metric else "loss"
    if seen.steps != its.steps:
        return f"{what} not comparable with AdamW's, trained for {seen.steps} steps and not {its.steps}"
    gap = e.planner.view.difference(_option(key), _option(adamw))
    better = gap.probability_below(0.0)
    mine, theirs = (seen.metric, its.metric) if metric else (seen.loss, its.loss)
    if mine is None or theirs is None:
        return f"{what} not known"
    direction = "lower" if mine < theirs else "higher"
    shown = (mine < theirs) == (metric is None or metric[1] == "min")
    if 1 - _DECIDED < better < _DECIDED:
        return f"the same {what} as AdamW within noise"
    if shown != (better >= _DECIDED):
        believed = "better" if better >= _DECIDED else "worse"
        return f"believed {believed} than AdamW, though its {what} was {difference(mine, theirs)} {direction}"
    return f"{difference(mine, theirs)} {direction} {what} than AdamW"


def difference(a: float, b: float) -> str:
    """How far apart two losses are: in percent of the second, or as they are where a percentage says nothing.

    >>> difference(0.92, 1.0), difference(-1.0, 0.5), difference(4.7, 0.002)
    ('8 %', '1.5', '4.7')
    """
    if b <= 0 or a <= 0:
        return f"{abs(a - b):.3g}"
    percent = 100 * abs(a / b - 1)
    if percent > _MOST_PERCENT:
        return f"{abs(a - b):.3g}"
    return f"{percent:.0f} %" if percent >= 1 else f"{percent:.1g} %"


def times(value: float) -> str:
    """A ratio in two digits.

    >>> times(1.08), times(1.0), times(0.5), times(12.3)
    ('1.1 x', '1 x', '0.5 x', '12 x')
    """
    return "1 x" if abs(value - 1) <= _SAME else f"{value:.2g} x"


def _option(key: Key) -> Option:
    return Option(key[0], dict(key[1]))
