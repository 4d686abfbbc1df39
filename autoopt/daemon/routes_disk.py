"""`/v1/disk`, `/v1/prune`, `/v1/jobs/ID/forget`: what jobs take of the disk, and how they are forgotten."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from fastapi import FastAPI, Path
from pydantic import BaseModel, Field

JobId = Annotated[str, Path(alias="id", pattern="^[a-z0-9]{12}$")]


class Forgets(Protocol):
    """What these routes need of the service."""

    def forget(self, id: str, /) -> dict[str, Any]:
        """Removes an ended job; NotPossible when it has not ended."""
        ...

    def prune(
        self, days: float | None = None, jobs: int | None = None, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Removes ended jobs that are too old or too many."""
        ...

    def disk(self) -> dict[str, Any]:
        """What jobs take of the disk."""
        ...


class Prune(BaseModel):
    """What to keep, of ended jobs; as the daemon was told where it is not said."""

    days: float | None = Field(None, ge=0, description="those that ended so many days ago or later")
    jobs: int | None = Field(None, ge=0, description="the newest so many")
    dry_run: bool = Field(False, description="only say what would go")


def add(app: FastAPI, service: Forgets) -> None:
    """Add the routes on a service."""

    @app.post("/v1/jobs/{id}/forget")
    def forget(id_: JobId) -> dict[str, Any]:
        """Remove an ended job: its record, its code, its run, its log. {"jobs", "freed_bytes"}."""
        return service.forget(id_)

    @app.post("/v1/prune")
    def prune(what: Prune) -> dict[str, Any]:
        """Remove ended jobs that are not to be kept. {"jobs", "freed_bytes"}."""
        return service.prune(what.days, what.jobs, dry_run=what.dry_run)

    @app.get("/v1/disk")
    def disk() -> dict[str, Any]:
        """{"jobs", "bytes", "free", "keep"}: what jobs take of the disk, and how long ended ones are kept."""
        return service.disk()
