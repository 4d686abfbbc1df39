"""One training: what it was asked for, what became of it, and what it took."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from pydantic import Field

from autoopt.records.base import Hyper, Record


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


class RankFigures(Record):
    """What each process of a trial took, by its rank, where several train one model (`--nproc`)."""

    step_seconds: list[float | None] = Field(description="median compute of a step")
    peak_bytes: list[int | None]
    state_bytes: list[int | None] = Field(description="optimizer state: a shard of it, where it is sharded")

    @property
    def slowest(self) -> int | None:
        """Rank of the process whose steps take longest; None where none was timed."""
        return _largest(self.step_seconds)

    @property
    def largest(self) -> int | None:
        """Rank of the process with the highest peak; None where none is known."""
        return _largest(self.peak_bytes)

    @property
    def spread(self) -> float | None:
        """Step time of the slowest over that of the fastest."""
        known = [value for value in self.step_seconds if value]
        return max(known) / min(known) if known else None


def _largest(values: Sequence[float | None]) -> int | None:
    known = [(value, -rank) for rank, value in enumerate(values) if value is not None]
    return -max(known)[1] if known else None


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
    lost: str = Field("", description="why its machine was gone, where it was on a cluster")
    shortage: Shortage | None = Field(None, description="where memory ran out")
    digests: list[str] = Field(
        default=[], description="rolling digest of the batches at step 1, 2, 4, 8, ..."
    )
    frozen: str = Field("", description="digest of the weights that are not trained, after the trial")
    ranks: RankFigures | None = Field(
        None,
        description="where several processes trained the model; the figures above are then of the slowest and the largest",
    )
    worker: int = 0
