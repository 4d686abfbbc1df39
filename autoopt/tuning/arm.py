"""One optimizer in the race: what it was tried with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from autoopt.optim.spec import Range
from autoopt.options import multiple
from autoopt.records import Hyper

Key = tuple[str, tuple[tuple[str, float], ...]]
"""Identity of a configuration: the optimizer and its sorted hyperparameters."""


def key_of(optimizer: str, hyper: Hyper) -> Key:
    """The identity of a configuration."""
    return optimizer, tuple(sorted(hyper.items()))


def lowest(scores: Iterable[tuple[int, Key, float]]) -> dict[int, float]:
    """The zero of each length: the lowest mean over seeds, so that one lucky seed sets it for nobody.

    Args:
        scores: steps, configuration and y of trials that did not diverge.
    """
    means: dict[tuple[int, Key], list[float]] = {}
    for steps, key, y in scores:
        means.setdefault((steps, key), []).append(y)
    found: dict[int, float] = {}
    for (steps, _), values in means.items():
        mean = sum(values) / len(values)
        found[steps] = min(found.get(steps, mean), mean)
    return found


@dataclass(frozen=True)
class Tried:
    """A trial of an arm: in flight while `y` is None and `failed` is False; `told`: the how-manieth that ended."""

    id: int
    stage: str
    steps: int
    seed: int
    hyper: Hyper
    y: float | None = None
    diverged: bool = False
    failed: bool = False
    told: int = 0

    @cached_property
    def settings(self) -> tuple[tuple[str, float], ...]:
        """The second part of its configuration's key."""
        return tuple(sorted(self.hyper.items()))

    @property
    def pending(self) -> bool:
        return self.y is None and not self.failed

    @property
    def alive(self) -> bool:
        """Whether it ended, and its settings train."""
        return self.y is not None and not self.diverged


@dataclass
class Arm:
    """An optimizer's starting point, ranges and trials.

    Args:
        name: registry name, or BASELINE.
        start: full starting point; empty for the user's own optimizer as it is.
        ranges: searched names; "lr" first. Empty: never tuned.
        ladders: option (`autoopt.options`) -> the values that are tried, the one that it begins with first.
    """

    name: str
    start: Hyper
    ranges: Mapping[str, Range]
    tried: dict[int, Tried] = field(default_factory=dict)
    dropped: str = ""
    ladders: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "lr" in self.ranges:
            # A best value at the edge means that the range was wrong, so rates may lie a decade beyond.
            span = self.ranges["lr"]
            self.ranges = {**self.ranges, "lr": replace(span, low=span.low / 10, high=span.high * 10)}

    @property
    def tunable(self) -> bool:
        return "lr" in self.ranges

    def at(self, steps: int, seed: int) -> list[Tried]:
        """Trials of one length and seed that count: finished or in flight, oldest first."""
        return [t for t in self.tried.values() if t.steps == steps and t.seed == seed and not t.failed]

    def best(self, steps: int, seed: int) -> Tried | None:
        """The finished trial with the lowest score at a length that did not diverge."""
        done = [t for t in self.at(steps, seed) if t.alive]
        return min(done, key=lambda t: (t.y, t.id), default=None)

    def longest(self) -> int | None:
        """The greatest length at which a trial ended without diverging."""
        return max((t.steps for t in self.tried.values() if t.alive), default=None)

    def failures(self) -> int:
        """At the run's own batch: that a larger one fails says nothing of the optimizer."""
        return sum(t.failed and multiple(t.hyper) == 1 for t in self.tried.values())

    def edge(self) -> float | None:
        """log10 of the lowest learning rate that diverged at any length; `None` when none did."""
        rates = [t.hyper["lr"] for t in self.tried.values() if t.diverged and "lr" in t.hyper]
        return math.log10(min(rates)) if rates else None

    def with_rate(self, hyper: Hyper, x: float) -> Hyper:
        """`hyper` at a log10 learning rate, inside the range, in three digits."""
        span = self.ranges["lr"]
        x = min(max(x, math.log10(span.low)), math.log10(span.high))
        return {**hyper, "lr": float(f"{10**x:.3g}")}
