"""How the real run trains, and what the command line says of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoopt.records.base import Record

Origin = Literal["flag", "file", "default"]


class Settings(Record):
    """How the real run trains; every trial trains the same way, only shorter."""

    steps: int = Field(1000, ge=1, description="optimizer steps of the real run")
    accumulate: int = Field(1, ge=1, description="batches per optimizer step, of all processes together")
    global_batch: int | None = Field(None, ge=1, description="samples per optimizer step, where it was given")
    ranks: int = Field(1, ge=1, description="processes that share out the batches of a step")
    clip: float | None = Field(None, gt=0, description="maximum norm of the gradient")
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    schedule: Literal["cosine", "linear", "constant", "wsd", "yours"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the run that warms up")
    metric: tuple[str, Literal["min", "max"]] | None = None
    metric_best: float | None = Field(None, description="the best value that it can have, where it was told")
    origins: dict[str, Origin] = Field(default={})


class Flags(Record):
    """What the command line (or `choose`) overrides; `None` means not given."""

    steps: int | None = None
    epochs: float | None = None
    accumulate: int | None = None
    global_batch: int | None = Field(None, ge=1, description="samples per optimizer step over all processes")
    clip: float | None = None
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    schedule: Literal["cosine", "linear", "constant", "wsd"] | None = None
    warmup: float | None = Field(None, description="< 1: share of the run; >= 1: steps of the real run")
    nproc: int | None = Field(None, ge=1, description="processes that train each model together")
    checkpoint: str | None = Field(None, description="file of a half-trained net: what remains is tuned")
