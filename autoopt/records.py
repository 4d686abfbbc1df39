"""The nouns that cross a boundary (process, file, page): frozen, validated, free of NaN.

They are pydantic models, so every reader validates what it reads and no converter is written by hand.
Losses are in the user's own unit, times in seconds, sizes in bytes. A number that could not be measured is
`None`, never NaN and never 0.
"""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

BASELINE = "baseline"
"""Reserved optimizer name: the user's `configure_optimizers`, or AdamW at 1e-3 when there is none."""

Hyper = dict[str, float]
"""Flat hyperparameters, e.g. {"lr": 1e-3, "beta1": 0.9, "weight_decay": 0.01}; see `optim.spec`, and `options` for those
that are not the optimizer's."""


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _plain(value: Any) -> Any:
    """`value` as YAML and JSON can hold it: lists for tuples; NaN and infinity refused.

    Free-form fields are brought to this form when the record is made, so that they survive a round trip.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} cannot be written")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


FreeForm = Annotated[dict[str, Any], AfterValidator(_plain)]


# --- the real run -----------------------------------------------------------------------------------------

Origin = Literal["flag", "file", "default"]


class Settings(Record):
    """How the real run trains; every trial trains the same way, only shorter."""

    steps: int = Field(1000, ge=1, description="optimizer steps of the real run")
    accumulate: int = Field(1, ge=1, description="batches per optimizer step")
    clip: float | None = Field(None, gt=0, description="maximum norm of the gradient")
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    schedule: Literal["cosine", "linear", "constant", "wsd", "yours"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the run that warms up")
    metric: tuple[str, Literal["min", "max"]] | None = None
    origins: dict[str, Origin] = {}


class Flags(Record):
    """What the command line (or `choose`) overrides; `None` means not given."""

    steps: int | None = None
    epochs: float | None = None
    accumulate: int | None = None
    clip: float | None = None
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    schedule: Literal["cosine", "linear", "constant", "wsd"] | None = None
    warmup: float | None = Field(None, description="< 1: share of the run; >= 1: steps of the real run")


# --- what a loaded workload tells about itself ------------------------------------------------------------


class Baseline(Record):
    """The optimizer that the user has today."""

    source: Literal["configure_optimizers", "default"]
    optimizer: str = Field(description="class name, e.g. AdamW")
    registry_name: str | None = Field(description="its name in our registry, if it is there")
    hyper: Hyper
    schedule: str | None = Field(description="name of the user's scheduler class, if any")


class GroupRecord(Record):
    """Parameters that share a multiplier of the base learning rate and of the weight decay."""

    label: str
    tensors: int
    parameters: int
    lr_scale: float = 1.0
    decay_scale: float = 1.0


class StepCost(Record):
    """A training step with one optimizer, timed before the trials; without the wait for data."""

    optimizer: str
    seconds: float = Field(description="of a whole step: forward, backward, optimizer; median over rounds")
    low: float = Field(description="lower quartile")
    high: float = Field(description="upper quartile")
    relative: float = Field(description="median of the ratios to AdamW's step of the same round")
    relative_low: float
    relative_high: float
    own_seconds: float | None = Field(
        None, description="of the optimizer's part; None: forward and backward happen inside it"
    )
    rounds: int
    samples_per_second: float | None = None
    tokens_per_second: float | None = None

    @property
    def share(self) -> float | None:
        """Of the step that is the optimizer's own."""
        return None if self.own_seconds is None else min(1.0, self.own_seconds / self.seconds)


class StepCosts(Record):
    """The timing pass: round after round every optimizer in turn, so that a drift of the machine meets all alike."""

    shared_seconds: float = Field(description="of forward, backward and clipping, median over rounds")
    seconds: float = Field(description="that the pass took, imports excluded")
    imports: dict[str, float] = Field(default={}, description="package -> seconds of its import")
    optimizers: list[StepCost]


class WorkloadReport(Record):
    """What is known once a worker has loaded the user's file and run a step."""

    target: str
    kind: Literal["functions", "lightning", "huggingface", "callables"]
    settings: Settings
    baseline: Baseline
    device: str
    parameters: int
    trainable: int
    dtypes: dict[str, int] = Field(description="dtype -> number of parameters")
    layers: dict[str, int] = Field(description="module class -> count")
    groups: list[GroupRecord]
    batch: str = Field(description="the first batch, in words: 'tuple(float32[64, 1, 8, 8], int64[64])'")
    samples_per_batch: int | None
    batches_per_epoch: int | None
    validation: Literal["own", "held_out", "prequential"]
    validation_batches: int | None
    first_loss: float
    initial_loss: float = Field(description="validation loss before training (prequential: first_loss)")
    restore: Literal["in_place", "rebuilt"]
    reproducible_data: bool
    unavailable: dict[str, str] = Field(default={}, description="optimizer -> why it cannot be used here")
    warnings: list[str] = []
    modules: dict[str, str] = Field(default={}, description="project file -> sha256 of its content")
    seconds: dict[str, float] = Field(default={}, description="import, build, data, first_step")
    step_seconds: float = Field(description="median compute of one AdamW step, warm")
    relative_step_seconds: dict[str, float] = Field(
        {}, description="optimizer -> seconds of a training step over those with AdamW, where it was timed"
    )
    step_costs: StepCosts | None = Field(
        None, description="how the optimizers' steps were timed, and their spread"
    )
    data_seconds: float = Field(description="median wait for the batches of one step")
    tokens_per_batch: int | None = Field(None, description="of the first batch; None: it holds no tokens")
    tokens: str = Field("", description="what was counted as tokens: 'int64[16, 64] into wte'")
    eval_batch_seconds: float
    gradient_norms: list[float] = Field(
        default=[], description="of the calibration's steps, at the initial weights; empty where CLIP is set"
    )
    threads: int | None = Field(None, description="CPU threads of a trial")
    versions: dict[str, str] = {}


# --- trials -----------------------------------------------------------------------------------------------


class TrialSpec(Record):
    """One training from initial weights through its own whole schedule."""

    id: int
    stage: str
    optimizer: str = Field(description="registry name, or BASELINE")
    hyper: Hyper
    steps: int = Field(ge=1)
    seed: int
    eval_batches: int | None = Field(None, description="how many of the validation batches; None: all")
    no_decay: list[str] = Field(["bias", "norm", "embedding"], description="kinds without weight decay")
    hang_seconds: float = Field(120.0, description="without a sign of life for so long: killed")


class Outcome(StrEnum):
    COMPLETED = "completed"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    ERROR = "error"
    CRASHED = "crashed"
    EXITED = "exited"
    HUNG = "hung"
    CANCELLED = "cancelled"


class Shortage(Record):
    """Memory that ran out: what was asked for, what there was, and what fits instead. Sizes in bytes; None: not told."""

    device: str
    asked: int | None = Field(None, description="by the allocation that failed")
    free: int | None = Field(None, description="on the device, when it failed")
    total: int | None = Field(None, description="of the device, or of this process where that is limited")
    batch: int | None = Field(None, description="samples of the batch whose step ran out")
    fits: int | None = Field(
        None, description="samples of the largest batch, among its halves, whose step was seen to fit"
    )
    accumulate: int | None = Field(None, description="batches of that size that make the same optimizer step")


class DeviceUse(Record):
    """What the driver saw on a trial's GPU while it ran; sizes in bytes, each the most of all samples."""

    uuid: str = Field(description="of the GPU, or of the instance of one (MIG)")
    samples: int = Field(description="how often the driver was asked")
    total: int
    used: int = Field(description="by whomever")
    ours: int | None = Field(
        None,
        description="of our processes: by their ids, or, where those do not match, context and allocator",
    )
    context: int | None = Field(None, description="of ours outside the allocator: CUDA's context and code")
    others: int | None = Field(None, description="used less ours: the driver's own and other processes'")


class Timing(Record):
    """Seconds of a part of a step: the median, or the mean where the optimizer's cost is periodic; and quartiles."""

    seconds: float
    low: float
    high: float


class Speed(Record):
    """Where the time of a trial's steps went, warm-up excluded."""

    clock: Literal["host", "device"] = Field(description="the host's clock, or events of the device")
    steps: int = Field(description="that were measured")
    data: Timing = Field(description="waiting for batches; with events: the device stood idle for them")
    forward: Timing | None = Field(None, description="None, as the next two: inside the optimizer's step")
    backward: Timing | None = None
    optimizer: Timing | None = Field(None, description="unscaling, clipping and the optimizer's own step")
    step: Timing = Field(description="all but the wait for data")
    period: int = Field(
        1, description="steps after which the optimizer's cost repeats; above 1, means are told"
    )
    warmup_steps: int = Field(description="at the start, that were not measured")
    warmup_seconds: float = Field(description="of those")
    compile_seconds: float | None = Field(None, description="of torch.compile in this trial; None: not known")
    samples_per_second: float | None = Field(None, description="the wait for data included")

    @property
    def data_share(self) -> float:
        """Of a step that is waiting for data."""
        whole = self.data.seconds + self.step.seconds
        return self.data.seconds / whole if whole > 0 else 0.0


class TrialResult(Record):
    """What became of a trial. A failure is a value: `outcome` and a `message` that helps."""

    spec: TrialSpec
    outcome: Outcome
    message: str = ""
    loss: float | None = Field(None, description="validation loss at the end of the schedule")
    metric: float | None = None
    steps_done: int = 0
    curve: list[tuple[int, float]] = Field(default=[], description="(step, training loss), thinned")
    seconds: dict[str, float] = Field(default={}, description="build, data, train, evaluate, total")
    step_seconds: float | None = Field(None, description="median compute of a step, warm-up excluded")
    samples_per_second: float | None = None
    speed: Speed | None = Field(None, description="None: too few steps to tell")
    state_bytes: int | None = Field(None, description="optimizer state, counted tensor by tensor")
    peak_bytes: int | None = None
    peak_source: Literal["allocator", "tracked", "unknown"] = "unknown"
    reserved_bytes: int | None = Field(
        None, description="most that torch's allocator took from the GPU, its cache included"
    )
    reserved_begin_bytes: int | None = Field(None, description="the same when the trial began")
    process_bytes: int | None = Field(
        None,
        description="most resident memory of the trial's process while it trained: interpreter and data too",
    )
    device_use: DeviceUse | None = Field(None, description="where a driver could be asked")
    disturbed: str = Field(
        "", description="who came onto the device while it ran: its times then say nothing"
    )
    repeated: str = Field("", description="why an earlier attempt was thrown away")
    shortage: Shortage | None = Field(None, description="where memory ran out")
    digests: list[str] = Field(
        default=[], description="rolling digest of the batches at step 1, 2, 4, 8, ..."
    )
    worker: int = 0


# --- the plan ---------------------------------------------------------------------------------------------


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
    notes: list[str] = []


# --- the recommendation -----------------------------------------------------------------------------------


class Choice(Record):
    """An optimizer with everything needed to build it."""

    optimizer: str
    class_: str = Field(alias="class", description="import string, module:name")
    arguments: FreeForm = Field(description="of the constructor; sequences such as betas are lists here")
    hyper: Hyper
    lr_interval: tuple[float, float] | None = None
    groups: list[GroupRecord]
    no_decay: list[str] = Field(description="kinds of parameters without weight decay")
    schedule: str
    warmup_steps: int
    steps: int
    tuned: bool

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class Expected(Record):
    """Loss is at the length it was measured at (`steps`), which the report compares with the real run."""

    loss: float | None
    low: float | None
    high: float | None
    metric: float | None = None
    steps: int
    seeds: int
    step_seconds: float | None
    samples_per_second: float | None
    tokens_per_second: float | None = None
    state_bytes: int | None
    peak_bytes: int | None
    peak_source: str = "unknown"


class Row(Record):
    """One optimizer in the final table; also an alternative with what it would cost."""

    optimizer: str
    status: Literal["recommended", "tie", "worse", "undecided", "dropped", "failed", "not tried", "edge"]
    hyper: Hyper = {}
    expected: Expected | None = None
    trials: int = 0
    seconds: float = 0.0
    relative_step_time: float | None = Field(None, description="step time / the recommended one's")
    relative_memory: float | None = None
    loss_at_equal_time: float | None = Field(
        None, description="loss after as many seconds as the recommended one's whole run; interpolated"
    )
    pareto: bool = Field(
        False, description="nothing is as good in loss, step time and memory, and better in one"
    )
    seconds_to_adamw: float | None = Field(
        None, description="until its training loss is what that of tuned AdamW is at the end of as many steps"
    )
    seconds_to_adamw_reason: str = Field("", description="why it is not known, or how it was told")
    trade: str = Field("", description="what it trades against AdamW, in a sentence")
    speed: Speed | None = Field(None, description="of its trial with the most measured steps")
    reason: str = ""


class Gain(Record):
    """Against the user's own optimizer; losses are means over the same seeds."""

    verdict: Literal["switch", "tune", "keep", "unknown"]
    yours: float | None
    chosen: float | None
    low: float | None = None
    high: float | None = None
    from_tuning: float | None = None
    from_switching: float | None = None
    paired: bool = True
    sentence: str


class Confidence(Record):
    label: Literal["low", "medium", "high"]
    within_5_percent: float | None = Field(
        None, description="probability that no configuration of the search is better by more than 5 %"
    )
    reasons: list[str]


class Band(Record):
    """Where a loss of the real run is expected with 90 % probability: a promise that the run itself can test.

    Of the training loss it is the mean over the steps `begin` + 1 to `step`, counted from 1; of the validation
    loss the one after `step`.
    """

    of: Literal["training loss", "validation loss"]
    share: float = Field(gt=0, le=1, description="of the real run, where it is tested")
    begin: int = Field(ge=0, description="steps before the window that the training loss is averaged over")
    step: int = Field(ge=1, description="the window's last step")
    low: float
    high: float


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


class Recommendation(Record):
    """The content of recommendation.yaml."""

    schema_: Literal["autoopt/1"] = Field("autoopt/1", alias="schema")
    name: str
    recommendation: Choice
    expected: Expected
    against_yours: Gain
    confidence: Confidence
    reason: str
    promise: list[Band] = Field(
        default=[], description="what the real run's losses should be, if all is well"
    )
    optimizers: list[Row] = Field(description="best first; the alternatives and what they cost")
    cut: dict[str, str] = {}
    settings: Settings
    workload: WorkloadReport
    policy: FreeForm
    ledger: dict[str, float] = Field(description="where the seconds went, summed over workers, and 'wall'")
    spent: Spent | None = Field(None, description="the budget: start-up, training steps and the rest")
    more: More | None = Field(None, description="the next larger budget that can reach more confidence")
    effort: list[Effort] = Field(default=[], description="of every optimizer in every stage")
    race: list[Round] = Field(default=[], description="who was in each round, and who left after it")
    rates: list[RateCurve] = Field(default=[], description="the chosen optimizer's first")
    provenance: FreeForm
    notes: list[str] = []
    complete: bool = Field(True, description="False when the run was stopped early")

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    # What a user does with a recommendation. The work is done in `report.handover`, imported only when
    # called: records stand on the ground floor and load no torch.

    @classmethod
    def load(cls, path: str | Path) -> Recommendation:
        """Read a recommendation.yaml, or the one in a run's folder."""
        from autoopt.report import handover

        return handover.load(path)

    def save(self, path: str | Path) -> None:
        """Write it as YAML, atomically."""
        from autoopt.report import handover

        handover.save(self, path)

    def build(self, model: nn.Module) -> tuple[Optimizer, LRScheduler]:
        """The recommended optimizer over `model`'s parameters, and its schedule, stepped once a step."""
        from autoopt.report import handover

        return handover.build(self, model)

    def snippet(self) -> str:
        """The lines to paste into a training script."""
        from autoopt.report import handover

        return handover.snippet(self)


# --- events: a run's only truth -----------------------------------------------------------------------------


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
    version: str


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
    | RunEnded,
    Field(discriminator="kind"),
]
