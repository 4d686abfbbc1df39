"""What a loaded workload tells about itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoopt.records.base import Hyper, Record
from autoopt.records.settings import Settings


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


ENOUGH_ROUNDS = 4
"""Of timed steps from which on their median can be relied on."""
WIDE = 1.5
"""Upper over lower quartile from which on rounds tell more of the machine than of the optimizer."""


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
    fastest: float | None = Field(
        None, description="its fastest step over AdamW's fastest, which a busy machine makes least wrong"
    )
    samples_per_second: float | None = None
    tokens_per_second: float | None = None

    @property
    def share(self) -> float | None:
        """Of the step that is the optimizer's own."""
        return None if self.own_seconds is None else min(1.0, self.own_seconds / self.seconds)

    @property
    def steady(self) -> bool:
        """Whether its rounds are enough, and near enough to each other, for their median to be relied on."""
        return self.rounds >= ENOUGH_ROUNDS and self.relative_high <= WIDE * self.relative_low

    @property
    def reliable(self) -> float:
        """Times AdamW's step that decisions rest on: the median, or where it is not steady the fastest if that is lower."""
        return self.relative if self.steady or self.fastest is None else min(self.relative, self.fastest)


class StepCosts(Record):
    """The timing pass: round after round every optimizer in turn, so that a drift of the machine meets all alike."""

    shared_seconds: float = Field(description="of forward, backward and clipping, median over rounds")
    seconds: float = Field(description="that the pass took, imports excluded")
    imports: dict[str, float] = Field(default={}, description="package -> seconds of its import")
    optimizers: list[StepCost]


class StartedFrom(Record):
    """The half-trained net that trials start from; `settings.steps` is then what remains of the run."""

    source: str = Field(description="the file's name")
    step: int = Field(description="optimizer steps that were taken")
    whole: int = Field(description="steps of the whole run")
    optimizer: bool = Field(description="whether the optimizer's state was saved too")
    digest: str = Field("", description="sha256 of the files' content; empty: it was handed over as objects")


class FrozenWeights(Record):
    """What is not trained, and a digest that shows whether it stays as it is."""

    tensors: int
    parameters: int = Field(description="elements of them; where they are quantized, as they are packed")
    sampled: int = Field(0, description="tensors of which evenly spaced elements count, not all")
    absent: int = Field(0, description="tensors on a disk, read afresh for each pass: not looked at")
    digest: str


class WorkloadReport(Record):
    """What is known once a worker has loaded the user's file and run a step."""

    target: str
    kind: Literal["functions", "lightning", "huggingface", "callables", "own loop"]
    settings: Settings
    baseline: Baseline
    device: str
    parameters: int
    trainable: int
    dtypes: dict[str, int] = Field(description="dtype -> number of parameters")
    layers: dict[str, int] = Field(description="module class -> count")
    groups: list[GroupRecord]
    frozen: FrozenWeights | None = Field(
        None, description="as it was before the first step; None: all is trained"
    )
    batch: str = Field(description="the first batch, in words: 'tuple(float32[64, 1, 8, 8], int64[64])'")
    samples_per_batch: int | None
    batches_per_epoch: int | None
    validation: Literal["own", "held_out", "prequential"]
    validation_batches: int | None
    first_loss: float
    initial_loss: float = Field(description="validation loss before training (prequential: first_loss)")
    restore: Literal["in_place", "rebuilt"]
    reproducible_data: bool
    pairing: Literal["digests", "yours", "none"] = Field(
        "digests",
        description="what says that trials of a seed saw the same batches: their digests, the user, or nothing",
    )
    checkpoint: StartedFrom | None = Field(None, description="None: trials start from initial weights")
    unavailable: dict[str, str] = Field(default={}, description="optimizer -> why it cannot be used here")
    warnings: list[str] = Field(default=[])
    modules: dict[str, str] = Field(default={}, description="project file -> sha256 of its content")
    seconds: dict[str, float] = Field(default={}, description="import, build, data, first_step")
    step_seconds: float = Field(description="median compute of one AdamW step, warm")
    relative_step_seconds: dict[str, float] = Field(
        {},
        description="optimizer -> seconds of a training step over those with AdamW, where it was timed; of the fastest "
        "round where rounds are few or far apart",
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
    threads: int | None = Field(None, description="CPU threads of a trial, of each of its processes")
    processes: int = Field(1, ge=1, description="that train each model together")
    averaged_by: str = Field("", description="what averages their gradients; empty: there is one process")
    versions: dict[str, str] = Field(default={})
