"""The page."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import Response

from autoopt.daemon.assets import Assets


def add(app: FastAPI, assets: Assets) -> None:
    """Add the routes of the page's files."""

    @app.get("/", include_in_schema=False)
    def index() -> Response:
        """The page."""
        return assets.respond("index.html")

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        """A file of it."""
        return assets.respond(name)
