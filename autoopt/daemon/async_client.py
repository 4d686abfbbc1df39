"""`client.py` for asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import httpx2 as httpx

from autoopt.daemon.hub import Update
from autoopt.daemon.jobs import ENDED, Job, Options, State
from autoopt.daemon.talk import (
    Course,
    NoDaemon,
    Parser,
    Place,
    form,
    job_of,
    path_of,
    query,
    raise_for,
    resume,
    table_of,
)
from autoopt.errors import RunError


class AsyncClient:
    """As `Client`, for asyncio: the same arguments, and methods to be awaited.

    Example:
        >>> import asyncio
        >>> from autoopt.daemon import AsyncClient
        >>> async def both():
        ...     async with AsyncClient() as client:
        ...         jobs = [await client.submit(name) for name in ("a.py", "b.py")]
        ...         return await asyncio.gather(*(client.wait(job.id) for job in jobs))
        >>> asyncio.run(both())                                     # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        socket: str | os.PathLike[str] | None = None,
        url: str | None = None,
        token: str | None = None,
        verify: str | None = None,
    ) -> None:
        self._place = Place(socket, url, token)
        path = self._place.socket
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(path)) if path else None,
            **self._place.connection(verify),
        )

    async def submit(
        self,
        target: str,
        *,
        arguments: Sequence[str] = (),
        options: Options | Mapping[str, Any] | None = None,
        priority: int = 0,
        cores: int | None = None,
        name: str | None = None,
        key: str | None = None,
        environment: Sequence[str] = (),
        bundle: str | os.PathLike[str] | None = None,
    ) -> Job:
        """As `Client.submit`."""
        given = {"priority": priority, "cores": cores, "name": name, "key": key}
        submission = self._place.submission(target, arguments, options, environment, given)
        if self._place.socket is not None:
            return job_of(await self._ask("POST", "/v1/jobs", json=submission.model_dump(mode="json")))
        with ExitStack() as stack:
            body = await asyncio.to_thread(form, submission, bundle, stack)
            return job_of(await self._ask("POST", "/v1/jobs", **body))

    async def jobs(
        self, states: Sequence[State | str] = (), limit: int = 200, before: str | None = None
    ) -> list[Job]:
        """As `Client.jobs`."""
        answer = await self._ask("GET", "/v1/jobs", params=query(states, limit, before))
        return [Job.model_validate(job) for job in answer.json()["jobs"]]

    async def job(self, id_: str) -> Job:
        """As `Client.job`."""
        return job_of(await self._ask("GET", path_of(id_)))

    async def wait(
        self,
        id_: str,
        timeout: float | None = None,
        *,
        seen: Callable[[Job], None] | None = None,
        patience: float = 30.0,
    ) -> Job:
        """As `Client.wait`."""
        course = Course(timeout, patience)
        while True:
            try:
                job = course.seen(await self.job(id_), seen)
                if job.state in ENDED:
                    return job
            except RunError as error:
                course.lost(error)
            await asyncio.sleep(course.pause())

    async def result(self, id_: str) -> dict[str, Any]:
        """As `Client.result`."""
        return table_of(await self._ask("GET", path_of(id_, "result")))

    async def live(self, id_: str) -> dict[str, Any]:
        """As `Client.live`."""
        return table_of(await self._ask("GET", path_of(id_, "live")))

    async def log(self, id_: str, tail: int = 65536) -> str:
        """As `Client.log`."""
        return (await self._ask("GET", path_of(id_, "log"), params={"tail": tail})).text

    async def file(self, id_: str, name: str) -> bytes:
        """As `Client.file`."""
        return (await self._ask("GET", path_of(id_, f"files/{name}"))).content

    async def cancel(self, id_: str) -> Job:
        """As `Client.cancel`."""
        return job_of(await self._ask("POST", path_of(id_, "cancel")))

    async def retry(self, id_: str) -> Job:
        """As `Client.retry`."""
        return job_of(await self._ask("POST", path_of(id_, "retry")))

    async def forget(self, id_: str) -> dict[str, Any]:
        """As `Client.forget`."""
        return table_of(await self._ask("POST", path_of(id_, "forget")))

    async def prune(
        self, days: float | None = None, jobs: int | None = None, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """As `Client.prune`."""
        what = {"days": days, "jobs": jobs, "dry_run": dry_run}
        return table_of(await self._ask("POST", "/v1/prune", json=what))

    async def disk(self) -> dict[str, Any]:
        """As `Client.disk`."""
        return table_of(await self._ask("GET", "/v1/disk"))

    async def devices(self) -> list[dict[str, Any]]:
        """As `Client.devices`."""
        found: list[dict[str, Any]] = (await self._ask("GET", "/v1/devices")).json()["devices"]
        return found

    async def health(self) -> dict[str, Any]:
        """As `Client.health`."""
        return table_of(await self._ask("GET", "/v1/health"))

    async def events(self, after: int | None = None) -> AsyncIterator[Update]:
        """As `Client.events`."""
        course = Course(None, 30.0)
        last = after
        while True:
            try:
                self._place.check()
                async with self._http.stream("GET", "/v1/events", **resume(last)) as answer:
                    if not answer.is_success:
                        await answer.aread()
                        raise_for(answer)
                    course.found()
                    parser = Parser()
                    async for line in answer.aiter_lines():
                        if (update := parser.line(line)) is not None:
                            last = update.id
                            yield update
            except httpx.HTTPError as error:
                course.lost(self._place.lost(error))
            except NoDaemon as error:
                course.lost(error)
            await asyncio.sleep(course.pause())

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        self._place.check()
        try:
            response = await self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise self._place.lost(error) from error
        raise_for(response)
        return response
