"""From trials, which may have been shorter, to 90 % bands of the real run's losses, in y of `tuning.score`.

How wide a band must be hangs on how steep the loss falls there, |dy| for a doubling of the steps: where it stands still
seeds agree within 2 %, and where it halves in a doubling they differ by a third, because they get there sooner or
later. So every part of the standard deviation is a multiple of that: from seed to seed (times a factor that this run's
own repeats tell), for the distance to another length and to another configuration. The multiples are measured on the
workloads of `benchmarks.choice` by `python -m benchmarks.choice.promise`; those held out had no say.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from autoopt.recommend import clues
from autoopt.recommend.clues import Clue, Kind
from autoopt.recommend.windows import CHECKPOINTS, Window, of_run
from autoopt.records import Hyper, Outcome, TrialResult
from autoopt.tuning.arm import Key, key_of
from autoopt.tuning.score import Score

_Z = 1.645
"""Half-width of a 90 % interval in standard deviations."""
_STILL, _AT_START = 0.02, 0.06
"""Standard deviation of y from seed to seed where the loss stands still; in the first window, of few steps."""
_OF_STEEP = 0.35
"""The same as a multiple of the steepness."""
_USUAL_WEIGHT = 2.0
"""Degrees of freedom that what is usual counts as, beside those of this run's repeats."""
_OF_DECADE = 0.1, 1.0
"""Standard deviation for a learning rate ten times another: at least, and as a multiple of the steepness."""
_OTHERWISE = 0.2
"""Decades that a configuration counts as away when anything but its rate differs."""
_FARTHEST = 0.6
"""Decades from which on a trial says nothing of another configuration."""


@dataclass(frozen=True)
class Estimate:
    """A 90 % band in y: its middle and half its width."""

    of: Kind
    share: float
    window: Window
    y: float
    half: float


def kinds(share: tuple[float, float]) -> tuple[Kind, ...]:
    """What is promised at a checkpoint."""
    return ("training loss", "validation loss") if share[1] == 1 else ("training loss",)


def estimates(
    results: Iterable[TrialResult],
    optimizer: str,
    hyper: Hyper,
    total: int,
    score: Score,
    *,
    schedule: str,
    warmup: float,
    checkpoints: Sequence[tuple[float, float]] = CHECKPOINTS,
) -> list[Estimate]:
    """The bands in y, of what can be said; arguments as of `promise.promise`.

    Args:
        checkpoints: windows (begin, end) as shares of the run; one that ends at 1 also gives the validation loss.
    """
    sound = [r for r in results if r.outcome is Outcome.COMPLETED and r.spec.steps <= total]
    score = replace(score, metric=None)
    made = []
    for share in checkpoints:
        window = of_run(share, total)
        if window is None:
            continue
        for kind in kinds(share):
            if share[1] == 1:
                found = clues.end(sound, kind, share[0], total, score)
            else:
                found = clues.early(sound, window, total, schedule, warmup, score)
            still = _AT_START if share[0] == 0 else _STILL
            best = _best(found, optimizer, hyper, still)
            if best is not None:
                y, deviation = best
                made.append(Estimate(kind, share[1], window, y, _Z * deviation))
    return made


def _best(found: Sequence[Clue], optimizer: str, hyper: Hyper, still: float) -> tuple[float, float] | None:
    """y and its standard deviation, of the nearest configuration at the length that knows it best."""
    distances = [_decades(clue.key, optimizer, hyper) for clue in found]
    away = min(distances, default=math.inf)
    if away > _FARTHEST:
        return None
    nearest = [clue for clue, distance in zip(found, distances, strict=True) if distance == away]
    # A curve may stand still for a moment at one length: the steepest is what to be prepared for.
    steep = max(clue.steep for clue in nearest)
    factor, other = _factor(found, still), away * math.hypot(_OF_DECADE[0], _OF_DECADE[1] * steep)

    def deviation(clue: Clue) -> float:
        noise = factor * math.hypot(still, _OF_STEEP * steep) * math.sqrt(1 + 1 / len(clue.ys))
        return math.hypot(noise, clue.apart, other)

    best = min(nearest, key=deviation)
    return best.y, deviation(best)


def _usual(clue: Clue, still: float) -> float:
    """Usual standard deviation of y from seed to seed."""
    return math.hypot(still, _OF_STEEP * clue.steep)


def _factor(found: Iterable[Clue], still: float) -> float:
    """This run's spread from seed to seed over what is usual, pooled over what was repeated."""
    repeated = [clue for clue in found if len(clue.ys) > 1]
    squares = sum(
        statistics.variance(clue.ys) * (len(clue.ys) - 1) / _usual(clue, still) ** 2 for clue in repeated
    )
    freedom = sum(len(clue.ys) - 1 for clue in repeated)
    return math.sqrt((squares + _USUAL_WEIGHT) / (freedom + _USUAL_WEIGHT))


def _decades(key: Key, optimizer: str, hyper: Hyper) -> float:
    """How far a configuration is from the real run's, in decades of the learning rate."""
    mine = dict(key[1])
    if key == key_of(optimizer, hyper):
        return 0.0
    if key[0] != optimizer or "lr" not in mine or "lr" not in hyper:
        return math.inf
    others = {**mine, "lr": 0.0} != {**hyper, "lr": 0.0}
    return abs(math.log10(mine["lr"] / hyper["lr"])) + _OTHERWISE * others
