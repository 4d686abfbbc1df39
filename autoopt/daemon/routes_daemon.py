"""The daemon itself: health, devices, metrics, sessions."""

from __future__ import annotations

from typing import Any, Protocol

from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from autoopt.daemon.login import COOKIE_SECONDS, LINK_SECONDS, Keys
from autoopt.daemon.metrics import MEDIA_TYPE, Metrics
from autoopt.daemon.problems import Problem


class Daemon(Protocol):
    """What these routes need of the service."""

    def devices(self) -> list[dict[str, Any]]:
        """The devices, and who has them."""
        ...

    def health(self) -> dict[str, Any]:
        """How the daemon is."""
        ...


def add(app: FastAPI, service: Daemon, metrics: Metrics, *, keys: Keys | None, page_url: str | None) -> None:
    """Add the routes on a service."""

    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        """Whether the daemon answers. Touches neither disk nor threads."""
        return {"status": "ok"}

    @app.get("/v1/health")
    def health() -> dict[str, Any]:
        """How the daemon is."""
        return service.health()

    @app.get("/v1/devices")
    def devices() -> dict[str, list[dict[str, Any]]]:
        """The devices, and who has them."""
        return {"devices": service.devices()}

    @app.get("/metrics", response_class=PlainTextResponse)
    def figures() -> Response:
        """For Prometheus."""
        return Response(metrics.text(), media_type=MEDIA_TYPE)

    @app.get("/v1/session")
    async def session(request: Request) -> dict[str, Any]:
        """What can be done from here."""
        found = request.scope["autoopt"]
        tcp = found["listener"].kind == "tcp"
        return {
            "listener": found["listener"].kind,
            "uploads_only": tcp,
            "max_upload_bytes": found["max_upload"],
        }

    @app.post("/v1/login", status_code=201)
    async def new_link(request: Request) -> dict[str, Any]:
        """A login link of the page, for whoever can open the Unix socket."""
        if request.scope["autoopt"]["listener"].kind != "unix":
            raise Problem(403, "Login links are given out at the Unix socket.", "`autoopt serve --link`")
        if keys is None or page_url is None:
            raise Problem(
                409, "The daemon serves no page.", "Start it with `autoopt serve --http 127.0.0.1:8470`."
            )
        return {"url": f"{page_url}/login/{keys.new_link()}", "seconds": LINK_SECONDS}

    @app.get("/login/{once}", response_class=RedirectResponse)
    async def login(once: str, request: Request) -> Response:
        """Trades a login link, which works once, for a cookie."""
        found = request.scope["autoopt"]
        if found["keys"] is None or not found["keys"].use_link(once):
            text = (
                "This login link was used already, or is too old.\n`autoopt serve --link` prints a new one.\n"
            )
            return PlainTextResponse(text, 403)
        response = RedirectResponse("/", 303)
        response.set_cookie(
            found["listener"].cookie,
            found["keys"].new_cookie(),
            max_age=COOKIE_SECONDS,
            path="/",
            secure=found["listener"].origin_scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return response
