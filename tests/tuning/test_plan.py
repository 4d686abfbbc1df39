from __future__ import annotations

import dataclasses

import pytest

from autoopt.optim.spec import Need
from autoopt.tuning.plan import (
    FEWEST_TO_CONFIRM,
    MIN_STEPS,
    SHORTEST,
    Costs,
    confidence,
    describe,
    layout,
    lengths,
    typical_cost,
)
from tests.tuning.simulated import report, spec

CONFIRM = 0.25
NAMES = ["adamw", "sgd", "adan", "lion", "muon", "nadam", "radam", "prodigy"]
SPECS = {n: spec(n) for n in NAMES}


def costs(step: float = 0.01, workers: int = 2, steps: int = 1000) -> Costs:
    return Costs.of(report(steps, step), workers)


def test_lengths_halve_and_end_above_the_minimum() -> None:
    assert lengths(1000)[:3] == [1000, 500, 250]
    assert min(lengths(1000)) >= MIN_STEPS
    assert min(lengths(100_000)) >= 100_000 / SHORTEST
    assert lengths(10) == [10]


def test_evaluation_takes_at_most_a_fifth_of_a_trial() -> None:
    slow = Costs(step=0.01, batch=0.05, batches=1000, workers=1)
    batches = slow.eval_batches(100)
    assert batches is not None
    assert batches * slow.batch <= 0.2 * (100 * slow.step + batches * slow.batch) + 1e-9
    assert slow.eval_batches(10**6) is None, "all of them when they are cheap beside the training"


def test_a_large_budget_reaches_the_real_length_and_high_confidence() -> None:
    made = layout(SPECS, 1000, costs(), 1000.0, CONFIRM)
    assert made.longest == 1000
    assert made.lengths == [1000, 500, 250, 125]
    assert made.optimizers == NAMES
    assert confidence(made, 1000) == "high"


def test_a_short_budget_shortens_the_trials() -> None:
    made = layout(SPECS, 1000, costs(), 4.0, CONFIRM)
    assert MIN_STEPS <= made.longest < 1000
    assert costs().trial(made.longest) < 4.0
    assert confidence(made, 1000) == "low"


def test_time_is_kept_for_fresh_seeds_only_where_enough_trials_fit() -> None:
    for seconds in (4.0, 30.0, 60.0, 100.0, 400.0):
        made = layout(SPECS, 1000, costs(), seconds, CONFIRM)
        assert made.confirm_seconds == (CONFIRM * seconds if made.capacity >= FEWEST_TO_CONFIRM else 0.0)
    assert made.confirm_seconds > 0


def test_more_workers_hold_more_trials() -> None:
    one, four = (layout(SPECS, 1000, costs(workers=n), 100.0, CONFIRM) for n in (1, 4))
    assert 3 < four.capacity / one.capacity < 4, "less than four times: they slow one another"


def test_the_policys_most_keeps_the_first() -> None:
    assert layout(SPECS, 1000, costs(), 100.0, CONFIRM, most=3).optimizers == NAMES[:3]


def test_below_the_minimum_nothing_is_planned() -> None:
    made, plan = describe(SPECS, 1000, costs(step=1.0), 10.0, 10.0, CONFIRM, None, {})
    assert made.lengths == []
    assert made.longest == 0
    assert plan.stages == []
    assert plan.confidence == "low"
    assert "too short" in plan.notes[0]
    assert plan.next_level_seconds is not None


@pytest.mark.parametrize("seconds", [3.0, 10.0, 30.0, 100.0, 400.0])
def test_a_plan_fits_its_budget(seconds: float) -> None:
    _, plan = describe(SPECS, 1000, costs(), seconds, seconds + 5, CONFIRM, None, {})
    assert sum(s.seconds for s in plan.stages) <= seconds * 1.02


def test_the_next_level_is_really_higher() -> None:
    made, plan = describe(SPECS, 1000, costs(), 20.0, 25.0, CONFIRM, None, {})
    assert plan.next_level_seconds is not None
    more = layout(SPECS, 1000, costs(), plan.next_level_seconds - 5.0, CONFIRM)
    assert confidence(more, 1000) != confidence(made, 1000)


def test_second_order_optimizers_pay_for_their_steps() -> None:
    slow = dataclasses.replace(SPECS["adan"], needs=frozenset({Need.SECOND_ORDER}))
    assert typical_cost(slow) > 2 * typical_cost(SPECS["adan"])


def test_cut_optimizers_are_named() -> None:
    _, plan = describe(SPECS, 1000, costs(), 8.0, 10.0, CONFIRM, 7, {"muon2": "no matrices"})
    assert plan.cut == {"muon2": "no matrices", "prodigy": "the policy's max_optimizers"}


def test_many_workers_keep_time_for_one_longest_trial_on_fresh_seeds() -> None:
    """A quarter of three full runs holds no full run, and would be lost on all of them."""
    one = costs(workers=64).trial(1000, 1.15)
    many = layout(SPECS, 1000, costs(workers=64), 3 * one, 0.25)
    few = layout(SPECS, 1000, costs(workers=8), 3 * one, 0.25)
    assert many.longest == few.longest == 1000
    assert many.confirm_seconds > one > few.confirm_seconds > 0
    # Where the race would have less than such a trial, it comes first.
    assert layout(SPECS, 1000, costs(workers=64), 2 * one, 0.25).confirm_seconds == pytest.approx(0.5 * one)
