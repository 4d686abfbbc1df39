from __future__ import annotations

import math

import pytest

from autoopt.optim.spec import Range
from autoopt.tuning.arm import Arm, Tried, key_of

STEPS, SEED = 100, 0


def arm() -> Arm:
    ranges = {"lr": Range(1e-5, 1e-1), "weight_decay": Range(1e-4, 1.0)}
    return Arm("adamw", {"lr": 1e-3, "weight_decay": 0.01}, ranges)


def add(
    a: Arm,
    lr: float,
    y: float | None,
    steps: int = STEPS,
    diverged: bool = False,
    failed: bool = False,
    seed: int = SEED,
) -> Tried:
    number = len(a.tried) + 1
    a.tried[number] = Tried(
        number, "race 1", steps, seed, {"lr": lr, "weight_decay": 0.01}, y, diverged, failed
    )
    return a.tried[number]


def test_rates_may_lie_a_decade_beyond_the_range_and_other_settings_not() -> None:
    a = arm()
    assert (a.ranges["lr"].low, a.ranges["lr"].high) == pytest.approx((1e-6, 1.0))
    assert a.ranges["weight_decay"] == Range(1e-4, 1.0)


def test_a_configuration_at_another_rate_keeps_its_settings_and_stays_inside() -> None:
    a = arm()
    assert a.with_rate({"lr": 1e-3, "weight_decay": 0.3}, -2.0) == {"lr": 0.01, "weight_decay": 0.3}
    assert a.with_rate(a.start, math.log10(0.0123456))["lr"] == 0.0123, "three digits"
    assert a.with_rate(a.start, 5.0)["lr"] == pytest.approx(1.0)
    assert a.with_rate(a.start, -50.0)["lr"] == pytest.approx(1e-6)


def test_the_best_is_the_lowest_that_trained_at_that_length_and_seed() -> None:
    a = arm()
    add(a, 1e-3, 0.5)
    best = add(a, 2e-3, 0.4)
    add(a, 3e-3, 0.1, diverged=True)
    add(a, 4e-3, 0.1, steps=STEPS * 2)
    add(a, 5e-3, 0.1, seed=7)
    add(a, 6e-3, None)
    assert a.best(STEPS, SEED) == best
    assert a.best(17, SEED) is None


def test_failures_are_counted_and_are_no_trials_of_a_length() -> None:
    a = arm()
    kept = [add(a, 1e-3, 0.5), add(a, 2e-3, None)]
    failed = add(a, 3e-3, None, failed=True)
    assert a.at(STEPS, SEED) == kept
    assert a.failures() == 1
    assert [t.pending for t in (*kept, failed)] == [False, True, False]
    assert [t.alive for t in (*kept, failed)] == [True, False, False]


def test_the_longest_is_of_those_that_trained() -> None:
    a = arm()
    assert a.longest() is None
    add(a, 1e-3, 0.5, steps=250)
    add(a, 1e-3, 2.0, steps=1000, diverged=True)
    add(a, 1e-3, None, steps=500)
    assert a.longest() == 250


def test_the_edge_is_the_lowest_rate_that_diverged_at_any_length() -> None:
    a = arm()
    add(a, 1e-3, 0.5)
    assert a.edge() is None
    add(a, 1e-1, 2.0, diverged=True)
    add(a, 1e-2, 2.0, steps=1000, diverged=True)
    assert a.edge() == pytest.approx(-2.0)


def test_the_users_own_optimizer_is_never_tuned() -> None:
    own = Arm("baseline", {}, {})
    assert not own.tunable
    assert arm().tunable
    own.tried[1] = Tried(1, "race 1", STEPS, SEED, {}, 2.0, diverged=True)
    assert own.edge() is None, "it has no rate that we know"


def test_a_configuration_is_known_by_its_settings_in_any_order() -> None:
    assert key_of("a", {"lr": 1.0, "beta": 2.0}) == key_of("a", {"beta": 2.0, "lr": 1.0})
    assert key_of("a", {"lr": 1.0}) != key_of("b", {"lr": 1.0})
