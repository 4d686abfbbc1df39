"""What a tuner is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.choice.live.crew import Crew
from benchmarks.choice.live.nouns import Tuned
from benchmarks.choice.rows import TABLES


@dataclass(frozen=True)
class Setting:
    """A workload, workers that have it, and seconds.

    Args:
        workload: its name.
        target: its file.
        names: the optimizers that may be chosen.
        seconds: from the moment workers are ready.
        tuning: number of the tuning: seed of its trainings and of its luck.
        crew: warm workers; the product and Ray start their own.
        tables: folder of the tables, for who has learned from other workloads.
    """

    workload: str
    target: Path
    names: Sequence[str]
    seconds: float
    tuning: int
    crew: Crew
    tables: Path = TABLES

    @property
    def steps(self) -> int:
        """Of the real run."""
        return self.crew.report.settings.steps

    @property
    def initial(self) -> float:
        """The validation loss before training."""
        return self.crew.report.initial_loss


Tuner = Callable[[Setting], Tuned]
