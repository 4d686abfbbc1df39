"""The daemon's HTTP: an app whose routes call the service. Who may ask is settled before, in `security.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp

from autoopt import __version__
from autoopt.daemon import problems, routes_daemon, routes_disk, routes_jobs, routes_page
from autoopt.daemon.assets import Assets
from autoopt.daemon.events import MAX_STREAMS, Source, Streams
from autoopt.daemon.home import Home
from autoopt.daemon.login import Keys
from autoopt.daemon.metrics import Metrics
from autoopt.daemon.problems import Problem
from autoopt.daemon.routes_disk import Forgets
from autoopt.daemon.routes_jobs import Jobs
from autoopt.errors import AutooptError


class Service(Jobs, Forgets, Source, Protocol):
    """What the routes need of `autoopt.daemon.service.Service`: thread-safe, and each call durable when it returns."""

    def devices(self) -> list[dict[str, Any]]:
        """The devices, and who has them."""
        ...

    def health(self) -> dict[str, Any]:
        """How the daemon is."""
        ...

    def metrics(self) -> Mapping[str, float]:
        """Its figures."""
        ...


@dataclass(frozen=True)
class Api:
    """The app, and what its server must reach.

    `app` is the FastAPI app, for its routes; `asgi` is what is served: the app with its answers counted.
    """

    app: FastAPI
    asgi: ASGIApp
    streams: Streams


def make_app(
    service: Service,
    home: Home,
    *,
    keys: Keys | None = None,
    page_url: str | None = None,
    max_streams: int = MAX_STREAMS,
    assets: Assets | None = None,
) -> Api:
    """The app on a service.

    Args:
        service: does the work.
        home: where jobs' files and uploads lie.
        keys: of the TCP listener, if there is one; and `page_url`, where that listener's page is.
        max_streams: how many event streams may be open at once.
        assets: the page's files.
    """
    app = FastAPI(
        title="autoopt",
        version=__version__,
        description="Profiles as durable jobs. Errors are application/problem+json with a `hint`.",
        # The interactive pages load their scripts from elsewhere; the description itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
        # Nothing of a request leaves this machine, and no header of one is recorded.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    streams = Streams(service, max_streams)
    metrics = Metrics(service.metrics, lambda: streams.count)
    routes_jobs.add(app, service, home, streams)
    routes_disk.add(app, service)
    routes_daemon.add(app, service, metrics, keys=keys, page_url=page_url)
    routes_page.add(app, assets or Assets())
    _handle_errors(app)
    return Api(app, metrics.counted(app), streams)


def _handle_errors(app: FastAPI) -> None:
    handlers: dict[Any, Callable[[Request, Any], Response]] = {
        Problem: lambda _, error: problems.of(error),
        AutooptError: lambda _, error: problems.of(error),
        RequestValidationError: lambda _, error: _invalid(error),
        HTTPException: lambda _, error: problems.respond(
            error.status_code, str(error.detail), headers=error.headers
        ),
        ClientDisconnect: lambda _, __: problems.respond(400, "The body ended before it was whole."),
        # The server logs it, with its traceback.
        Exception: lambda _, error: problems.of(error),
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _invalid(error: RequestValidationError) -> Response:
    """A path or query that no route takes. What was given is not repeated."""
    first = error.errors()[0]
    place, *names = first["loc"]
    if place == "path":
        return problems.respond(404, "There is no job with such an id.", "`autoopt jobs` lists them.")
    name = ".".join(str(part) for part in names)
    return problems.respond(422, f"{name}: {first['msg']}.", "/openapi.json says what can be given.")
