"""Small helpers on lists with unknowns, and numbers in words."""

from __future__ import annotations

import statistics
from collections.abc import Iterable


def known(values: Iterable[float | None]) -> list[float]:
    """The values that are known."""
    return [v for v in values if v is not None]


def median(values: Iterable[float | None]) -> float | None:
    """The median of the known values; `None` when there are none."""
    found = known(values)
    return float(statistics.median(found)) if found else None


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the known values; `None` when there are none."""
    found = known(values)
    return float(statistics.fmean(found)) if found else None


def largest(values: Iterable[int | None]) -> int | None:
    """The largest known value; `None` when there are none."""
    return max((v for v in values if v is not None), default=None)


def ratio(a: float | None, b: float | None) -> float | None:
    """a / b where both are known."""
    return a / b if a is not None and b else None


def words(value: float | None) -> str:
    """Four digits, or a question mark; no sign before zero."""
    return "?" if value is None else f"{value + 0.0:.4g}"
