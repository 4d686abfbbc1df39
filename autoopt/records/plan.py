"""What a budget buys, shown before anything is spent."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoopt.records.base import Record


class StagePlan(Record):
    name: str
    optimizers: list[str]
    trials: int
    steps: int
    seeds: int
    seconds: float


class Plan(Record):
    """Shown before anything is spent."""

    budget_seconds: float
    begin_seconds: float = Field(0.0, description="since the start of the run, when trials could begin")
    workers: int
    step_seconds: float
    full_run_seconds: float
    affordable_steps: int
    stages: list[StagePlan]
    cut: dict[str, str] = Field(description="optimizer -> why it is not tried")
    confidence: Literal["low", "medium", "high"]
    next_level_seconds: float | None = Field(description="budget that reaches the next confidence")
    notes: list[str] = Field(default=[])
