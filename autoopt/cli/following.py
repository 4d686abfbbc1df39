"""Follows a job of the daemon on the terminal, from the queue to its end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoopt.report.words import duration, number

if TYPE_CHECKING:
    from autoopt.daemon.client import Client
    from autoopt.daemon.jobs import Job

_INTERRUPTED = 130
_PAUSE = 1.0
_PATIENCE = 60.0
"""Seconds that a daemon may be away meanwhile: it may be restarted."""


def run_there(
    target: str,
    arguments: list[str],
    options: dict[str, Any],
    *,
    name: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Submit, follow, and end as `autoopt profile` would: `profile --daemon`."""
    from autoopt.cli.daemon_options import connect

    with connect(None) as client:
        job = client.submit(target, arguments=arguments, options=options, name=name)
        return follow(client, job.id, as_json=as_json, quiet=quiet)


def follow(client: Client, id_: str, *, as_json: bool, quiet: bool = False) -> int:
    """Show a job until it has ended, then its result; returns the exit code.

    Raises:
        AutooptError: the job failed; the same error as `autoopt profile` raises.
    """
    try:
        with _shown(quiet=quiet or as_json) as show:
            job = _wait(client, id_, show)
    except KeyboardInterrupt:
        print(
            f"Job {id_} goes on. Look again: autoopt watch {id_}; end it: autoopt cancel {id_}.",
            file=sys.stderr,
        )
        raise
    return finish(client, job, as_json=as_json)


def finish(client: Client, job: Job, *, as_json: bool) -> int:
    """The result of a job that has ended, or the error that it ended with."""
    from autoopt.daemon.jobs import State
    from autoopt.daemon.talk import failure

    error = failure(job)
    if job.state is State.CANCELLED:
        if as_json:
            print(json.dumps({"id": job.id, "state": "cancelled", "reason": job.reason}))
        else:
            print(f"Job {job.id} was cancelled. `autoopt retry {job.id}` queues it again.", file=sys.stderr)
        return _INTERRUPTED
    if error is not None:
        raise error
    return show_result(client, job, as_json=as_json)


def show_result(client: Client, job: Job, *, as_json: bool) -> int:
    """Print the recommendation; as JSON with the job's id and the folder of its files."""
    from autoopt.records import Recommendation
    from autoopt.report import console

    found = client.result(job.id)
    folder = Path(client.health()["home"]) / job.folder / "out"
    if as_json:
        print(json.dumps({**found, "id": job.id, "folder": str(folder)}, ensure_ascii=False, allow_nan=False))
    else:
        console.show(Recommendation.model_validate(found), folder if folder.is_dir() else None)
    return 0 if job.complete is not False else _INTERRUPTED


def _wait(client: Client, id_: str, show: Callable[[dict[str, Any], str], None]) -> Job:
    """Asks again and again, also while the daemon is restarted."""
    from autoopt.daemon.jobs import ENDED, Job
    from autoopt.daemon.talk import Course
    from autoopt.errors import RunError

    live: dict[str, Any] = {}
    course = Course(None, _PATIENCE)
    while True:
        try:
            live = client.live(id_)
            course.found()
            show(live, "")
            job = Job.model_validate(live["job"])
            if job.state in ENDED:
                return job
        except RunError as error:
            course.lost(error)
            show(live, "the daemon does not answer; trying again")
        time.sleep(_PAUSE)


@contextmanager
def _shown(*, quiet: bool) -> Iterator[Callable[[dict[str, Any], str], None]]:
    """Live on a terminal, lines elsewhere, nothing when quiet; on stderr."""
    if quiet:
        yield lambda _live, _trouble: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.live import Live

        with Live(
            console=Console(stderr=True, highlight=False), transient=True, refresh_per_second=4
        ) as view:
            yield lambda live, trouble: view.update(_picture(live, trouble))
    else:
        yield _Lines().show


class _Lines:
    """What has changed, a line each."""

    def __init__(self) -> None:
        self._last = ""
        self._notes = 0

    def show(self, live: dict[str, Any], trouble: str) -> None:
        """Print what is new."""
        line = trouble or _status(live)
        if line != self._last:
            self._last = line
            print(line, file=sys.stderr, flush=True)
        for note in live.get("notes", [])[self._notes :]:
            print(note, file=sys.stderr, flush=True)
        self._notes = len(live.get("notes", []))


def _status(live: dict[str, Any]) -> str:
    """A job in a line: its state, why it waits, which phase, how the trials stand."""
    job = live["job"]
    words = [f"job {job['id']}", job["state"].replace("_", " ")]
    if job["state"] in ("running", "cancelling"):
        trials = live.get("trials", [])
        done = sum(trial["state"] != "running" for trial in trials)
        if phase := live["progress"].get("phase"):
            words.append(phase)
        words.append(f"{done} trials done")
        if (best := _best(trials)) is not None:
            words.append(f"best {number(best['loss'])} {best['optimizer']} at {best['steps']} steps")
    elif job["reason"]:
        words.append(job["reason"])
    return ", ".join(words)


def _picture(live: dict[str, Any], trouble: str) -> Any:
    """A few lines that stay in place."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    progress = live["progress"]
    parts: list[Any] = [Text(_status(live), overflow="ellipsis", no_wrap=True)]
    if live["job"]["state"] in ("running", "cancelling"):
        parts.append(ProgressBar(total=1.0, completed=progress.get("share") or 0.0, width=60))
        if (left := progress.get("seconds_left")) is not None:
            parts.append(Text(f"{duration(round(left))} left of the budget", style="dim"))
        running = [trial for trial in live.get("trials", []) if trial["state"] == "running"]
        for trial in running[:6]:
            parts.append(
                Text(f"  {trial['optimizer']} at {number(trial['lr'])}, {trial['steps']} steps", style="dim")
            )
    if trouble:
        parts.append(Text(trouble, style="yellow"))
    return Group(*parts)


def _best(trials: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The best at the longest length so far; different lengths are not compared."""
    ended = [trial for trial in trials if trial["state"] == "completed" and trial["loss"] is not None]
    return min(ended, key=lambda trial: (-trial["steps"], trial["loss"]), default=None)
