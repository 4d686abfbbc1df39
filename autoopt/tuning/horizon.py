"""From learning rates tried at some lengths to the one expected to be best at the length of the real run.

Over small real workloads the best rate moves by -0.1 decades per factor of 8 in length in the mean, with a spread of 0.4
between workloads: too wide to correct by a constant. So the shift is measured where this workload was
trained at two lengths, and shrunk to that prior by how precisely it was measured. It only ever lowers a rate: a higher one
than was ever tried at length may diverge there (Bjorck 2024, arXiv 2409.19913, finds the optimum falling with length).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

PRIOR_SHIFT = -0.1
PRIOR_SPREAD = 0.4
"""Decades per factor of 8 in length."""
_MEASURED_SPREAD = 0.25
"""How well the minimum of a bracket at one length is known, in decades."""
EDGE_MARGIN = 0.3
"""Decades to keep between a rate and the lowest one that diverged."""


@dataclass(frozen=True)
class Point:
    """One trial: x = log10(learning rate), y = its score, and whether it diverged."""

    steps: int
    x: float
    y: float
    diverged: bool = False


@dataclass(frozen=True)
class Estimate:
    """log10 of the rate expected to be best, with an interval and what was assumed."""

    x: float
    low: float
    high: float
    shift: float
    measured: bool


def minimum(points: Sequence[Point]) -> float:
    """The x of the lowest score at one length: a parabola through the best point and its neighbours.

    Raises:
        ValueError: no points, or points of several lengths.
    """
    if not points or len({p.steps for p in points}) > 1:
        raise ValueError("a minimum is sought among points of one length")
    ordered = sorted(points, key=lambda p: p.x)
    best = min(range(len(ordered)), key=lambda i: ordered[i].y)
    if best in (0, len(ordered) - 1) or ordered[best].diverged:
        return ordered[best].x
    left, mid, right = ordered[best - 1 : best + 2]
    a, b = mid.x - left.x, right.x - mid.x
    rise_left, rise_right = left.y - mid.y, right.y - mid.y
    bottom = a * rise_right + b * rise_left
    if bottom <= 0:
        return mid.x
    moved = mid.x + 0.5 * (b * b * rise_left - a * a * rise_right) / bottom
    return min(max(moved, mid.x - a / 2), mid.x + b / 2)


def edge(points: Sequence[Point]) -> float | None:
    """The lowest x that diverged at any length; `None` when nothing did."""
    return min((p.x for p in points if p.diverged), default=None)


def best_at(points: Sequence[Point], steps: int) -> Estimate | None:
    """The rate expected to be best at `steps`; `None` when every trial diverged.

    At a length that was trained itself nothing is extrapolated.
    """
    alive = [p for p in points if not p.diverged]
    if not alive:
        return None
    lengths = sorted({p.steps for p in alive})
    longest = lengths[-1]
    at = [p for p in points if p.steps == longest]
    x = minimum(at)
    half = _half_gap(at)
    if longest >= steps:
        return Estimate(x, x - half, x + half, 0.0, True)
    eighths = math.log(steps / longest, 8)
    shift, spread, measured = PRIOR_SHIFT, PRIOR_SPREAD, False
    shorter = [n for n in lengths[:-1] if sum(p.steps == n for p in alive) >= 3]
    if shorter and len(at) >= 3:
        reference = shorter[-1]
        apart = math.log(longest / reference, 8)
        seen = (x - minimum([p for p in points if p.steps == reference])) / apart
        doubt = _MEASURED_SPREAD * math.sqrt(2) / apart
        weight = PRIOR_SPREAD**2 / (PRIOR_SPREAD**2 + doubt**2)
        shift = weight * seen + (1 - weight) * PRIOR_SHIFT
        spread, measured = PRIOR_SPREAD * math.sqrt(1 - weight), True
    moved = x + min(0.0, shift) * eighths
    limit = edge(points)
    if limit is not None:
        moved = min(moved, limit - EDGE_MARGIN)
    reach = math.hypot(half, spread * eighths)
    return Estimate(moved, moved - reach, moved + reach, shift, measured)


def _half_gap(points: Sequence[Point]) -> float:
    """Half the distance from the best point to its farther neighbour: what a bracket leaves open."""
    xs = sorted({p.x for p in points})
    if len(xs) < 2:
        return 0.5
    best = min(points, key=lambda p: p.y).x
    i = xs.index(best)
    gaps = [xs[j + 1] - xs[j] for j in (i - 1, i) if 0 <= j < len(xs) - 1]
    return max(gaps) / 2 if len(gaps) == 2 else max(gaps)
