"""Whether a step fits into a device, and the largest batch that does. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

MOST_SAMPLES = 1 << 20


@dataclass(frozen=True)
class Line:
    """Bytes against samples: what is kept for backward grows in proportion to the batch.

    >>> line = Line.through((8, 900), (16, 1700))
    >>> line.slope, line.at(32), line.most(1000)
    (100.0, 3300, 9)
    """

    samples: int
    bytes: int
    slope: float | None

    @classmethod
    def through(cls, first: tuple[int, int], second: tuple[int, int] | None = None) -> Line:
        """The line through one or two points (samples, bytes)."""
        if second is None or second[0] == first[0]:
            return cls(*first, None)
        return cls(*first, (second[1] - first[1]) / (second[0] - first[0]))

    def at(self, samples: int) -> int:
        """Bytes at a batch size; raises ValueError where only one point is known."""
        if samples == self.samples:
            return self.bytes
        if self.slope is None:
            raise ValueError("one point makes no line")
        return round(self.bytes + self.slope * (samples - self.samples))

    def most(self, room: int) -> int | None:
        """The largest number of samples within `room` bytes: 0 if none, None if it cannot be told."""
        if self.slope is None or self.slope <= 0:
            return None
        found = int(self.samples + (room - self.bytes) // self.slope)
        return max(0, min(found, MOST_SAMPLES))
