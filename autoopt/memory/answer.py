"""What `autoopt memory` answers, as records that cross the process border. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoopt.records import Record

Source = Literal["measured", "fake-tensor trace", "analytic state plus estimate", "unknown"]


class MemoryRequest(Record):
    """What a prediction is asked for."""

    target: str
    arguments: list[str] = Field(default=[])
    optimizers: list[str] = Field(description="registry names, in the order of the answer")
    kind: Literal["cpu", "cuda"] = Field(description="device that the figures are for")
    capacity_bytes: int | None = Field(None, description="that a process can use there; None: not known")
    context_bytes: int = Field(0, description="that the driver and its libraries take of it")
    batch_size: int | None = None
    accumulate: int | None = None
    global_batch: int | None = Field(None, ge=1, description="samples to a step over all processes")
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    measure_on: str | None = Field(
        None, description="device on which real steps are taken too, as the process names it"
    )


class OptimizerMemory(Record):
    """One optimizer. Bytes; None: not known."""

    optimizer: str
    source: Source
    parameter_bytes: int | None = Field(None, description="parameters and buffers, tied ones once")
    gradient_bytes: int | None = None
    state_bytes: int | None = Field(None, description="of the optimizer's tensors, exact")
    activation_bytes: int | None = Field(
        None,
        description="at the fullest moment of forward and backward: batch, what is kept, what is passing",
    )
    temporary_bytes: int | None = Field(None, description="that the optimizer's own step adds for a moment")
    peak_bytes: int | None = Field(None, description="the most that a step holds at one time")
    fits: bool | None = None
    margin_bytes: int | None = Field(
        None, description="capacity less context less peak; negative: it does not fit"
    )
    largest_batch: int | None = Field(None, description="samples; 0: not even one")
    note: str = ""


class MemoryAnswer(Record):
    """All optimizers, and what the figures rest on."""

    target: str
    device: str = Field(description="what the figures are for, in words")
    capacity_bytes: int | None
    context_bytes: int
    precision: str
    accumulate: int
    batch: str = Field(description="the batch that was looked at")
    samples: int | None
    parameters: int
    trainable: int
    optimizers: list[OptimizerMemory]
    notes: list[str] = Field(default=[])
    seconds: float
