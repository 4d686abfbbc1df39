"""Which cluster a run uses, and what of it each trial takes."""

from __future__ import annotations

from pydantic import Field

from autoopt.records.base import Record


class Cluster(Record):
    """A Ray cluster, as the command line gives it."""

    address: str = Field(description="auto, HOST:PORT or ray://HOST:PORT")
    cpus: float | None = Field(None, gt=0, description="of each trial; one core unless given")
    gpus: float | None = Field(None, ge=0, description="of each trial; one where there are any, unless given")
    ship: str | None = Field(None, description="folder that every machine gets; the model's unless given")
