"""The learning-rate finder: losses while the rate grows exponentially, and the rate in their longest valley.

As in fastai, whose rule Lightning took over: Smith 2015 (1506.01186) with a smoothed loss; the sweep ends when that is
four times its lowest, and the valley is the longest falling subsequence of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

LOWEST, HIGHEST, STEPS = 1e-7, 10.0, 100
_MEMORY = 0.98
_EXPLODED = 4.0
_LAST = 5
"""Values at the end that are not looked at; at the begin it is a tenth."""


def rates(steps: int = STEPS) -> list[float]:
    """Learning rates from the lowest to the highest, one a step."""
    return [LOWEST * (HIGHEST / LOWEST) ** (i / max(1, steps - 1)) for i in range(steps)]


class Smoothed:
    """The exponential mean of losses, without its bias towards zero."""

    def __init__(self) -> None:
        self._sum = 0.0
        self.values: list[float] = []

    def add(self, loss: float) -> None:
        self._sum = _MEMORY * self._sum + (1 - _MEMORY) * loss
        self.values.append(self._sum / (1 - _MEMORY ** (len(self.values) + 1)))

    @property
    def exploded(self) -> bool:
        return not math.isfinite(self.values[-1]) or self.values[-1] > _EXPLODED * min(self.values)


def suggest(swept: Sequence[float], losses: Sequence[float], steps: int = STEPS) -> float | None:
    """The rate to take; None when too little is left of the sweep."""
    seen = [(r, y) for r, y in zip(swept, losses, strict=False) if math.isfinite(y)]
    seen = seen[steps // 10 : -_LAST]
    if len(seen) < 3:
        return None
    return seen[valley([loss for _, loss in seen])][0]


def valley(losses: Sequence[float]) -> int:
    """The index half way down the longest falling subsequence, which is taken to begin as early as it could.

    >>> valley([9.0] * 6 + [9.0 - i for i in range(12)] + [9.0] * 6)
    11
    """
    lengths: list[int] = []
    for i, loss in enumerate(losses):
        lengths.append(1 + max((lengths[j] for j in range(i) if losses[j] > loss), default=0))
    longest = max(lengths)
    third = longest / 3
    return max(0, lengths.index(longest) - longest + int(third) + int(third / 2))
