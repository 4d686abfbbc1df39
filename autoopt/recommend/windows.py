"""Windows of a run over which a training loss is averaged, and where to find them in a run of another length.

A short trial warms up sooner, so step k of it is ahead of step k of the real run, and its share k / n is behind. What
agrees is the distance travelled: the sum of the learning rates so far.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from autoopt.schedule import KINDS, multiplier, warmup_steps

CHECKPOINTS = ((0.0, 0.01), (0.01, 0.05), (0.05, 0.10), (0.10, 0.25), (0.90, 1.0))
"""(begin, end) as shares of the run: each window begins where the one before ended, the last is the last tenth."""
_GRID = 1000
_SEEN = 0.5
"""Share of a window that a curve must cover for its mean to stand for the window's."""


@dataclass(frozen=True)
class Window:
    """Steps `begin` (not included) to `end` of a run, counted from 1."""

    begin: float
    end: float


def of_run(share: tuple[float, float], total: int) -> Window | None:
    """A window of `CHECKPOINTS` in whole steps of a run; `None` where the run is too short for it.

    >>> of_run((0.01, 0.05), 1000), of_run((0.0, 0.01), 20)
    (Window(begin=10, end=50), None)
    """
    begin, end = round(share[0] * total), round(share[1] * total)
    return Window(begin, end) if end > begin else None


def mean_loss(curve: Sequence[tuple[int, float]], window: Window) -> float | None:
    """The mean training loss over a window.

    Args:
        curve: (step, mean training loss since the point before), as a trial records it.
        window: in steps of that trial.

    Returns:
        `None` when less than half of the window was recorded.

    >>> mean_loss([(2, 4.0), (4, 2.0), (6, 1.0)], Window(1, 4))
    2.6666666666666665
    """
    total = weight = 0.0
    for (before, _), (step, loss) in itertools.pairwise([(0, 0.0), *curve]):
        overlap = min(step, window.end) - max(before, window.begin)
        if overlap > 0:
            total, weight = total + overlap * loss, weight + overlap
    return total / weight if weight >= _SEEN * (window.end - window.begin) > 0 else None


def matched(window: Window, total: int, steps: int, schedule: str, warmup: float) -> Window | None:
    """Where a run of `steps` has travelled as far as the real one of `total` has in `window`.

    Args:
        window: of the real run.
        total: its length.
        steps: the other run's length.
        schedule: the kind of both; "yours", whose shape is not known here, is taken as constant.
        warmup: share of each run that warms up.

    Returns:
        A window that may end beyond the other run's last step; `None` when it begins there.
    """
    if steps == total:
        return window
    travelled = _travelled(schedule if schedule in KINDS else "constant", warmup)
    begin, end = (
        _share(travelled, _at(travelled, s / total) * total / steps) for s in (window.begin, window.end)
    )
    return None if begin >= 1 else Window(begin * steps, end * steps)


@lru_cache(maxsize=8)
def _travelled(schedule: str, warmup: float) -> tuple[float, ...]:
    """Sum of the rate's multiples after each thousandth of a run of length 1."""
    warm = warmup_steps(warmup, _GRID)
    rates = (multiplier(schedule, step, _GRID, warm) / _GRID for step in range(_GRID))
    return tuple(itertools.accumulate(rates, initial=0.0))


def _at(travelled: Sequence[float], share: float) -> float:
    left = min(int(share * _GRID), _GRID - 1)
    return travelled[left] + (share * _GRID - left) * (travelled[left + 1] - travelled[left])


def _share(travelled: Sequence[float], distance: float) -> float:
    """The inverse of `_at`; beyond the end at the full rate, as a run that did not decay would go on."""
    if distance >= travelled[-1]:
        return 1 + distance - travelled[-1]
    right = max(1, bisect_left(travelled, distance))
    low, high = travelled[right - 1], travelled[right]
    return (right - 1 + (distance - low) / (high - low)) / _GRID
