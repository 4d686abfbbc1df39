"""What the synchronous and the asynchronous client have in common: where a daemon is, what is sent, what comes back."""

from __future__ import annotations

import json
import os
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2 as httpx
from pydantic import ValidationError

from autoopt.daemon.bundle import MAX_ARCHIVE, pack
from autoopt.daemon.home import Home
from autoopt.daemon.hub import Update
from autoopt.daemon.jobs import Job, NoSuchJob, NotPossible, Options, State, Submission
from autoopt.errors import AutooptError, DiskFull, NoResult, RunError, UsageError, WorkerError, WorkloadError

URL = "AUTOOPT_URL"
TOKEN = "AUTOOPT_TOKEN"
CERTIFICATES = "SSL_CERT_FILE"

CHOSEN = (
    "PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "LD_LIBRARY_PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "CUDA_HOME",
    "HF_HOME",
    "HF_DATASETS_CACHE",
    "HF_HUB_OFFLINE",
    "TORCH_HOME",
    "XDG_CACHE_HOME",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
)
"""Variables of the submitter that a job runs with. Not all of them: an environment often holds secrets."""

TIMEOUT = httpx.Timeout(120.0, connect=5.0)
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0

_KINDS: dict[str, type[AutooptError]] = {kind.__name__: kind for kind in (NoSuchJob, NotPossible, DiskFull)}
_CODES: dict[int, type[AutooptError]] = {
    2: UsageError,
    3: WorkloadError,
    4: RunError,
    5: NoResult,
    6: WorkerError,
}


class NoDaemon(RunError):
    """Nothing answers where the daemon should be."""


class Place:
    """Where a daemon is, and how a submission has to be made for it."""

    def __init__(
        self,
        socket: str | os.PathLike[str] | None,
        url: str | None,
        token: str | None,
    ) -> None:
        if socket is not None and url is not None:
            raise UsageError("A daemon is reached by a socket or by a URL.", "Give one of them.")
        if socket is None and url is None:
            url = os.environ.get(URL) or None
        self.url = url.rstrip("/") if url else None
        self.socket = None if self.url else Path(socket) if socket is not None else Home().socket
        self.headers: dict[str, str] = {}
        if self.url is not None:
            token = token or os.environ.get(TOKEN)
            if not token:
                raise UsageError(
                    f"The daemon at {self.url} wants its token.",
                    f"Set {TOKEN}; it is in the file `token` of its home.",
                )
            self.headers["authorization"] = f"Bearer {token}"

    def connection(self, verify: str | None) -> dict[str, Any]:
        """Arguments of a client of httpx, plain or asynchronous, beside its transport.

        Args:
            verify: a file of certificates (PEM).
        """
        return {
            "base_url": self.url or "http://autoopt",
            "headers": self.headers,
            "timeout": TIMEOUT,
            # Proxies and password files of the environment are not for a machine's own daemon.
            "trust_env": False,
            "verify": trusted(verify),
        }

    def check(self) -> None:
        """Raises NoDaemon at once where there is no socket: the usual case, and worth no attempt."""
        if self.socket is not None and not self.socket.exists():
            raise self._nobody()

    def lost(self, error: Exception) -> AutooptError:
        """The error for a request that got no answer."""
        if isinstance(error, httpx.TimeoutException):
            return RunError(
                f"The daemon at {self._where} did not answer in time.", "Look at it: autoopt doctor."
            )
        if isinstance(error, httpx.ConnectError):
            if self.socket is None:
                return NoDaemon(f"No daemon answers at {self._where}: {error}.", f"Check {URL}.")
            return self._nobody()
        return RunError(f"The daemon at {self._where} ended while it answered.", "Ask again.")

    def _nobody(self) -> NoDaemon:
        return NoDaemon("No daemon is running.", "Start one with `autoopt serve`.")

    @property
    def _where(self) -> str:
        return self.url or str(self.socket)

    def submission(
        self,
        target: str,
        arguments: Sequence[str],
        options: Options | Mapping[str, Any] | None,
        environment: Sequence[str],
        given: dict[str, Any],
    ) -> Submission:
        local = {}
        if unset := [name for name in environment if name not in os.environ]:
            raise UsageError(f"{', '.join(unset)} is not set here.", "Export it, or leave out --env.")
        if self.socket is not None:
            names = [*CHOSEN, *environment]
            local = {
                "cwd": str(Path.cwd()),
                "interpreter": sys.executable,
                "environment": {name: os.environ[name] for name in names if name in os.environ},
            }
        elif environment:
            raise UsageError("Variables are not sent to a daemon elsewhere.", "Set them in your file.")
        try:
            return Submission.model_validate(
                {
                    "target": target,
                    "arguments": list(arguments),
                    "options": options if options is not None else {},
                    **local,
                    **{name: value for name, value in given.items() if value is not None},
                }
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            raise UsageError(
                f"{name} cannot be used: {first['msg']}.", "See autoopt submit --help."
            ) from None


def bundled(submission: Submission, root: Path | None) -> tuple[Submission, Path]:
    """The submission with its target as a path in the project's folder, and that folder."""
    target = Path(submission.target)
    if root is None:
        root = target.parent if target.suffix == ".py" else Path()
    if target.suffix != ".py":
        return submission, root
    try:
        inside = target.resolve().relative_to(root.resolve())
    except ValueError:
        raise UsageError(
            f"{target} is not in the folder {root}.", "Give the project's folder with --bundle."
        ) from None
    if not target.is_file():
        raise WorkloadError(f"There is no file {target}.", "Check the path.")
    return submission.model_copy(update={"target": inside.as_posix()}), root


def raise_for(response: httpx.Response) -> None:
    """The error that the daemon told, as the same class that it was there."""
    if response.is_success:
        return
    try:
        body = response.json()
        message, hint = str(body["detail"]), str(body.get("hint", ""))
    except (ValueError, KeyError, TypeError):
        raise RunError(f"The daemon answered {response.status_code} {response.reason_phrase}.") from None
    kind = _KINDS.get(str(body.get("kind"))) or _CODES.get(int(body.get("exit_code") or 0))
    if kind is None:
        kind = UsageError if 400 <= response.status_code < 500 else RunError
    raise kind(message, hint)


def failure(job: Job) -> AutooptError | None:
    """Why an ended job has no result, as the error that `autoopt profile` would have raised; `None` when it is done."""
    if job.state is State.DONE:
        return None
    if job.state is State.CANCELLED:
        return NotPossible(f"Job {job.id} was cancelled.", f"`autoopt retry {job.id}` queues it again.")
    if job.state is State.SET_ASIDE:
        return WorkerError(
            f"Job {job.id} was set aside: {job.reason or 'its process died twice'}.",
            f"`autoopt logs {job.id}` shows what it printed, `autoopt retry {job.id}` tries once more.",
        )
    told = job.error or {}
    kind = _CODES.get(int(told.get("exit_code") or 0), RunError)
    return kind(
        str(told.get("message") or job.reason or f"Job {job.id} failed."), str(told.get("hint") or "")
    )


class Course:
    """The pauses of somebody who waits, and how long they put up with a daemon that is away.

    Args:
        timeout: seconds of all the waiting; for ever when `None`.
        patience: seconds that a daemon may be away that has answered before.
    """

    def __init__(self, timeout: float | None, patience: float) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._patience = patience
        self._known = False
        self._away: float | None = None
        self._pause = _FIRST_PAUSE
        self._version: int | None = None

    def seen(self, job: Job, tell: Callable[[Job], None] | None) -> Job:
        self.found()
        if job.version != self._version:
            self._version = job.version
            self._pause = _FIRST_PAUSE
            if tell is not None:
                tell(job)
        return job

    def found(self) -> None:
        self._known = True
        self._away = None

    def lost(self, error: AutooptError) -> None:
        now = time.monotonic()
        self._away = now if self._away is None else self._away
        refused = isinstance(error, NotPossible) or not self._known
        if refused or now - self._away >= self._patience:
            raise error

    def pause(self) -> float:
        pause = self._pause
        self._pause = min(pause * 1.5, _LONGEST_PAUSE)
        if self._deadline is None:
            return pause
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the job has not ended in time")
        return min(pause, left)


class Parser:
    """Server-sent events from lines."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    def line(self, line: str) -> Update | None:
        if line:
            name, _, value = line.partition(":")
            if name:
                self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        told = json.loads(fields["data"])
        return Update.model_validate(
            {"id": int(fields["id"]), "kind": fields["event"], "job_id": told["job_id"], "data": told["data"]}
        )


def form(submission: Submission, bundle: str | os.PathLike[str] | None, stack: ExitStack) -> dict[str, Any]:
    """The arguments of a request that uploads the project; what it needs is closed with the stack."""
    submission, root = bundled(submission, None if bundle is None else Path(bundle))
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="autoopt-"))
    archive = Path(folder) / "project.zip"
    pack(root, archive)
    # Said here: a daemon that refuses an upload closes the connection, and its answer may be lost with it.
    if archive.stat().st_size > MAX_ARCHIVE:
        raise UsageError(
            f"The project in {root} is larger than {MAX_ARCHIVE >> 20} MiB when packed.",
            "Put large data where the daemon's machine has it, and name that place in your file.",
        )
    stream = stack.enter_context(archive.open("rb"))
    return {
        "data": {"submission": submission.model_dump_json()},
        "files": {"bundle": ("project.zip", stream, "application/zip")},
    }


def trusted(verify: str | None) -> Any:
    given = verify or os.environ.get(CERTIFICATES)
    return ssl.create_default_context(cafile=given) if given else True


def path_of(id_: str, rest: str = "") -> str:
    # An id comes from a command line: what is none must not become another path.
    if not (id_.isascii() and id_.isalnum()):
        raise NoSuchJob(f"{id_!r} is no job's id.", "`autoopt jobs` lists them.")
    return f"/v1/jobs/{id_}/{rest}".rstrip("/")


def query(states: Sequence[State | str], limit: int, before: str | None) -> dict[str, Any]:
    query: dict[str, Any] = {"limit": limit}
    if states:
        query["state"] = [str(State(state)) for state in states]
    if before is not None:
        query["before"] = before
    return query


def resume(last: int | None) -> dict[str, Any]:
    # No time limit on reading: a beat comes every quarter of a minute, and silence of minutes is a lost connection.
    timeout = httpx.Timeout(60.0, connect=5.0)
    return {"timeout": timeout, "headers": {} if last is None else {"last-event-id": str(last)}}


def job_of(answer: httpx.Response) -> Job:
    return Job.model_validate(answer.json())


def table_of(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()
    return found
