"""One simulated tuning: a workload's surface with the luck of its seeds, and workers that take turns in simulated time."""

from __future__ import annotations

import heapq
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.choice.jobs import FRESH
from benchmarks.choice.surface import Surface


@dataclass(frozen=True)
class Choice:
    """What a tuner hands to its user: an optimizer (or BASELINE) and its learning rate."""

    optimizer: str
    rate: float


@dataclass(frozen=True)
class Ran:
    """A trial that ended: its loss, `None` when it diverged, and its seconds."""

    loss: float | None
    seconds: float
    share: float = 1.0


class World:
    """A workload and a number; tunings with the same number meet the same luck.

    Args:
        surface: of the workload.
        tuning: number of the simulated tuning: its seeds are its own.
    """

    def __init__(self, surface: Surface, tuning: int) -> None:
        self.surface, self.tuning = surface, tuning

    def run(self, optimizer: str, rate: float, steps: int, seed: int, settings: object = None) -> Ran:
        """A trial. `settings` are the other hyperparameters: they change its luck, nothing else is known of them."""
        surface = self.surface
        point = surface.trial(optimizer, rate, steps, fresh=seed >= FRESH[0])
        if point.diverged:
            return Ran(None, surface.seconds(optimizer, steps, min(point.share, 0.999)), point.share)
        luck = surface.spread.shared * self._draw("seed", steps, seed)
        luck += surface.spread.own * self._draw(optimizer, rate, settings, steps, seed)
        v = min(point.v + luck, surface.worst - 1e-6)  # luck alone makes nothing diverge
        return Ran(surface.loss(v), surface.seconds(optimizer, steps))

    def _draw(self, *what: object) -> float:
        """A standard normal number that hangs on its arguments alone."""
        text = repr((self.surface.name, self.tuning, *what))
        return float(np.random.default_rng(zlib.crc32(text.encode())).standard_normal())


def in_turns(
    workers: int, budget: float, ask: Callable[[float], tuple[float, Callable[[], None]] | None]
) -> float:
    """Runs what `ask(now)` proposes, (seconds, what to do at the end), on `workers` in simulated time.

    What would end after the budget is not started, and its worker rests from then on. Returns the end of the last.
    """
    free = [(0.0, i) for i in range(workers)]
    flying: list[tuple[float, int, Callable[[], None]]] = []
    last, number = 0.0, 0
    while free:
        now, worker = heapq.heappop(free)
        while flying and flying[0][0] <= now:
            heapq.heappop(flying)[2]()
        job = ask(now)
        if job is None or now + job[0] > budget * (1 + 1e-9):
            continue
        number += 1
        last = max(last, now + job[0])
        heapq.heappush(flying, (now + job[0], number, job[1]))
        heapq.heappush(free, (now + job[0], worker))
    while flying:
        heapq.heappop(flying)[2]()
    return last


def half_decades(rate: float, low: float, high: float) -> Iterator[float]:
    """A rate, then its neighbours half a decade apart, outwards, inside of a range."""
    yield rate
    for i in range(1, 20):
        for sign in (-1, 1):
            moved = rate * math.pow(10.0, sign * i / 2)
            if low <= moved <= high:
                yield float(f"{moved:.4g}")
