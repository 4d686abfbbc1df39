"""The nouns that cross a boundary (process, file, page): frozen, validated, free of NaN.

They are pydantic models, so every reader validates what it reads and no converter is written by hand.
Losses are in the user's own unit, times in seconds, sizes in bytes. A number that could not be measured is
`None`, never NaN and never 0.
"""

from __future__ import annotations

from autoopt.records.base import BASELINE, FreeForm, Hyper, Record
from autoopt.records.choice import Band, Choice, Confidence, EffectiveBatch, Expected, Gain, Row
from autoopt.records.cluster import Cluster
from autoopt.records.events import (
    Event,
    Noted,
    PlanMade,
    PriorTaken,
    RunEnded,
    RunResumed,
    RunStarted,
    StageEnded,
    TrialFinished,
    TrialStarted,
    WorkloadLoaded,
)
from autoopt.records.plan import Plan, StagePlan
from autoopt.records.recommendation import Recommendation
from autoopt.records.settings import Flags, Origin, Settings
from autoopt.records.slots import SlotsUsed
from autoopt.records.story import Effort, More, RateCurve, RatePoint, Round, Spent
from autoopt.records.trials import (
    DeviceUse,
    Outcome,
    RankFigures,
    Shortage,
    Speed,
    Timing,
    TrialResult,
    TrialSpec,
)
from autoopt.records.workload import (
    Baseline,
    FrozenWeights,
    GroupRecord,
    StartedFrom,
    StepCost,
    StepCosts,
    WorkloadReport,
)

__all__ = [
    "BASELINE",
    "Band",
    "Baseline",
    "Choice",
    "Cluster",
    "Confidence",
    "DeviceUse",
    "EffectiveBatch",
    "Effort",
    "Event",
    "Expected",
    "Flags",
    "FreeForm",
    "FrozenWeights",
    "Gain",
    "GroupRecord",
    "Hyper",
    "More",
    "Noted",
    "Origin",
    "Outcome",
    "Plan",
    "PlanMade",
    "PriorTaken",
    "RankFigures",
    "RateCurve",
    "RatePoint",
    "Recommendation",
    "Record",
    "Round",
    "Row",
    "RunEnded",
    "RunResumed",
    "RunStarted",
    "Settings",
    "Shortage",
    "SlotsUsed",
    "Speed",
    "Spent",
    "StageEnded",
    "StagePlan",
    "StartedFrom",
    "StepCost",
    "StepCosts",
    "Timing",
    "TrialFinished",
    "TrialResult",
    "TrialSpec",
    "TrialStarted",
    "WorkloadLoaded",
    "WorkloadReport",
]
