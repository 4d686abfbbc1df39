"""The events of a run: its only truth."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from autoopt.records.base import Record
from autoopt.records.cluster import Cluster
from autoopt.records.plan import Plan
from autoopt.records.settings import Flags
from autoopt.records.slots import SlotsUsed
from autoopt.records.trials import TrialResult, TrialSpec
from autoopt.records.workload import WorkloadReport


class RunStarted(Record):
    kind: Literal["run_started"] = "run_started"
    at: float
    target: str
    arguments: list[str]
    flags: Flags
    budget_seconds: float
    policy: dict[str, Any]
    optimizers: list[str] | None
    seed: int
    device: str
    workers: int
    cluster: Cluster | None = None
    version: str
    name: str | None = None


class RunResumed(Record):
    kind: Literal["run_resumed"] = "run_resumed"
    at: float
    dropped_bytes: int = 0
    spent_seconds: float


class PriorTaken(Record):
    """The trials of an earlier run that inform this one, kept so that a resume needs its folder no more."""

    kind: Literal["prior_taken"] = "prior_taken"
    at: float
    folder: str = Field(description="where the run is")
    asked: str = Field(
        description="full path that was given; another one if this run's folder took its place"
    )
    seed: int
    arguments: list[str]
    report: WorkloadReport
    results: list[TrialResult] = Field(description="completed or diverged, without curves and digests")


class WorkloadLoaded(Record):
    kind: Literal["workload_loaded"] = "workload_loaded"
    at: float
    report: WorkloadReport


class PlanMade(Record):
    kind: Literal["plan_made"] = "plan_made"
    at: float
    plan: Plan


class TrialStarted(Record):
    kind: Literal["trial_started"] = "trial_started"
    at: float
    spec: TrialSpec
    worker: int


class TrialFinished(Record):
    kind: Literal["trial_finished"] = "trial_finished"
    at: float
    result: TrialResult


class StageEnded(Record):
    kind: Literal["stage_ended"] = "stage_ended"
    at: float
    stage: str
    kept: list[str]
    dropped: dict[str, str]


class Noted(Record):
    kind: Literal["noted"] = "noted"
    at: float
    text: str


class RunEnded(Record):
    kind: Literal["run_ended"] = "run_ended"
    at: float
    how: Literal["finished", "interrupted", "failed"]
    spent_seconds: float
    message: str = ""


Event = Annotated[
    RunStarted
    | RunResumed
    | PriorTaken
    | WorkloadLoaded
    | PlanMade
    | TrialStarted
    | TrialFinished
    | StageEnded
    | Noted
    | SlotsUsed
    | RunEnded,
    Field(discriminator="kind"),
]
