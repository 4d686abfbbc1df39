"""Errors as `application/problem+json` (RFC 9457), with autoopt's way out as `hint`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from autoopt.daemon.jobs import NoSuchJob, NotPossible
from autoopt.errors import AutooptError, DiskFull, RunError, UsageError, WorkloadError

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A refusal by the HTTP layer itself.

    Args:
        status: of HTTP.
        detail: one clear sentence.
        hint: the way out.
        headers: more headers of the answer, such as Retry-After.
    """

    def __init__(
        self, status: int, detail: str, hint: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.hint = hint
        self.headers = dict(headers or {})


def respond(
    status: int,
    detail: str,
    hint: str = "",
    *,
    kind: str = "",
    exit_code: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer for a refusal.

    `kind` and `exit_code` are those of the error class, so that a client can raise the same error.
    """
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if hint:
        body["hint"] = hint
    if kind:
        body["kind"] = kind
    if exit_code is not None:
        body["exit_code"] = exit_code
    return Response(json.dumps(body, ensure_ascii=False), status, dict(headers or {}), MEDIA_TYPE)


def of(error: Exception) -> Response:
    """The answer for an error that was raised on purpose, by this layer or below it."""
    if isinstance(error, Problem):
        return respond(error.status, error.detail, error.hint, headers=error.headers)
    if isinstance(error, AutooptError):
        return respond(
            status_of(error),
            error.message,
            error.hint,
            kind=type(error).__name__,
            exit_code=error.exit_code,
        )
    # Whoever asked learns that it failed; what failed is in the daemon's log, and may be private.
    return respond(500, "The daemon failed while it answered this.", "Its log says what happened.")


def status_of(error: AutooptError) -> int:
    """The status of HTTP that says the same as the error's class."""
    match error:
        case NoSuchJob():
            return 404
        case DiskFull():
            return 507
        case NotPossible():
            return 409
        case UsageError() | WorkloadError():
            return 422
        case RunError():
            return 409
    return 500
