"""Submits, cancels, retries, kills and restarts in any order, against a model of what must come of each job."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from tests.daemon.daemons import ENDED, NotPossible, Place, until


@dataclass
class Expected:
    """A job as the model has it."""

    kind: str
    go: Path
    pid: Path
    cancelled: bool = False
    deaths: int = 0
    retried: bool = False

    def may_end_as(self) -> set[str]:
        if self.deaths >= 2:
            return {"set_aside"}
        natural = "failed" if self.kind == "fails" else "done"
        # A cancel that was acknowledged holds, unless the job had finished when it came.
        return (
            {"cancelled", natural} - ({"failed"} if self.cancelled else set())
            if self.cancelled
            else {natural}
        )


class Queue(RuleBasedStateMachine):
    jobs = Bundle("jobs")

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="autoopt-queue-"))
        self.place = Place(self.folder)
        self.daemon = self.place.serve()
        self.model: dict[str, Expected] = {}
        self.seen: dict[str, str] = {}

    @rule(target=jobs, kind=strategies.sampled_from(["waits", "quick", "fails"]), twice=strategies.booleans())
    def submit(self, kind: str, twice: bool) -> str:
        number = len(self.model)
        go, pid = self.folder / f"go-{number}", self.folder / f"pid-{number}"
        words = [f"touch={pid}"]
        words += {"waits": [f"wait={go}"], "quick": [], "fails": ["code=sys.exit(3)"]}[kind]
        id_ = self.daemon.submit(*words, key=f"key {number}")
        self.model[id_] = Expected(kind, go, pid)
        if twice:
            assert self.daemon.submit(*words, key=f"key {number}") == id_
        return id_

    @rule(id_=jobs)
    def cancel(self, id_: str) -> None:
        expected = self.model[id_]
        try:
            told = self.daemon.ask("cancel", id_)
        except NotPossible:
            told = self.daemon.job(id_)
            assert told["state"] in ENDED
        else:
            assert told["state"] in ("cancelled", "cancelling")
            expected.cancelled = True

    @rule(id_=jobs)
    def let_go(self, id_: str) -> None:
        self.model[id_].go.touch()

    @rule(id_=jobs)
    def kill_runner(self, id_: str) -> None:
        expected = self.model[id_]
        if expected.kind != "waits" or expected.go.exists() or expected.cancelled:
            return
        job = self.daemon.job(id_)
        if job["state"] != "running":
            return
        pid = until(lambda: self._pid(expected))
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.daemon.job(id_)["deaths"] == expected.deaths + 1)
        expected.deaths += 1
        expected.pid.unlink(missing_ok=True) if expected.deaths > 1 else None

    def _pid(self, expected: Expected) -> int:
        """The runner's process, once it lives."""
        try:
            pid = int(expected.pid.read_text())
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError):
            return 0
        return 0 if state == "Z" else pid

    @rule(id_=jobs)
    def retry(self, id_: str) -> None:
        expected = self.model[id_]
        try:
            self.daemon.ask("retry", id_)
        except NotPossible:
            # A job that fails may do so between the two questions.
            assert expected.kind == "fails" or self.daemon.state(id_) not in (
                "failed",
                "cancelled",
                "set_aside",
            )
        else:
            expected.cancelled, expected.deaths = False, 0
            self.seen.pop(id_, None)

    @rule()
    def kill_daemon(self) -> None:
        self.daemon.kill()
        self.daemon = self.place.serve()

    @rule()
    def restart_daemon(self) -> None:
        self.daemon.stop()
        assert not self.place.processes()
        self.daemon = self.place.serve()

    @invariant()
    def nothing_is_lost_and_what_ended_stays(self) -> None:
        if not hasattr(self, "daemon"):
            return
        jobs: list[dict[str, Any]] = self.daemon.ask("jobs")
        assert [job["id"] for job in jobs] == sorted(self.model, reverse=True)
        for job in jobs:
            expected, state = self.model[job["id"]], job["state"]
            if state in ENDED:
                assert state in expected.may_end_as()
                assert self.seen.setdefault(job["id"], state) == state
            assert job["deaths"] == expected.deaths

    def teardown(self) -> None:
        if not hasattr(self, "daemon"):
            return
        try:
            for expected in self.model.values():
                expected.go.touch()
            for id_, expected in self.model.items():
                assert self.daemon.end(id_)["state"] in expected.may_end_as()
            self.place.sound(self.daemon)
        finally:
            self.place.clean_up()
            shutil.rmtree(self.folder)


Queue.TestCase.settings = settings(
    max_examples=4,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestQueue = pytest.mark.long(seconds=60)(Queue.TestCase)
