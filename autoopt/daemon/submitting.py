"""A submit, from the body of a request to a job: a JSON document, or a form with an archive of the project."""

from __future__ import annotations

import secrets
import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from autoopt.daemon.bundle import unpack
from autoopt.daemon.home import Home
from autoopt.daemon.jobs import Job, Submission
from autoopt.daemon.problems import Problem
from autoopt.daemon.security import MAX_BODY, Listener
from autoopt.files import raise_unwritable

_SCHEMA = {"$ref": "#/components/schemas/Submission"}

OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _SCHEMA},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["submission", "bundle"],
                    "properties": {
                        "submission": _SCHEMA,
                        "bundle": {
                            "type": "string",
                            "format": "binary",
                            "description": "the project as .zip, .tar or .tar.gz; `target` is a path in it",
                        },
                    },
                }
            },
        },
    }
}


class Submits(Protocol):
    """What takes a submission."""

    def submit(self, sub: Submission, /, bundle: Path | None = None) -> Job:
        """A job, durable when this returns; the folder `bundle` becomes the job's project."""
        ...


async def take(request: Request, service: Submits, home: Home, key: str | None) -> Job:
    """Submit what the request brings.

    Raises:
        Problem: the request is no submission.
        AutooptError: as `unpack` and the service's `submit`.
    """
    listener: Listener = request.scope["autoopt"]["listener"]
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        submission = _read(await request.body(), key)
        _allowed(submission, listener, uploaded=False)
        return await run_in_threadpool(service.submit, submission)
    if kind == "multipart/form-data":
        return await _upload(request, service, home, key, listener)
    raise Problem(
        415,
        "A submission is application/json, or multipart/form-data with a bundle.",
        "/openapi.json describes both.",
    )


async def _upload(request: Request, service: Submits, home: Home, key: str | None, listener: Listener) -> Job:
    try:
        async with request.form(max_files=1, max_fields=1, max_part_size=MAX_BODY) as form:
            described, bundle = form.get("submission"), form.get("bundle")
            if not isinstance(described, str) or not isinstance(bundle, UploadFile):
                raise Problem(
                    422, "The form needs `submission` and the file `bundle`.", "/openapi.json describes it."
                )
            submission = _read(described.encode("utf-8", "replace"), key)
            _allowed(submission, listener, uploaded=True)
            return await run_in_threadpool(_submit, submission, bundle.file, service, home)
    except (HTTPException, ClientDisconnect):
        raise
    except OSError as error:  # the upload is kept in the system's folder for temporary files meanwhile
        raise_unwritable(error, Path("the uploaded archive"), "Nothing was submitted.")


def _submit(submission: Submission, archive: IO[bytes], service: Submits, home: Home) -> Job:
    folder = uploads(home) / secrets.token_hex(8)
    try:
        unpack(archive, folder)
        return service.submit(submission, folder)
    finally:
        # Gone when it has become the job's; else refused, or the key's job had its project already.
        with suppress(OSError):
            shutil.rmtree(folder)


def uploads(home: Home) -> Path:
    """Where uploads are unpacked; on the file system of the jobs, so that one becomes a job's by a rename."""
    folder = home.path / "uploads"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise_unwritable(error, folder, "Nothing was submitted.")
    return folder


def clean(home: Home) -> None:
    """Removes what uploads left behind that were interrupted by the daemon's end. To be called before it serves."""
    with suppress(OSError):
        shutil.rmtree(home.path / "uploads")


def _read(body: bytes, key: str | None) -> Submission:
    try:
        # By pydantic's own reader: it bounds how deep a document may be nested.
        submission = Submission.model_validate_json(body)
        if key is not None:
            if submission.key not in (None, key):
                raise Problem(422, "The Idempotency-Key and `key` differ.", "Give one of them.")
            submission = Submission.model_validate({**submission.model_dump(), "key": key})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise Problem(
            422, f"{where[:200]}: {first['msg']}.", "/openapi.json says what can be given."
        ) from None
    return submission


def _allowed(submission: Submission, listener: Listener, *, uploaded: bool) -> None:
    """Paths of this machine are for its user at the Unix socket; over TCP everything named lies in the upload."""
    if listener.kind == "tcp":
        if not uploaded:
            raise Problem(
                422,
                "Over TCP a project is uploaded.",
                "Send multipart/form-data with `submission` and `bundle`.",
            )
        if submission.interpreter is not None or submission.environment:
            raise Problem(
                422,
                "`interpreter` and `environment` are of the daemon's machine, and not taken over TCP.",
                "Leave them out, or submit over the Unix socket.",
            )
    if not uploaded:
        return
    if submission.cwd is not None:
        raise Problem(422, "`cwd` is not taken with an upload.", "Leave it out.")
    options = submission.options
    named = [submission.target, *options.prior]
    if options.policy is not None:
        named.append(options.policy)
    for name in named:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name or name.startswith("~"):
            raise Problem(
                422,
                "With an upload, paths are relative to it and stay in it.",
                "Give the path as in the archive.",
            )
