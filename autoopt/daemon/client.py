"""What talks to the daemon from Python; `async_client.py` has the same methods to be awaited."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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


class Client:
    """Talks to the daemon of this user, or to one at a URL. A context manager; safe to use from one thread at a time.

    Args:
        socket: path of its Unix socket; that of `AUTOOPT_HOME` unless given.
        url: `http(s)://host:port` of a daemon elsewhere; `AUTOOPT_URL` unless given. Projects are uploaded to it.
        token: of that daemon; `AUTOOPT_TOKEN` unless given.
        verify: a file of certificates (PEM) that the daemon's own is checked with; `SSL_CERT_FILE`, else the system's,
            unless given.

    Raises:
        UsageError: a socket and a URL, or a URL without a token.
        NoDaemon: (all methods) nothing answers there.

    Example:
        >>> from autoopt.daemon import Client
        >>> with Client() as client:                                # doctest: +SKIP
        ...     job = client.submit("model.py", options={"budget": "2m"})
        ...     print(client.wait(job.id).state)
        ...     print(client.result(job.id)["recommendation"]["optimizer"])
        done
        adamw
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
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)) if path else None,
            **self._place.connection(verify),
        )

    def submit(
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
        """Submit a model. The job is on the daemon's disk when this returns.

        Args:
            target: model.py, or package.module:function.
            arguments: handed to that function, or to the file as sys.argv.
            options: as the flags of `autoopt profile`.
            priority: -100 to 100, higher first.
            cores: of a job on the CPU.
            name: shown in lists.
            key: of two submits with the same key one becomes a job, so a submit can be repeated safely.
            environment: names of further variables that the job needs.
            bundle: the project's folder, uploaded to a daemon at a URL; the target's folder unless given.

        Raises:
            UsageError, WorkloadError: what is asked for cannot be done.
            RunError: the daemon could not keep it.
        """
        given = {"priority": priority, "cores": cores, "name": name, "key": key}
        submission = self._place.submission(target, arguments, options, environment, given)
        if self._place.socket is not None:
            return job_of(self._ask("POST", "/v1/jobs", json=submission.model_dump(mode="json")))
        with ExitStack() as stack:
            return job_of(self._ask("POST", "/v1/jobs", **form(submission, bundle, stack)))

    def jobs(
        self, states: Sequence[State | str] = (), limit: int = 200, before: str | None = None
    ) -> list[Job]:
        """Jobs, newest first; `before` an id for the next page."""
        answer = self._ask("GET", "/v1/jobs", params=query(states, limit, before))
        return [Job.model_validate(job) for job in answer.json()["jobs"]]

    def job(self, id_: str) -> Job:
        """One job. Raises NoSuchJob."""
        return job_of(self._ask("GET", path_of(id_)))

    def wait(
        self,
        id_: str,
        timeout: float | None = None,
        *,
        seen: Callable[[Job], None] | None = None,
        patience: float = 30.0,
    ) -> Job:
        """Wait until a job has ended, however.

        Args:
            id_: the job's.
            timeout: seconds; for ever unless given.
            seen: called with the job whenever it has changed.
            patience: seconds that the daemon may be away meanwhile, for a restart.

        Raises:
            TimeoutError: it has not ended in time.
        """
        course = Course(timeout, patience)
        while True:
            try:
                job = course.seen(self.job(id_), seen)
                if job.state in ENDED:
                    return job
            except RunError as error:
                course.lost(error)
            time.sleep(course.pause())

    def result(self, id_: str) -> dict[str, Any]:
        """The recommendation of a job, as plain data; `autoopt.report.recipe` describes it.

        Raises:
            NotPossible: there is none; `wait` says when there may be one.
        """
        return table_of(self._ask("GET", path_of(id_, "result")))

    def live(self, id_: str) -> dict[str, Any]:
        """What a job's run is doing: plan, progress, trials, rounds."""
        return table_of(self._ask("GET", path_of(id_, "live")))

    def log(self, id_: str, tail: int = 65536) -> str:
        """The last `tail` bytes of what a job printed."""
        return self._ask("GET", path_of(id_, "log"), params={"tail": tail}).text

    def file(self, id_: str, name: str) -> bytes:
        """A file of its results: recommendation.yaml, train.py or report.html."""
        return self._ask("GET", path_of(id_, f"files/{name}")).content

    def cancel(self, id_: str) -> Job:
        """End a job; asking twice does no harm. Raises NotPossible when it has ended otherwise."""
        return job_of(self._ask("POST", path_of(id_, "cancel")))

    def retry(self, id_: str) -> Job:
        """Queue a job again that failed, was cancelled or set aside."""
        return job_of(self._ask("POST", path_of(id_, "retry")))

    def forget(self, id_: str) -> dict[str, Any]:
        """Remove an ended job with its code, run and log: {"jobs", "freed_bytes"}.

        Raises NotPossible when it has not ended.
        """
        return table_of(self._ask("POST", path_of(id_, "forget")))

    def prune(
        self, days: float | None = None, jobs: int | None = None, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Remove ended jobs: {"jobs", "freed_bytes"}.

        Args:
            days: those stay that ended so many days ago or later; as the daemon was told unless given.
            jobs: the newest so many stay; likewise.
            dry_run: only say which.
        """
        return table_of(self._ask("POST", "/v1/prune", json={"days": days, "jobs": jobs, "dry_run": dry_run}))

    def disk(self) -> dict[str, Any]:
        """{"jobs", "bytes", "free", "keep"}: what jobs take of the daemon's disk, and how long ended ones are kept."""
        return table_of(self._ask("GET", "/v1/disk"))

    def devices(self) -> list[dict[str, Any]]:
        """The daemon's devices, and who has them."""
        found: list[dict[str, Any]] = self._ask("GET", "/v1/devices").json()["devices"]
        return found

    def health(self) -> dict[str, Any]:
        """How the daemon is."""
        return table_of(self._ask("GET", "/v1/health"))

    def login_link(self) -> str:
        """A link that opens the page once. Over the Unix socket only."""
        return str(self._ask("POST", "/v1/login").json()["url"])

    def events(self, after: int | None = None) -> Iterator[Update]:
        """Updates as they come; goes on where it was when the connection is lost. Raises NoDaemon when it stays away.

        Args:
            after: the id of the last update that is known; without it, the first is a `reset` with all jobs.
        """
        course = Course(None, 30.0)
        last = after
        while True:
            try:
                self._place.check()
                with self._http.stream("GET", "/v1/events", **resume(last)) as answer:
                    if not answer.is_success:
                        answer.read()
                        raise_for(answer)
                    course.found()
                    parser = Parser()
                    for line in answer.iter_lines():
                        if (update := parser.line(line)) is not None:
                            last = update.id
                            yield update
            except httpx.HTTPError as error:
                course.lost(self._place.lost(error))
            except NoDaemon as error:
                course.lost(error)
            time.sleep(course.pause())

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        self._place.check()
        try:
            response = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise self._place.lost(error) from error
        raise_for(response)
        return response
