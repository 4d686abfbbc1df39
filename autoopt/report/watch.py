"""What is known of a run while it goes on: made from its events, shown by the console."""

from __future__ import annotations

from dataclasses import dataclass, field

from autoopt.options import BATCH
from autoopt.records import (
    BASELINE,
    Event,
    Noted,
    Outcome,
    Plan,
    PlanMade,
    PriorTaken,
    RunEnded,
    RunResumed,
    RunStarted,
    StageEnded,
    TrialFinished,
    TrialResult,
    TrialSpec,
    TrialStarted,
    WorkloadLoaded,
)
from autoopt.report.words import duration, number, scaled
from autoopt.trials.runner import Progress


@dataclass
class Slot:
    """A worker and the trial it runs."""

    spec: TrialSpec
    step: int = 0
    loss: float | None = None


@dataclass
class Watch:
    """The state of a run, as far as its events and signs of life tell."""

    target: str = ""
    budget: float = 0.0
    elapsed: float = 0.0
    stage: str = "loading"
    plan: Plan | None = None
    done: int = 0
    failed: int = 0
    best: TrialResult | None = None
    slots: dict[int, Slot] = field(default_factory=dict)
    metric: tuple[str, str] | None = None

    def event(self, event: Event) -> list[str]:
        """Takes an event in; returns what is worth a line of plain text."""
        match event:
            case RunStarted():
                self.target, self.budget = event.target, event.budget_seconds
                return [f"{event.target}: budget {duration(event.budget_seconds)}"]
            case RunResumed():
                dropped = (
                    f"; {event.dropped_bytes} bytes of a torn line dropped" if event.dropped_bytes else ""
                )
                return [f"resumed after {duration(event.spent_seconds)}{dropped}"]
            case PriorTaken():
                return [f"prior: {len(event.results)} trials of {event.folder}"]
            case WorkloadLoaded():
                report = event.report
                self.stage = "planning"
                self.metric = report.settings.metric
                size = f"{scaled(report.trainable)} of {scaled(report.parameters)} parameters train"
                return [
                    f"{size} on {report.device}; {duration(report.step_seconds)} a step",
                    *report.warnings,
                ]
            case PlanMade():
                self.plan = event.plan
                self.budget = event.plan.budget_seconds
            case TrialStarted():
                self.slots[event.worker] = Slot(event.spec)
                if event.spec.stage != self.stage:
                    self.stage = event.spec.stage
                    return [f"{self.stage} begins"]
            case TrialFinished():
                return self._finished(event.result)
            case StageEnded():
                return [f"{event.stage} is over; kept: {', '.join(event.kept)}"]
            case Noted():
                return [event.text]
            case RunEnded():
                self.stage = event.how
                # A failure's message is the error that follows.
                message = "" if event.how == "failed" else event.message
                return [f"{event.how} after {duration(event.spent_seconds)} {message}".rstrip()]
        return []

    def progress(self, progress: Progress) -> None:
        """A sign of life of a trial."""
        slot = self.slots.get(progress.worker)
        if slot is not None and slot.spec.id == progress.trial:
            slot.step, slot.loss = progress.step, progress.loss

    @property
    def total(self) -> int:
        """Trials that the plan foresees, or more once there were more."""
        planned = sum(stage.trials for stage in self.plan.stages) if self.plan else 0
        return max(planned, self.done + len(self.slots))

    @property
    def left(self) -> float:
        """Seconds of the budget that remain."""
        return max(0.0, self.budget - self.elapsed)

    def best_words(self) -> str:
        """The best trial at the longest length so far."""
        if self.best is None:
            return "none yet"
        value = number(self._value(self.best))
        if self.metric is not None:
            value = f"{self.metric[0]} {value}"
        return f"{value} {label(self.best.spec)} at {self.best.spec.steps} steps"

    def _rank(self, result: TrialResult) -> tuple[int, float]:
        """By what decides. Different lengths are not compared: a longer trial replaces any shorter one."""
        value = self._value(result)
        assert value is not None
        sign = -1 if self.metric is not None and self.metric[1] == "max" else 1
        return (-result.spec.steps, sign * value)

    def _value(self, result: TrialResult) -> float | None:
        """What decides: the metric where there is one, of which a loop of the user's own tells nothing else."""
        return result.loss if self.metric is None else result.metric

    def _finished(self, result: TrialResult) -> list[str]:
        self.slots = {n: slot for n, slot in self.slots.items() if slot.spec.id != result.spec.id}
        if result.outcome is Outcome.CANCELLED:
            return []
        self.done += 1
        if result.outcome is not Outcome.COMPLETED or self._value(result) is None:
            self.failed += 1
            words = result.outcome.value.replace("_", " ")
            reason = " ".join(result.message.split())
            if not reason.startswith(words):  # a shortage says it itself
                reason = f"{words}, {reason}" if reason else words
            return [f"{label(result.spec)}: {reason}"]
        if self.best is None or self._rank(result) < self._rank(self.best):
            self.best = result
            return [f"best so far: {self.best_words()}"]
        return []


def label(spec: TrialSpec) -> str:
    """A trial in two words."""
    name = "yours" if spec.optimizer == BASELINE else spec.optimizer
    rate = spec.hyper.get("lr")
    told = name if rate is None else f"{name} lr {rate:.2g}"
    return f"{told}, {spec.hyper[BATCH]:g} x batch" if BATCH in spec.hyper else told
