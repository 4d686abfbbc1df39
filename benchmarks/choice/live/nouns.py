"""What tuners, workers and reports speak of. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from autoopt.records import BASELINE
from benchmarks.choice import jobs

SCORING = (2000, 2001, 2002)
"""Seeds that no tuner sees: the product's fresh ones begin at 1000."""


@dataclass(frozen=True)
class Pick:
    """A configuration: an optimizer (or BASELINE) with all its hyperparameters, sorted by name."""

    optimizer: str
    settings: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, optimizer: str, hyper: Mapping[str, float]) -> Pick:
        """The baseline's other hyperparameters are always torch's.

        >>> Pick.of(BASELINE, {"lr": 0.01}).hyper["weight_decay"]
        0.01
        """
        whole = {**jobs.BASELINE_START, **hyper} if optimizer == BASELINE else hyper
        return cls(optimizer, tuple(sorted(whole.items())))

    @classmethod
    def at(cls, optimizer: str, rate: float) -> Pick:
        """The optimizer's start of the catalog, at this rate."""
        return cls.of(optimizer, jobs.start(optimizer) | {"lr": rate})

    @property
    def hyper(self) -> dict[str, float]:
        return dict(self.settings)


DEFAULT = Pick.of(BASELINE, {})
"""AdamW as torch has it: what is left to whom nothing else trained in time."""


@dataclass(frozen=True)
class Task:
    """One training for a worker.

    Args:
        kind: "plain": as a trial; "scored": that, and the loss before it; "watched": with validation at `points`
            places; "sweep": rates from low to high.
        seed: of the weights and batches.
        points: evaluations of a watched training, the one at the end included.
        number: whatever whoever asks knows it by.
    """

    kind: Literal["plain", "scored", "watched", "sweep"]
    pick: Pick
    steps: int
    seed: int
    points: int = 1
    number: int = 0


STOP = "stop"
"""What is said to a worker to end a training early."""


@dataclass(frozen=True)
class Seen:
    """The validation loss at a point of a watched training, counted from 1; the worker waits for an answer."""

    point: int
    loss: float


@dataclass(frozen=True)
class Ended:
    """A training that ended.

    Args:
        loss: on all validation batches; None when it diverged, was stopped or failed.
        how: "completed", "diverged", "stopped" or what went wrong.
        extra: the validation loss before a scored training; the rate that a sweep found, if any.
    """

    loss: float | None
    how: str
    extra: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Tuned:
    """What a tuner came to.

    Args:
        seconds: on the clock, from the moment its workers were ready.
        startup: seconds before that.
        started, finished: trainings.
        note: what the reader should know.
    """

    pick: Pick
    seconds: float
    startup: float = 0.0
    started: int = 0
    finished: int = 0
    note: str = ""


class Unavailable(Exception):
    """This tuner cannot run here; the text says why."""
