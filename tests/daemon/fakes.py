"""A service in memory, for tests of what stands before it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from autoopt.daemon.hub import Hub, Update
from autoopt.daemon.jobs import Job, NoSuchJob, NotPossible, State, Submission, new_id


class FakeService:
    """Keeps jobs in a dict; each waits until the test moves it."""

    def __init__(self) -> None:
        self.found: dict[str, Job] = {}
        self.bundles: dict[str, dict[str, bytes]] = {}
        self.raises: Exception | None = None
        self.hub = Hub(lambda: {"jobs": [job.model_dump(mode="json") for job in self.jobs()]})
        self.started = self.stopped = 0

    def start(self) -> None:
        self.started += 1

    def stop(self, drain: bool = True) -> None:
        self.stopped += 1
        self.hub.close()

    def submit(self, submission: Submission, bundle: Path | None = None) -> Job:
        if self.raises is not None:
            raise self.raises
        for job in self.found.values():
            if submission.key is not None and job.submission.key == submission.key:
                return job
        id_ = new_id(time.time(), max(self.found, default=None))
        if bundle is not None:
            self.bundles[id_] = {
                path.relative_to(bundle).as_posix(): path.read_bytes()
                for path in bundle.rglob("*")
                if path.is_file()
            }
        job = Job(id=id_, submission=submission, created=time.time(), folder=f"jobs/{id_}")
        return self._keep(job)

    def move(self, id_: str, *states: State, **changes: Any) -> Job:
        """For tests: through these states."""
        job = self.job(id_)
        for state in states:
            job = job.moved(state, **changes)
        return self._keep(job)

    def jobs(
        self, states: Collection[State] | None = None, limit: int = 200, before: str | None = None
    ) -> list[Job]:
        found = sorted(self.found.values(), key=lambda job: job.id, reverse=True)
        return [
            job
            for job in found
            if (not states or job.state in states) and (before is None or job.id < before)
        ][:limit]

    def job(self, id_: str) -> Job:
        if id_ not in self.found:
            raise NoSuchJob(f"There is no job {id_}.", "`autoopt jobs` lists them.")
        return self.found[id_]

    def cancel(self, id_: str) -> Job:
        job = self.job(id_)
        if job.state is State.CANCELLED:
            return job
        if job.state is not State.QUEUED:
            raise NotPossible(f"Job {id_} has ended already.")
        return self.move(id_, State.CANCELLED)

    def retry(self, id_: str) -> Job:
        if self.job(id_).state is not State.CANCELLED:
            raise NotPossible(f"Job {id_} has not failed.")
        return self.move(id_, State.QUEUED)

    def result(self, id_: str) -> dict[str, Any]:
        if self.job(id_).state is not State.DONE:
            raise NotPossible(f"Job {id_} has no recommendation.", "Wait for it.")
        return {"recommendation": {"optimizer": "adamw"}}

    def live(self, id_: str) -> dict[str, Any]:
        return {"job": self.job(id_).model_dump(mode="json"), "progress": {"share": 0.5}, "trials": []}

    def log(self, id_: str, tail: int = 65536) -> str:
        self.job(id_)
        return "hello\n<script>alert(1)</script>\n"[-tail:]

    def devices(self) -> list[dict[str, Any]]:
        return [{"uuid": "cpu", "name": "CPU", "kind": "cpu"}]

    def health(self) -> dict[str, Any]:
        return {"status": "ok", "stalled": False}

    def metrics(self) -> dict[str, float]:
        return {
            "queued": float(len(self.found)),
            "starts_total": 3.0,
            "disk_free_bytes": 7.0,
            "places/H 100": 2.0,
        }

    def updates(self, after: int | None) -> Sequence[Update]:
        return self.hub.after(after)

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        return self.hub.listen(wake)

    def _keep(self, job: Job) -> Job:
        self.found[job.id] = job
        self.hub.publish("job", job.id, job.model_dump(mode="json"))
        return job
