from __future__ import annotations

import math
import time
from collections.abc import Iterator

import pytest

from autoopt.records import Outcome, TrialResult, TrialSpec, WorkloadReport
from autoopt.trials.drive import Throttle, drive
from autoopt.trials.runner import Progress
from autoopt.trials.testing import FakeEngine, spec


class Scripted:
    """An engine whose trial is given."""

    def __init__(self, *items: Progress | TrialResult | BaseException) -> None:
        self._items = items
        self.cleaned = False

    def load(self, *, full: bool) -> WorkloadReport | None:
        return None

    def execute(self, spec: TrialSpec) -> Iterator[Progress | TrialResult]:
        try:
            for item in self._items:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self.cleaned = True

    def close(self) -> None: ...


SPEC = spec(4, "adamw", steps=5)


def at(step: int, loss: float | None = 1.0) -> Progress:
    return Progress(0, 4, step, 5, loss)


def test_every_step_then_one_result_all_with_their_slot() -> None:
    *steps, result = drive(FakeEngine(), SPEC, 3)
    assert [item.step for item in steps if isinstance(item, Progress)] == [1, 2, 3, 4, 5]
    assert {item.worker for item in [*steps, result]} == {3}
    assert isinstance(result, TrialResult)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_becomes_none(loss: float) -> None:
    first = next(drive(Scripted(at(1, loss)), SPEC, 0))
    assert isinstance(first, Progress)
    assert first.loss is None


def test_an_exception_is_told_and_becomes_the_result() -> None:
    told: list[BaseException] = []
    error = ValueError("bad")
    *_, result = drive(Scripted(at(1), at(2), error), SPEC, 0, on_error=told.append)
    assert isinstance(result, TrialResult)
    assert (result.outcome, result.steps_done) == (Outcome.ERROR, 2)
    assert told == [error]


def test_a_trial_without_a_result_is_an_error() -> None:
    (*_, result) = drive(Scripted(at(1)), SPEC, 0)
    assert isinstance(result, TrialResult)
    assert result.outcome is Outcome.ERROR


def test_cancelled_after_a_step_and_cleaned_up() -> None:
    engine = Scripted(at(1), at(2), at(3))
    asked = iter([False, True])
    items = list(drive(engine, SPEC, 0, lambda: next(asked)))
    assert isinstance(items[-1], TrialResult)
    assert (items[-1].outcome, items[-1].steps_done) == (Outcome.CANCELLED, 2)
    assert engine.cleaned


def test_an_interrupt_passes_only_where_it_is_the_user_s() -> None:
    *_, result = drive(Scripted(KeyboardInterrupt()), SPEC, 0)
    assert isinstance(result, TrialResult)
    assert result.outcome is Outcome.ERROR
    with pytest.raises(KeyboardInterrupt):
        list(drive(Scripted(KeyboardInterrupt()), SPEC, 0, interrupts_pass=True))


def test_the_throttle_lets_the_first_and_then_four_a_second_through(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    throttle = Throttle()
    passed = []
    for tick in range(101):  # one second in steps of 10 ms
        now = 100.0 + tick / 100
        if throttle.ready():
            passed.append(tick)
    assert passed == [0, 25, 50, 75, 100]
