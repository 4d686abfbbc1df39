"""The difference of two arms that share their seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.table import T_95


@dataclass(frozen=True)
class Difference:
    """Mean of ours - theirs over the seeds, and the half width of its 95 % interval."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:+.3g} ({self.mean - self.half:+.3g} to {self.mean + self.half:+.3g})"

    @property
    def verdict(self) -> str:
        """ "lower", "higher", or "within noise" when the interval holds zero."""
        if abs(self.mean) <= self.half:
            return "within noise"
        return "lower" if self.mean < 0 else "higher"


def difference(ours: Sequence[float | None], theirs: Sequence[float | None]) -> Difference | None:
    """Seed by seed, so that what a seed does to both cancels; None where one diverged.

    >>> str(difference([1.0, 2.1, 2.9], [0.5, 1.5, 2.5]))
    '+0.5 (+0.252 to +0.748)'
    """
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    if len(pairs) < len(ours):
        return None
    values = [a - b for a, b in pairs]
    half = T_95[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return Difference(statistics.fmean(values), half)
