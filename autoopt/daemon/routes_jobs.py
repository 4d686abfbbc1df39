"""`/v1/jobs` and `/v1/events`: what is done with jobs."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from fastapi import FastAPI, Header, Path, Query, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse

from autoopt.daemon import submitting
from autoopt.daemon.events import Streams, last_id
from autoopt.daemon.home import Home
from autoopt.daemon.jobs import Job, State
from autoopt.daemon.problems import Problem
from autoopt.daemon.submitting import Submits

MAX_LOG = 16 << 20

JobId = Annotated[str, Path(alias="id", pattern="^[a-z0-9]{12}$")]


class Jobs(Submits, Protocol):
    """What these routes need of the service."""

    def jobs(
        self, states: set[State] | None = None, limit: int = 200, before: str | None = None
    ) -> list[Job]:
        """Newest first."""
        ...

    def job(self, id: str, /) -> Job:
        """One job; NoSuchJob."""
        ...

    def cancel(self, id: str, /) -> Job:
        """Ends it; NotPossible when it has ended otherwise."""
        ...

    def retry(self, id: str, /) -> Job:
        """Queues it again."""
        ...

    def result(self, id: str, /) -> dict[str, Any]:
        """Its recommendation; NotPossible when there is none."""
        ...

    def live(self, id: str, /) -> dict[str, Any]:
        """What its run is doing."""
        ...

    def log(self, id: str, /, tail: int = 65536) -> str:
        """The end of what it printed."""
        ...


class JobList(BaseModel):
    """Jobs, newest first."""

    jobs: list[Job]


def add(app: FastAPI, service: Jobs, home: Home, streams: Streams) -> None:
    """Add the routes on a service."""

    @app.get("/v1/jobs")
    def list_jobs(
        state: Annotated[list[State] | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
        before: Annotated[str | None, Query(pattern="^[a-z0-9]{12}$")] = None,
    ) -> JobList:
        """Jobs, newest first; `before` an id for the next page."""
        return JobList(jobs=service.jobs(set(state) if state else None, limit, before))

    @app.post("/v1/jobs", status_code=201, response_model=Job, openapi_extra=submitting.OPENAPI)
    async def submit(
        request: Request, response: Response, idempotency_key: Annotated[str | None, Header()] = None
    ) -> Job:
        """Submit. The job is on the disk when this answers; the same key again answers the same job."""
        job = await submitting.take(request, service, home, idempotency_key)
        response.headers["location"] = f"/v1/jobs/{job.id}"
        return job

    @app.get("/v1/jobs/{id}")
    def get_job(id_: JobId, response: Response) -> Job:
        """One job."""
        job = service.job(id_)
        response.headers["etag"] = f'"{job.version}"'
        return job

    @app.get("/v1/jobs/{id}/live")
    def live(id_: JobId) -> dict[str, Any]:
        """What its run is doing: plan, progress, trials, rounds."""
        return service.live(id_)

    @app.get("/v1/jobs/{id}/log", response_class=PlainTextResponse)
    def log(id_: JobId, tail: Annotated[int, Query(ge=1, le=MAX_LOG)] = 65536) -> PlainTextResponse:
        """The end of what it printed; `tail` in bytes."""
        return PlainTextResponse(service.log(id_, tail).encode("utf-8", "replace"))

    @app.get("/v1/jobs/{id}/result")
    def result(id_: JobId) -> dict[str, Any]:
        """The recommendation."""
        return service.result(id_)

    @app.get("/v1/jobs/{id}/files/{name}", response_class=FileResponse)
    def file(id_: JobId, name: Literal["recommendation.yaml", "train.py", "report.html"]) -> FileResponse:
        """A result as a file, to be saved: the report's own scripts must not run on this page's origin."""
        path = home.job(service.job(id_).id) / "out" / name
        if not path.is_file():
            raise Problem(404, f"The job has no {name} yet.", "It is written when the job is done.")
        return FileResponse(
            path,
            media_type="application/octet-stream",
            filename=name,
            headers={"content-security-policy": "default-src 'none'; sandbox"},
        )

    @app.post("/v1/jobs/{id}/cancel")
    def cancel(id_: JobId) -> Job:
        """End the job; asking twice does no harm."""
        return service.cancel(id_)

    @app.post("/v1/jobs/{id}/retry")
    def retry(id_: JobId) -> Job:
        """Queue a job again that failed, was cancelled or set aside; it goes on where it was."""
        return service.retry(id_)

    @app.get("/v1/events", response_class=StreamingResponse)
    async def events(
        after: Annotated[str | None, Query()] = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> StreamingResponse:
        """Server-sent events `job`, `live`, `reset`; `Last-Event-ID` or `after` goes on where a client was."""
        # Looked at before the stream begins: afterwards there is no status left to answer with.
        return streams.respond(await run_in_threadpool(last_id, last_event_id, after))
