"""Coordinates of a search range: the scale in which equal steps matter equally."""

from __future__ import annotations

import math

from autoopt.optim.spec import Range


def to_coordinate(value: float, scale: str) -> float:
    """Decades for "log" and "one_minus_log", the value itself for "linear".

    >>> to_coordinate(1e-3, "log"), round(to_coordinate(0.99, "one_minus_log"), 6)
    (-3.0, 2.0)
    """
    if scale == "log":
        return math.log10(value)
    if scale == "one_minus_log":
        return -math.log10(1 - value)
    return value


def from_coordinate(coordinate: float, scale: str) -> float:
    """The inverse of `to_coordinate`."""
    if scale == "log":
        return math.pow(10.0, coordinate)
    if scale == "one_minus_log":
        return 1 - math.pow(10.0, -coordinate)
    return coordinate


def shift(value: float, by: float, span: Range) -> float:
    """`value` moved by `by` coordinates (decades on a logarithmic scale), kept inside the range.

    A value outside the range (a user's own setting) is first brought to its nearest end.
    """
    low, high = to_coordinate(span.low, span.scale), to_coordinate(span.high, span.scale)
    inside = min(max(value, span.low), span.high)
    moved = from_coordinate(min(max(to_coordinate(inside, span.scale) + by, low), high), span.scale)
    return min(max(float(f"{moved:.6g}"), span.low), span.high)
