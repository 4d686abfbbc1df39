"""`autoopt jobs`, `watch`, `logs`, `result`, `cancel`, `retry`: what is asked of the daemon about its jobs."""

from __future__ import annotations

import json
import sys
import time
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoopt.cli.daemon_options import JobId, Socket, connect
from autoopt.cli.run_options import AsJson

if TYPE_CHECKING:
    from autoopt.daemon.jobs import Job

_PAUSE = 1.0
_TAIL = 1 << 20


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (jobs, watch, logs, result, cancel, retry):
        app.command(command.__name__)(command)


def jobs(
    state: Annotated[
        list[str] | None,
        typer.Option(help="Only those that are: queued, running, done, failed ... Repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest.")] = 50,
    socket: Socket = None,
    as_json: AsJson = False,
) -> int:
    """List the daemon's jobs, the newest first."""
    from autoopt.cli import tables
    from autoopt.errors import UsageError

    with connect(socket) as client:
        from autoopt.daemon.jobs import State

        for given in state or []:
            if given not in list(State):
                raise UsageError(f"--state {given} is no state.", f"There are {', '.join(State)}.")
        found = client.jobs(state or [], limit)
        cluster = [device for device in client.devices() if device["kind"] == "cluster"]
    if as_json:
        told: dict[str, Any] = {"jobs": [job.model_dump(mode="json") for job in found]}
        print(json.dumps({**told, "cluster": cluster} if cluster else told, ensure_ascii=False))
    else:
        tables.show(("id", "state", "model", "on", "age", "about"), [_row(job) for job in found])
        for kind in cluster:
            print(_places(kind))
    return 0


def watch(id_: JobId, socket: Socket = None, as_json: AsJson = False) -> int:
    """Follow a job until it has ended, and show its result. Ctrl-C leaves it running."""
    from autoopt.cli.following import follow

    with connect(socket) as client:
        return follow(client, id_, as_json=as_json)


def logs(
    id_: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    tail: Annotated[int, typer.Option(min=1, max=16 << 20, help="The last so many bytes.")] = _TAIL,
    socket: Socket = None,
    as_json: AsJson = False,
) -> int:
    """Show what a job printed."""
    with connect(socket) as client:
        text = client.log(id_, tail)
        if as_json:
            print(json.dumps({"id": id_, "log": text}, ensure_ascii=False))
            return 0
        _write(text)
        if follow:
            from autoopt.daemon.jobs import ENDED

            ended = False
            while not ended:
                time.sleep(_PAUSE)
                ended = client.job(id_).state in ENDED
                before, text = text, client.log(id_, tail)
                _write(_added(before, text))
    return 0


def result(id_: JobId, socket: Socket = None, as_json: AsJson = False) -> int:
    """Show a job's recommendation."""
    from autoopt.cli.following import show_result

    with connect(socket) as client:
        return show_result(client, client.job(id_), as_json=as_json)


def cancel(id_: JobId, socket: Socket = None, as_json: AsJson = False) -> int:
    """End a job. Asking twice does no harm."""
    with connect(socket) as client:
        return _told(client.cancel(id_), as_json)


def retry(id_: JobId, socket: Socket = None, as_json: AsJson = False) -> int:
    """Queue a job again that failed, was cancelled or set aside."""
    with connect(socket) as client:
        return _told(client.retry(id_), as_json)


def _told(job: Job, as_json: bool) -> int:
    if as_json:
        print(json.dumps(job.model_dump(mode="json"), ensure_ascii=False))
    else:
        print(f"Job {job.id} is {job.state.replace('_', ' ')}.")
    return 0


def _row(job: Job) -> tuple[str, ...]:
    from autoopt.report.words import duration

    # A name may hold anything; what would move the cursor or break the line is shown as it is written.
    name = job.submission.name or _short(job.submission.target)
    about = job.reason or "; ".join(job.changed[:1])
    age = duration(max(0, round(time.time() - job.created)))
    if job.devices and job.devices[0].startswith("cluster:"):
        devices = f"cluster ({job.places} place{'s' * (job.places != 1)})"
    else:
        devices = ", ".join(device[:12] for device in job.devices)
    return (job.id, job.state.replace("_", " "), _plain(name), devices, age, _plain(about))


def _places(kind: dict[str, Any]) -> str:
    """A kind of device of the cluster in a line; or why there is no cluster."""
    if kind["trouble"]:
        return _plain(f"{kind['name']}: not there: {kind['trouble']}")
    count = len(kind["machines"])
    words = [
        f"{kind['name']}: {count} machine{'s' * (count != 1)}, {kind['used']} of {kind['total']} places used",
        f"{kind['free']} free",
        *kind["others"],
    ]
    return _plain(", ".join(words))


def _short(target: str) -> str:
    """A path's last two parts: every other is called model.py."""
    parts = PurePath(target).parts
    return target if len(parts) <= 2 else str(PurePath(*parts[-2:]))


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _added(before: str, after: str) -> str:
    """What was added to a log of which only the end is known."""
    if after.startswith(before):
        return after[len(before) :]
    # It has grown beyond what is kept: where the old end stands in it.
    known = before[-4096:]
    at = after.rfind(known)
    return after[at + len(known) :] if at >= 0 else after


def _write(text: str) -> None:
    """To a terminal without what would move its cursor or set its title: a log is somebody's output, not a command."""
    if sys.stdout.isatty():
        text = "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
    sys.stdout.write(text)
    sys.stdout.flush()
