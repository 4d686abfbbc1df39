"""What trials of some length say of the real run's loss, in y of `tuning.score`.

A window before the decay is looked up where a trial had travelled as far (`windows.matched`). The end is looked up at
trials' ends, and carried on to the real length with the fall from one length to the next. The constants are measured,
as those of `foresight` are.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from autoopt.recommend.windows import Window, matched, mean_loss
from autoopt.records import TrialResult
from autoopt.tuning.arm import Key, key_of
from autoopt.tuning.score import Score

Kind = Literal["training loss", "validation loss"]

_STEEPEST = 0.75
"""The largest fall of y in a doubling that is carried on, and that a width is made of."""
_UNKNOWN_STEEP = 0.4
"""Steepness where nothing tells it."""
_DECAY_FROM = 0.25
_OF_DECAY = 1.0
"""Multiple of the steepness for each share of a trial beyond `_DECAY_FROM`, where its decay makes it differ."""
_GOES_ON = 0.8
"""The next fall over the last one."""
_PER_DOUBLING = 0.8
"""Standard deviation of the loss at the end for each doubling in length, as a multiple of the steepness."""
_AT_DOUBLING = 0.15
"""The same times the square of the doublings, at least: a loss that stood still for short runs falls in longer ones."""
_ALONE = 0.6
"""The same for each doubling, where a configuration was trained at one length, so that its fall is not known."""
_MOST_DOUBLINGS = 3.1
"""From a trial to the real run; past it nothing is said about the end."""


@dataclass(frozen=True)
class Clue:
    """What the trials of one configuration and length say.

    Args:
        ys: y by seed, at their own length.
        y: the mean, carried to the real run's length.
        steep: |dy| for a doubling of the steps around there.
        apart: standard deviation of `y` for the distance between the lengths.
    """

    key: Key
    ys: Sequence[float]
    y: float
    steep: float
    apart: float


def early(
    results: Iterable[TrialResult], window: Window, total: int, schedule: str, warmup: float, score: Score
) -> list[Clue]:
    """Of the training loss in a window of the real run before its end; arguments as of `promise.promise`."""
    clues = []
    for (key, steps), some in _groups(results).items():
        there = matched(window, total, steps, schedule, warmup)
        if there is None:
            continue
        ys = _known(score, (mean_loss(r.curve, there) for r in some))
        half = Window(there.begin / 2, there.end / 2)
        before = _known(score, (mean_loss(r.curve, half) for r in some))
        if not ys or not before:
            continue
        y = statistics.fmean(ys)
        steep = min(abs(y - statistics.fmean(before)), _STEEPEST)
        decayed = 0.0 if steps == total else max(0.0, there.end / steps - _DECAY_FROM)
        clues.append(Clue(key, ys, y, steep, _OF_DECAY * decayed * steep))
    return clues


def end(results: Iterable[TrialResult], kind: Kind, begin: float, total: int, score: Score) -> list[Clue]:
    """Of a loss at the end of the real run, from each configuration's longest trials.

    Args:
        kind: which loss; the training loss is averaged from the share `begin` of a trial on.
    """
    by_key: dict[Key, dict[int, list[float]]] = defaultdict(dict)
    for (key, steps), some in _groups(results).items():
        window = Window(begin * steps, steps)
        losses = (r.loss if kind == "validation loss" else mean_loss(r.curve, window) for r in some)
        if ys := _known(score, losses):
            by_key[key][steps] = ys
    falls = {key: _fall(lengths) for key, lengths in by_key.items()}
    # A configuration may have been lucky at one length: what all did tells how steep it must be taken to be.
    known = [abs(fall) for fall in falls.values() if fall is not None]
    usual = statistics.median(known) if known else _UNKNOWN_STEEP
    clues = []
    for key, lengths in by_key.items():
        steps, ys = max(lengths.items())
        doublings, fall = math.log2(total / steps), falls[key]
        if doublings > _MOST_DOUBLINGS:
            continue
        steep = min(max(abs(fall or 0.0), usual), _STEEPEST)
        y, apart = statistics.fmean(ys), doublings * max(steep, _ALONE)
        if fall is not None:
            y += doublings * max(-_STEEPEST, _GOES_ON * fall)
            apart = math.hypot(_AT_DOUBLING * doublings**2, _PER_DOUBLING * steep * doublings)
        clues.append(Clue(key, ys, y, steep, apart))
    return clues


def _fall(lengths: dict[int, list[float]]) -> float | None:
    """Change of y for a doubling, between a configuration's two longest lengths."""
    if len(lengths) < 2:
        return None
    (short, before), (long, after) = sorted(lengths.items())[-2:]
    return (statistics.fmean(after) - statistics.fmean(before)) / math.log2(long / short)


def _groups(results: Iterable[TrialResult]) -> dict[tuple[Key, int], list[TrialResult]]:
    """Trials by configuration and length."""
    found: dict[tuple[Key, int], list[TrialResult]] = defaultdict(list)
    for r in results:
        found[key_of(r.spec.optimizer, r.spec.hyper), r.spec.steps].append(r)
    return found


def _known(score: Score, losses: Iterable[float | None]) -> list[float]:
    return [score.of_loss(loss) for loss in losses if loss is not None]
