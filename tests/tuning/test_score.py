from __future__ import annotations

import math
from typing import Literal

import pytest

from autoopt.records import Outcome, TrialResult, TrialSpec
from autoopt.tuning.score import Score, make

SPEC = TrialSpec(id=1, stage="screen", optimizer="adamw", hyper={"lr": 1e-3}, steps=10, seed=0)


def result(
    loss: float | None, outcome: Outcome = Outcome.COMPLETED, metric: float | None = None
) -> TrialResult:
    return TrialResult(spec=SPEC, outcome=outcome, loss=loss, metric=metric)


def test_differences_are_log_ratios_far_above_the_floor() -> None:
    score = Score(initial=1.0)
    gap = score.y(result(0.8)) - score.y(result(0.4))  # type: ignore[operator]
    assert gap == pytest.approx(math.log(2), rel=1e-3)


def test_differences_below_the_floor_count_little() -> None:
    score = Score(initial=1.0)
    gap = score.of_loss(1e-5) - score.of_loss(1e-9)
    assert 0 < gap < 0.001


def test_negative_losses_are_ordered() -> None:
    score = Score(initial=2.0)
    values = [score.of_loss(x) for x in (-50.0, -5.0, 0.0, 5.0)]
    assert values == sorted(values)


@pytest.mark.parametrize("loss", [1e-4, 0.3, 7.0, -2.0])
def test_back_to_the_users_unit(loss: float) -> None:
    score = Score(initial=2.3)
    assert score.unit(score.of_loss(loss)) == pytest.approx(loss)


def test_divergence_scores_as_no_training_at_all() -> None:
    score = Score(initial=2.3)
    assert score.y(result(None, Outcome.DIVERGED)) == score.of_loss(2.3)
    assert score.y(result(1e9)) == score.of_loss(2.3)
    assert score.diverged(result(2.4))
    assert not score.diverged(result(2.2))


@pytest.mark.parametrize("outcome", [Outcome.CRASHED, Outcome.HUNG, Outcome.CANCELLED, Outcome.OUT_OF_MEMORY])
def test_a_failure_says_nothing_about_the_settings(outcome: Outcome) -> None:
    assert Score(initial=1.0).y(result(None, outcome)) is None


@pytest.mark.parametrize(
    ("first", "worse", "better"), [(0.5, 0.6, 0.9), (0.5, 0.98, 0.99), (30.0, 28.0, 31.0)]
)
def test_a_metric_to_maximise_is_turned(first: float, worse: float, better: float) -> None:
    score = make(2.3, ("accuracy", "max"), [result(1.0, metric=first)])
    low, high = score.y(result(1.0, metric=worse)), score.y(result(1.0, metric=better))
    assert low is not None
    assert high is not None
    assert high < low
    assert score.unit(high) == pytest.approx(better)


def test_an_accuracy_is_compared_by_its_error() -> None:
    score = make(2.3, ("accuracy", "max"), [result(1.0, metric=0.5)])
    gap = score.y(result(1.0, metric=0.6)) - score.y(result(1.0, metric=0.8))  # type: ignore[operator]
    assert gap == pytest.approx(math.log(2), rel=1e-2)


@pytest.mark.parametrize(
    ("metric", "best", "values"),
    [
        (("acc1", "max"), 100.0, (50.0, 98.0, 99.0)),
        (("errors", "min"), 0.0, (100.0, 2.0, 1.0)),
        (("distance", "min"), -4.0, (0.0, -3.92, -3.96)),
    ],
)
def test_what_a_metric_lacks_of_its_best_value_is_what_is_compared(
    metric: tuple[str, Literal["min", "max"]], best: float, values: tuple[float, ...]
) -> None:
    first, worse, better = (result(1.0, metric=value) for value in values)
    score, share = make(2.3, metric, [first], best), make(2.3, ("accuracy", "max"), [result(1.0, metric=0.5)])
    gap = score.y(worse) - score.y(better)  # type: ignore[operator]
    same = share.y(result(1.0, metric=0.98)) - share.y(result(1.0, metric=0.99))  # type: ignore[operator]
    assert gap == pytest.approx(same), "as from 98 to 99 % of a share: the error is halved"
    assert score.unit(score.y(worse)) == pytest.approx(values[1])  # type: ignore[arg-type]
    assert score.unit(-5.0) == pytest.approx(best), "nothing is better than the best"
    assert score.y(result(None, Outcome.DIVERGED)) >= score.y(first)  # type: ignore[operator]


def test_without_a_best_value_a_percentage_is_compared_by_its_size() -> None:
    score = make(2.3, ("acc1", "max"), [result(1.0, metric=50.0)])
    assert score.best is None
    assert score.y(result(1.0, metric=98.0)) - score.y(result(1.0, metric=99.0)) == pytest.approx(0.02)  # type: ignore[operator]


def test_an_interval_of_positive_losses_does_not_reach_below_zero() -> None:
    assert make(1.0, None, [result(0.1)]).unit(-3.0) == 0.0
    assert make(1.0, None, [result(-0.1)]).unit(-3.0) < 0.0


def test_the_scale_of_a_metric_is_that_of_the_first_trial_whatever_the_order() -> None:
    first = result(1.0, metric=0.5)
    later = TrialResult(spec=SPEC.model_copy(update={"id": 2}), outcome=Outcome.COMPLETED, metric=0.9)
    assert make(1.0, ("a", "max"), [later, first]) == make(1.0, ("a", "max"), [first, later])
