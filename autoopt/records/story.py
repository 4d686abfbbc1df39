"""How a recommendation came about: where the budget went, round by round, rate by rate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoopt.records.base import Record


class Effort(Record):
    """What the trials of one optimizer took in one stage."""

    optimizer: str
    stage: str = Field(description="race or confirm")
    trials: int
    steps: int = Field(description="trained, over all of them")
    seconds: float = Field(description="of workers")


class Spent(Record):
    """Where the budget went; everything but the first two in seconds summed over workers, of trials."""

    budget_seconds: float
    startup_seconds: float = Field(description="wall-clock until trials could begin")
    workers: int
    train: float = Field(description="inside training steps")
    data: float = Field(description="waiting for batches")
    build: float
    evaluate: float
    compile: float = Field(0.0, description="of the start-up")
    compiling: float = Field(0.0, description="inside trials: what the start-up had not compiled yet")

    @property
    def startup_share(self) -> float:
        """Of the budget."""
        return min(1.0, self.startup_seconds / self.budget_seconds) if self.budget_seconds > 0 else 1.0

    @property
    def available(self) -> float:
        """Seconds of workers after the start-up."""
        return self.workers * max(0.0, self.budget_seconds - self.startup_seconds)


class Round(Record):
    """A round of the race, or the trials that confirm it."""

    name: str
    trials: dict[str, int] = Field(description="optimizer -> its trials in this round")
    chances: dict[str, float] = Field(
        default={}, description="of having the best configuration, as believed after it; empty: not known"
    )
    left: dict[str, str] = Field(default={}, description="who left after it -> why")


class RatePoint(Record):
    """A loss (or metric) that is believed of a learning rate, with its 90 % band."""

    rate: float
    mean: float
    low: float
    high: float


class RateCurve(Record):
    """What is believed of one optimizer's learning rates at the real run's length, its other settings held."""

    optimizer: str
    of: str = Field(description="the loss, or the metric's name")
    steps: int = Field(description="length that the curve's shape is of: the real run's")
    height_steps: int = Field(description="length that its height is of: shorter where nothing tells more")
    points: list[RatePoint] = Field(description="in the order of the rates")


class More(Record):
    """What a larger budget would buy."""

    budget_seconds: float
    confidence: Literal["low", "medium", "high"] = Field(description="that it can reach")
    longest: int = Field(description="steps of its longest trials")
