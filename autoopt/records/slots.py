"""How busy the slots of a run were, and what the others waited for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoopt.records.base import Record


class SlotsUsed(Record):
    """Where the time of all slots went while trials could run; seconds summed over slots, unless they are wall-clock."""

    kind: Literal["slots_used"] = "slots_used"
    at: float = Field(0.0, description="Unix seconds when a sitting's trials ended")
    slots: int = Field(description="at most at once")
    wall: float = Field(description="wall-clock from the first question to the end of the last trial")
    busy: float = Field(description="with a trial, from its start until its end was told")
    planner: float = Field(description="without one, while the planner thought about what to start there")
    nothing: float = Field(
        description="without one, since nothing was worth starting, or would have ended in time"
    )
    starting: float = Field(description="of workers that were still starting, or lost")
    questions: int = Field(description="answered with a trial")
    question_seconds: float = Field(
        description="wall-clock that such a question took, its trial's result told, mean"
    )
    trial_seconds: float = Field(description="wall-clock that a trial took, mean")

    @property
    def total(self) -> float:
        """Seconds of all slots together."""
        return self.busy + self.planner + self.nothing + self.starting

    @property
    def most(self) -> float | None:
        """Slots that the planner can keep busy with such trials; `None`: no question was timed."""
        return self.trial_seconds / self.question_seconds if self.question_seconds > 0 else None

    def __add__(self, other: SlotsUsed) -> SlotsUsed:
        """Both sittings of a run."""
        questions = self.questions + other.questions

        def mean(mine: float, theirs: float) -> float:
            return (mine * self.questions + theirs * other.questions) / questions if questions else 0.0

        return SlotsUsed(
            at=max(self.at, other.at),
            slots=max(self.slots, other.slots),
            wall=self.wall + other.wall,
            busy=self.busy + other.busy,
            planner=self.planner + other.planner,
            nothing=self.nothing + other.nothing,
            starting=self.starting + other.starting,
            questions=questions,
            question_seconds=mean(self.question_seconds, other.question_seconds),
            trial_seconds=mean(self.trial_seconds, other.trial_seconds),
        )
