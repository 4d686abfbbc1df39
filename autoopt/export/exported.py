"""A run as it is exported: its trials, those in flight included, and the ranges that were searched."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from autoopt.errors import RunError, UsageError
from autoopt.journal import FILE_NAME, replay
from autoopt.optim import registry
from autoopt.optim.spec import Range
from autoopt.policy import Policy
from autoopt.records import (
    BASELINE,
    Event,
    Hyper,
    Outcome,
    RunEnded,
    RunResumed,
    RunStarted,
    TrialFinished,
    TrialResult,
    TrialSpec,
    TrialStarted,
    WorkloadLoaded,
    WorkloadReport,
)
from autoopt.run import in_use

RUNNING = "running"
LOST = "lost"
"""Of a trial whose run was stopped or killed before it ended."""


@dataclass(frozen=True)
class Trial:
    """A training of the run; `result` is `None` while it runs, and if nobody saw its end. Times in Unix seconds."""

    spec: TrialSpec
    hyper: Hyper
    outcome: str
    worker: int
    began: float | None
    ended: float | None = None
    result: TrialResult | None = None

    @property
    def loss(self) -> float | None:
        """The validation loss of a trial that was completed."""
        return self.result.loss if self.result is not None and self.outcome == Outcome.COMPLETED else None

    @property
    def metric(self) -> float | None:
        """The same of the user's own metric."""
        return self.result.metric if self.result is not None and self.outcome == Outcome.COMPLETED else None

    @property
    def facts(self) -> dict[str, Any]:
        """What every table says of a trial first, under the names that it has in all of them."""
        spec = self.spec
        return {
            "trial": spec.id,
            "optimizer": spec.optimizer,
            "stage": spec.stage,
            "steps": spec.steps,
            "seed": spec.seed,
            "outcome": self.outcome,
            "loss": self.loss,
            "metric": self.metric,
        }

    @property
    def curve(self) -> list[tuple[int, float]]:
        """(step, training loss)."""
        return self.result.curve if self.result is not None else []

    @property
    def title(self) -> str:
        """The trial in a few words, which sort in the order of the trials."""
        rate = f" lr {self.hyper['lr']:.2g}" if "lr" in self.hyper else ""
        return f"{self.spec.id:03d} {self.spec.optimizer}{rate}"


@dataclass(frozen=True)
class Exported:
    """A run, for whoever writes it down elsewhere."""

    folder: Path
    name: str
    key: str
    """The same for every export of this run, and for no other run."""
    state: Literal["finished", "interrupted", "failed", "running", "stopped"]
    started: RunStarted
    report: WorkloadReport
    ended: float | None
    trials: list[Trial]
    ranges: dict[str, dict[str, Range]]
    """Optimizer -> setting -> where the policy searched it."""

    @property
    def compared(self) -> tuple[str, Literal["min", "max"]]:
        """What the run compared trials by: the user's metric, or the validation loss."""
        return self.report.settings.metric or ("loss", "min")

    def value(self, trial: Trial) -> float | None:
        """That of a trial; `None` if it was not completed."""
        return trial.loss if self.report.settings.metric is None else trial.metric

    @property
    def optimizers(self) -> list[str]:
        """In the order of their first trials."""
        return list(dict.fromkeys(trial.spec.optimizer for trial in self.trials))


def read(folder: Path, name: str | None = None) -> Exported:
    """The run in a folder, or in the folder `out` of a daemon's job. Takes no lock, so it may be going on.

    Raises:
        RunError: no run there, a damaged one, or one without a trial.
        UsageError: a name that cannot be one.
    """
    inside = folder / "out"
    if not (folder / FILE_NAME).exists() and (inside / FILE_NAME).exists():
        home, usual = inside, folder.resolve().name
    else:
        home, usual = folder, folder.resolve().name
    chosen = usual if name is None else name.strip()
    if not chosen or "/" in chosen or chosen.startswith("."):
        raise UsageError(f"--name {name!r} cannot name a run.", "Give a word without slashes.")
    # Asked first: a trial may end while the events are read, and none may be taken for lost that has not.
    alive = in_use(home)
    events = replay(home)
    started = [event for event in events if isinstance(event, RunStarted)]
    report = next((event.report for event in events if isinstance(event, WorkloadLoaded)), None)
    trials = _trials(events, report, alive=alive)
    if not started or report is None or not trials:
        raise RunError(
            f"The run in {folder} has no trial yet, so there is nothing to export.",
            "Wait until the first one has begun.",
        )
    return Exported(
        folder=home,
        name=chosen,
        key=hashlib.sha256(started[0].model_dump_json().encode()).hexdigest()[:16],
        state=_state(events, alive=alive),
        started=started[-1],
        report=report,
        ended=events[-1].at if isinstance(events[-1], RunEnded) else None,
        trials=trials,
        ranges=_ranges(started[-1]),
    )


def _state(
    events: list[Event], *, alive: bool
) -> Literal["finished", "interrupted", "failed", "running", "stopped"]:
    last = events[-1]
    if isinstance(last, RunEnded):
        return last.how
    return "running" if alive else "stopped"


def _trials(events: list[Event], report: WorkloadReport | None, *, alive: bool) -> list[Trial]:
    """By number. A trial that was lost and then made anew, under its number, is there once."""
    found: dict[int, Trial] = {}
    for event in events:
        if isinstance(event, TrialStarted):
            spec = event.spec
            found[spec.id] = Trial(spec, _hyper(spec, report), RUNNING, event.worker, event.at)
        elif isinstance(event, TrialFinished):
            spec, begun = event.result.spec, found.get(event.result.spec.id)
            found[spec.id] = Trial(
                spec,
                _hyper(spec, report),
                event.result.outcome.value,
                event.result.worker,
                begun.began if begun is not None else None,
                event.at,
                event.result,
            )
        elif isinstance(event, RunResumed | RunEnded):
            found = {number: _lost(trial, event.at) for number, trial in found.items()}
    if not alive:
        found = {number: _lost(trial, events[-1].at) for number, trial in found.items()}
    return [found[number] for number in sorted(found)]


def _lost(trial: Trial, at: float) -> Trial:
    if trial.outcome != RUNNING:
        return trial
    return Trial(trial.spec, trial.hyper, LOST, trial.worker, trial.began, at)


def _hyper(spec: TrialSpec, report: WorkloadReport | None) -> Hyper:
    """The user's own optimizer has the settings that it was found with."""
    own = report.baseline.hyper if spec.optimizer == BASELINE and report is not None else {}
    return {**own, **spec.hyper}


def _ranges(started: RunStarted) -> dict[str, dict[str, Range]]:
    found = {}
    for name, candidate in Policy.model_validate(started.policy).candidates.items():
        try:
            found[name] = candidate.ranges(registry.get(name))
        except UsageError:
            continue  # of a package that is not on this machine: the values that were tried are all that is known
    return found
