"""What a run's events say while it goes on."""

from __future__ import annotations

from autoopt.records import Outcome, TrialFinished, TrialResult, TrialSpec
from autoopt.report.watch import Watch


def finished(number: int, **measured: float | None) -> TrialFinished:
    spec = TrialSpec(id=number, stage="race 1", optimizer="adamw", hyper={"lr": 0.01}, steps=10, seed=0)
    return TrialFinished(at=1.0, result=TrialResult(spec=spec, outcome=Outcome.COMPLETED, **measured))


def test_a_loop_that_returns_its_metric_alone_has_a_best_trial_too() -> None:
    watch = Watch(metric=("distance", "min"))
    assert watch.event(finished(1, loss=None, metric=2.0)) == [
        "best so far: distance 2 adamw lr 0.01 at 10 steps"
    ]
    assert watch.event(finished(2, loss=None, metric=3.0)) == []
    assert watch.failed == 0


def test_a_metric_to_maximise_has_its_highest_as_the_best() -> None:
    watch = Watch(metric=("accuracy", "max"))
    watch.event(finished(1, loss=0.1, metric=0.5))
    assert "accuracy 0.7" in watch.event(finished(2, loss=0.9, metric=0.7))[0]
