"""What is over a limit, by how much, and what need not be tried."""

from __future__ import annotations

import pytest

from autoopt.records import Outcome, TrialResult, TrialSpec
from autoopt.tuning.limits import OVER, Limits


def trial(step: float | None = None, peak: int | None = None) -> TrialResult:
    spec = TrialSpec(id=1, stage="race 1", optimizer="adan", hyper={}, steps=10, seed=0)
    return TrialResult(spec=spec, outcome=Outcome.COMPLETED, step_seconds=step, peak_bytes=peak)


def test_the_largest_peak_counts_and_both_numbers_are_told() -> None:
    over = Limits(memory=20 * 10**9).excess([trial(peak=19 * 10**9), trial(peak=23 * 10**9)], 1.0)
    assert over is not None
    assert over.words == f"{OVER}: 23 GB, 20 GB are allowed"
    assert over.factor == pytest.approx(1.15)


def test_one_slow_trial_among_others_is_forgiven() -> None:
    limits = Limits(step_time=0.2)
    assert limits.excess([trial(0.1), trial(0.9), trial(0.1)], 1.0) is None
    over = limits.excess([trial(0.3), trial(0.9), trial(0.1)], 1.0)
    assert over is not None
    assert over.words == f"{OVER}: 300 ms a step, 200 ms are allowed"


def test_a_relative_limit_goes_by_what_was_timed_side_by_side() -> None:
    limits = Limits(step_time_relative=2)
    assert limits.excess([trial(0.3)], 0.1) is not None
    assert limits.excess([trial(0.3)], 0.1, timed=1.2) is None
    assert limits.excess([], 0.1) is None


def test_the_worst_excess_is_told() -> None:
    over = Limits(memory=100, step_time=1.0).excess([trial(1.5, 300)], 1.0)
    assert over is not None
    assert over.factor == 3


def test_no_limit_is_never_exceeded_and_the_unknown_exceeds_none() -> None:
    assert Limits().excess([trial(9.0, 10**12)], 0.1) is None
    assert Limits(memory=1, step_time=1e-9).excess([trial()], 0.1) is None


def test_what_is_surely_too_slow_is_foreseen() -> None:
    assert "3 times AdamW's step, 2 are" in Limits(step_time_relative=2).foreseen(3.0, 0.1)
    assert Limits(step_time_relative=2).foreseen(1.9, 0.1) == ""
    assert "a step" in Limits(step_time=0.2).foreseen(3.0, 0.1)
    assert Limits(step_time=0.2).foreseen(2.2, 0.1) == "", "near it, the trials tell"
