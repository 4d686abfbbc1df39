"""What a job's run is doing, read from its events while they are written."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autoopt.errors import RunError
from autoopt.files import plain
from autoopt.journal import FILE_NAME, parse
from autoopt.options import in_own_steps, steps_of
from autoopt.records import (
    Event,
    Noted,
    PlanMade,
    RunEnded,
    RunResumed,
    RunStarted,
    StageEnded,
    TrialFinished,
    TrialResult,
    TrialSpec,
    TrialStarted,
    WorkloadLoaded,
    WorkloadReport,
)

_POINTS = 60
"""Of a curve that is shown."""
_CHUNK = 1 << 22


class Follower:
    """The view of one run's folder. `update` reads what is new; a run that started anew is read from its start.

    Args:
        out: the run's folder.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / FILE_NAME
        self._forget()

    def _forget(self) -> None:
        self._file: tuple[int, int] | None = None
        self._offset = 0
        self.damaged = ""
        self._plan: dict[str, Any] | None = None
        self._workload: dict[str, Any] | None = None
        self._trials: dict[int, dict[str, Any]] = {}
        self._rounds: list[dict[str, Any]] = []
        self._notes: list[str] = []
        self._budget: float | None = None
        self._before = 0.0  # spent in earlier sittings
        self._begin = self._last = 0.0
        self._ended = False
        self._stage = ""

    def update(self) -> list[dict[str, Any]]:
        """Reads what was added; returns what to tell those who watch, change by change.

        {"trial", "round"}, one of them `None`; or nothing in it, when something else in the view changed.

        Damage is told in `damaged`; what stands before it is shown.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return []
        try:
            status = os.fstat(descriptor)
            same = (status.st_dev, status.st_ino)
            if self._file not in (None, same) or status.st_size < self._offset:
                self._forget()
            self._file = same
            told: list[dict[str, Any]] = []
            while not self.damaged and (data := os.pread(descriptor, _CHUNK, self._offset)):
                end = data.rfind(b"\n") + 1
                if not end:
                    if len(data) < _CHUNK:
                        break
                    data = os.pread(descriptor, status.st_size - self._offset, self._offset)
                    if not (end := data.rfind(b"\n") + 1):
                        break
                self._offset += end
                told += self._take(data[:end])
            return told
        finally:
            os.close(descriptor)

    def spent(self, now: float | None = None) -> float:
        """Seconds of all sittings; up to `now` (Unix time) while one goes on."""
        last = self._last if now is None or self._ended else max(self._last, now)
        return self._before + (last - self._begin)

    def progress(self, *, running: bool) -> dict[str, Any]:
        """{"share", "seconds_left", "phase"}: of the budget; phases are "starting", "measuring", a stage's name, "ended"."""
        if self._budget is None:
            return {"share": 0.0, "seconds_left": None, "phase": "starting" if running else ""}
        spent = self.spent(time.time() if running else None)
        phase = self._stage or ("planning" if self._workload else "measuring")
        return {
            "share": 1.0 if self._ended else min(1.0, spent / self._budget),
            "seconds_left": 0.0 if self._ended else max(0.0, self._budget - spent),
            "phase": "ended" if self._ended else phase,
        }

    def view(self, *, running: bool) -> dict[str, Any]:
        """All of it, as plain data."""
        return {
            "plan": self._plan,
            "workload": self._workload,
            "progress": self.progress(running=running),
            "trials": list(self._trials.values()),
            "rounds": self._rounds,
            "notes": self._notes + ([self.damaged] if self.damaged else []),
            "budget_seconds": self._budget,
            "spent_seconds": self.spent(time.time() if running else None) if self._budget else 0.0,
        }

    def _take(self, whole: bytes) -> list[dict[str, Any]]:
        events: Iterable[Event]
        try:
            events = parse(whole, self._path)
        except RunError:
            events = self._until_damage(whole)
        told = []
        for event in events:
            at = max(event.at, self._last)  # a clock that was set back gives no time back
            change = self._hear(event, at)
            self._last = at
            if change is not None:
                told.append(change)
        return told

    def _until_damage(self, whole: bytes) -> list[Event]:
        found: list[Event] = []
        for line in whole.splitlines(keepends=True):
            try:
                found += parse(line, self._path)
            except RunError:
                self.damaged = "The run's events are damaged; what stands before the damage is shown."
                break
        return found

    def _hear(self, event: Event, at: float) -> dict[str, Any] | None:
        if isinstance(event, RunStarted | RunResumed):
            self._before = self.spent() if self._begin else 0.0
            self._begin = self._last = at
            self._ended, self._stage = False, ""
            for number, trial in self._trials.items():  # in flight when the sitting before ended
                if trial["state"] == "running":
                    cut_off = {"state": "cancelled", "message": "its process ended before it did"}
                    self._trials[number] = {**trial, **cut_off}
            if isinstance(event, RunStarted):
                self._budget = event.budget_seconds
        elif isinstance(event, WorkloadLoaded):
            self._workload = _workload(event.report)
            return {}
        elif isinstance(event, PlanMade):
            self._plan = plain(event.plan)
            return {}
        elif isinstance(event, TrialStarted):
            self._stage = event.spec.stage
            trial = _started(event.spec, event.worker, self._elapsed(at))
            self._trials[event.spec.id] = trial
            return {"trial": trial, "round": None}
        elif isinstance(event, TrialFinished):
            before = self._trials.get(event.result.spec.id, {})
            trial = _finished(event.result, before.get("began"), self._elapsed(at))
            self._trials[event.result.spec.id] = trial
            return {"trial": trial, "round": None}
        elif isinstance(event, StageEnded):
            ended = {
                "stage": event.stage,
                "kept": event.kept,
                "dropped": event.dropped,
                "seconds": self._elapsed(at),
            }
            self._rounds.append(ended)
            return {"trial": None, "round": ended}
        elif isinstance(event, Noted):
            self._notes.append(event.text)
            return {}
        elif isinstance(event, RunEnded):
            self._ended = True
            return {}
        return None

    def _elapsed(self, at: float) -> float:
        return round(self._before + at - self._begin, 3)


def _workload(report: WorkloadReport) -> dict[str, Any]:
    told = report.model_dump(mode="json", by_alias=True)
    kept = ("initial_loss", "parameters", "device", "settings", "baseline", "kind")
    return {key: told[key] for key in kept if key in told}


def _spec(spec: TrialSpec) -> dict[str, Any]:
    return {
        "trial": spec.id,
        "optimizer": spec.optimizer,
        "lr": spec.hyper.get("lr"),
        "hyper": spec.hyper,
        "steps": spec.steps,
        # With another batch a trial of as many samples takes other steps.
        "optimizer_steps": steps_of(spec.hyper, spec.steps),
        "seed": spec.seed,
        "stage": spec.stage,
    }


def _started(spec: TrialSpec, worker: int, began: float) -> dict[str, Any]:
    return {
        **_spec(spec),
        "state": "running",
        "message": "",
        "step": None,
        "loss": None,
        "metric": None,
        "step_seconds": None,
        "peak_bytes": None,
        "state_bytes": None,
        "curve": [],
        "began": began,
        "ended": None,
        "worker": worker,
    }


def _finished(result: TrialResult, began: float | None, ended: float) -> dict[str, Any]:
    return {
        **_spec(result.spec),
        "state": str(result.outcome),
        "message": result.message,
        "step": result.steps_done,
        "loss": result.loss,
        "metric": result.metric,
        "step_seconds": result.step_seconds,
        "peak_bytes": result.peak_bytes,
        "state_bytes": result.state_bytes,
        "curve": thin([list(point) for point in in_own_steps(result.curve, result.spec.hyper)]),
        "began": began,
        "ended": ended,
        "worker": result.worker,
    }


def thin(points: list[list[float]], most: int = _POINTS) -> list[list[float]]:
    """At most `most` of the points, evenly taken, the first and the last among them.

    >>> thin([[i, 0.0] for i in range(100)], 3)
    [[0, 0.0], [50, 0.0], [99, 0.0]]
    """
    if len(points) <= most:
        return points
    last = len(points) - 1
    return [points[round(i * last / (most - 1))] for i in range(most)]


def first_damage(out: Path) -> str:
    """What is wrong with a run's events, in words; empty when nothing is, or there are none."""
    path = out / FILE_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].split(b"\n")[:-1], start=1):
        try:
            if not isinstance(json.loads(line), dict):
                raise ValueError
        except ValueError:
            return f"line {number} is no event"
    return ""
