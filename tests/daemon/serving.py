"""The service in a process of its own that a test may kill: a JSON object a line in, one out.

python -m tests.daemon.serving HOME RUNNER LIMITS    (RUNNER: a Python file, or "profile" for the real one)
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autoopt.daemon import commands
from autoopt.daemon.home import Home
from autoopt.daemon.jobs import Job, Submission
from autoopt.daemon.limits import Limits
from autoopt.daemon.service import Service
from autoopt.daemon.snapshot import Snapshot
from autoopt.daemon.store import Store
from autoopt.errors import AutooptError
from autoopt.records import Cluster


def scripted(runner: str) -> Any:
    """A runner that is a script: its arguments are the job's folder, "resume" or "start", and those of the submission."""

    def command(
        job: Job, taken: Snapshot, folder: Path, *, resume: bool, device: str, cluster: Cluster | None = None
    ) -> list[str]:
        how = "resume" if job.attempts else "start"
        return [sys.executable, "-I", runner, str(folder), how, *job.submission.arguments]

    return command


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def answer(service: Service, line: str) -> dict[str, Any]:
    asked = json.loads(line)
    arguments = asked["arguments"]
    if asked["method"] == "submit":
        arguments = [Submission.model_validate(arguments[0])]
    try:
        return {"id": asked["id"], "value": plain(getattr(service, asked["method"])(*arguments))}
    except AutooptError as error:
        return {"id": asked["id"], "error": type(error).__name__, "message": error.message}


def die_at(point: str) -> None:
    """Has this process killed (-9) right before or after a write to the queue: "before insert", "after running", ..."""
    when, _, what = point.partition(" ")

    def wrap(name: str, state_of: Callable[..., str]) -> None:
        method = getattr(Store, name)

        def wrapped(self: Store, *jobs: Job) -> Job:
            hit = state_of(*jobs) == what
            if hit and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            after: Job = method(self, *jobs)
            if hit:
                os.kill(os.getpid(), signal.SIGKILL)
            return after

        setattr(Store, name, wrapped)

    wrap("insert", lambda job: "insert")
    wrap("replace", lambda before, after: str(after.state))


def main() -> None:
    if point := os.environ.get("TEST_DIE_AT"):
        die_at(point)
    home, runner, limits = sys.argv[1:4]
    command = commands.profile if runner == "profile" else scripted(runner)
    cluster = Cluster(address=address) if (address := os.environ.get("TEST_CLUSTER")) else None
    service = Service(
        Home(home), devices="cpu", cluster=cluster, command=command, limits=Limits(**json.loads(limits))
    )
    try:
        service.start()
    except AutooptError as error:
        print(json.dumps({"error": type(error).__name__, "message": error.message}), flush=True)
        sys.exit(error.exit_code)
    print(json.dumps({"ready": True}), flush=True)
    lock = threading.Lock()

    def go(line: str) -> None:
        told = json.dumps(answer(service, line))
        with lock:
            print(told, flush=True)

    threads = []
    for line in sys.stdin:
        threads.append(threading.Thread(target=go, args=(line,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    service.stop()


if __name__ == "__main__":
    main()
