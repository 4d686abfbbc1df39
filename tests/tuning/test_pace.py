from __future__ import annotations

import pytest

from autoopt.optim.spec import Need, OptimSpec, Range
from autoopt.records import BASELINE, Outcome, TrialResult, TrialSpec
from autoopt.tuning.pace import Pace
from autoopt.tuning.plan import Costs
from tests.tuning.simulated import spec

COSTS = Costs(step=0.01, batch=0.003, batches=4, workers=2)
HESSIAN = OptimSpec(
    "adahessian",
    "AdaHessian",
    "m:A",
    "p",
    {"lr": 0.1},
    {"lr": Range(0.01, 1)},
    2,
    frozenset({Need.SECOND_ORDER}),
)
SPECS = {"adamw": spec("adamw"), "sgd": spec("sgd"), "adahessian": HESSIAN}


def pace(*seen: tuple[str, float]) -> Pace:
    """After trials of 100 steps that took so many times what the calibration said."""
    made = Pace(COSTS, SPECS)
    for name, relative in seen:
        made.observe(result(name, relative))
    return made


def result(name: str, relative: float, outcome: Outcome = Outcome.COMPLETED) -> TrialResult:
    trial = TrialSpec(id=1, stage="race 1", optimizer=name, hyper={}, steps=100, seed=0)
    return TrialResult(spec=trial, outcome=outcome, seconds={"total": relative * COSTS.trial(100)})


def test_before_any_trial_the_calibration_holds() -> None:
    made = pace()
    assert not made.known
    assert made.seconds(BASELINE, 200) == COSTS.trial(200)
    assert COSTS.trial(200) < made.seconds("sgd", 200) < made.seconds("adahessian", 200)


def test_what_was_measured_replaces_what_was_expected_at_every_length() -> None:
    made = pace(("sgd", 2.0))
    assert made.known
    assert made.seconds("sgd", 100) == pytest.approx(2 * COSTS.trial(100))
    assert made.seconds("sgd", 800) == pytest.approx(2 * COSTS.trial(800))


def test_recent_trials_count_most() -> None:
    assert pace(("sgd", 4.0), ("sgd", 1.0), ("sgd", 1.0)).seconds("sgd", 100) < 2 * COSTS.trial(100)
    late = pace(("sgd", 1.0), ("sgd", 1.0), ("sgd", 4.0)).seconds("sgd", 100)
    assert 2 * COSTS.trial(100) < late < 4 * COSTS.trial(100), "and are not all that counts"


def test_a_slow_machine_slows_those_not_seen_yet_and_second_order_more() -> None:
    made = pace(("sgd", 3.0), ("adamw", 3.0), (BASELINE, 9.0))
    assert made.seconds("lion", 100) == pytest.approx(3 * COSTS.trial(100)), "the median of the others"
    assert made.seconds("adahessian", 100) > 6 * COSTS.trial(100)
    assert made.seconds("", 100) == made.seconds("lion", 100)


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.COMPLETED])
def test_a_trial_that_broke_off_tells_no_pace(outcome: Outcome) -> None:
    made = Pace(COSTS, SPECS)
    made.observe(result("sgd", 0.01, outcome))
    assert not made.known


def test_a_result_without_a_time_tells_no_pace() -> None:
    made = Pace(COSTS, SPECS)
    made.observe(result("sgd", 1.0).model_copy(update={"seconds": {}}))
    assert not made.known


def test_what_was_timed_before_the_trials_replaces_what_is_usual() -> None:
    made = Pace(COSTS, SPECS, {"sgd": 0.9, "adahessian": 7.0})
    assert made.typical("sgd") == 0.9
    assert made.seconds("adahessian", 200) == pytest.approx(COSTS.trial(200, 7.0))
    assert made.typical(BASELINE) == 1.0
    assert not made.known


def test_a_trial_is_in_time_if_it_ends_though_it_takes_a_little_longer_than_expected() -> None:
    made = pace()
    seconds = made.seconds("adamw", 100)
    assert made.in_time("adamw", 100, 1.0, 1.0 + 1.06 * seconds)
    assert not made.in_time("adamw", 100, 1.0, 1.0 + 1.04 * seconds)
