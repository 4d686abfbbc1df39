"""What a step holds at any batch size, from its course at two, and the largest batch that fits. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_SAMPLES = 1 << 20


@dataclass(frozen=True)
class Growth:
    """The most bytes that are held at a time, against samples.

    What is kept for backward grows in proportion to the batch, and gradients do not: at each moment of a step the bytes
    are a straight line of their own, and the peak is the highest of them.

    >>> growth = Growth.of((8, [100, 180, 1000]), (16, [100, 260, 1000]))
    >>> growth.at(8), growth.at(200), growth.most(3000)
    (1000, 2100, 290)
    """

    samples: int
    bytes: NDArray[np.float64]
    """At each moment of the step."""
    slopes: NDArray[np.float64] | None
    """Bytes a sample at each moment; None where one size only is known."""

    @classmethod
    def of(cls, first: tuple[int, Sequence[int]], second: tuple[int, Sequence[int]] | None = None) -> Growth:
        """From the course of bytes at one or two batch sizes.

        Two courses that differ in length went different ways: then only their peaks are compared.
        """
        samples, course = first[0], np.asarray(first[1], dtype=float)
        if second is None or second[0] == samples:
            return cls(samples, course, None)
        other = np.asarray(second[1], dtype=float)
        if len(other) != len(course):
            course, other = course.max(keepdims=True), other.max(keepdims=True)
        return cls(samples, course, (other - course) / (second[0] - samples))

    def at(self, samples: int) -> int:
        """Bytes at a batch size; raises ValueError where only another one is known."""
        if samples == self.samples:
            return round(float(self.bytes.max()))
        if self.slopes is None:
            raise ValueError("one batch size tells nothing of others")
        return round(float((self.bytes + self.slopes * (samples - self.samples)).max()))

    def most(self, room: int) -> int | None:
        """The largest number of samples within `room` bytes: 0 if none, None if it cannot be told."""
        if self.slopes is None or self.slopes.max() <= 0:
            return None
        return _last(lambda n: self.at(n) <= room)


def _last(fits: Callable[[int], bool]) -> int:
    """The largest number up to `MOST_SAMPLES` that fits, by halving; larger ones never fit better."""
    low, high = 0, MOST_SAMPLES
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
