from __future__ import annotations

import math

import pytest

from autoopt.optim.spec import Range
from autoopt.tuning.arm import FINE_STEP, WIDE_STEP, Arm, Tried

STEPS, SEED = 100, 0


def arm() -> Arm:
    ranges = {"lr": Range(1e-5, 1e-1), "weight_decay": Range(1e-4, 1.0)}
    return Arm("adamw", {"lr": 1e-3, "weight_decay": 0.01}, ranges)


def add(
    a: Arm, lr: float, y: float | None, steps: int = STEPS, diverged: bool = False, wd: float = 0.01
) -> None:
    number = len(a.tried) + 1
    a.tried[number] = Tried(number, "screen", steps, SEED, {"lr": lr, "weight_decay": wd}, y, diverged)


def rate(a: Arm) -> float | None:
    move = a.rate_move(STEPS, SEED, WIDE_STEP)
    return None if move is None else round(math.log10(move["lr"]), 1)


def test_a_bracket_starts_at_the_prior_and_walks_downhill() -> None:
    a = arm()
    assert rate(a) == -3.0
    add(a, 1e-3, 1.0)
    assert rate(a) == -2.5
    add(a, 3.2e-3, 0.5)
    assert rate(a) == -2.0
    add(a, 1e-2, 0.8)
    assert rate(a) in (-2.8, -2.7, -2.3, -2.2), "then it halves the wider side of the best"


def test_it_turns_round_when_the_first_step_was_uphill() -> None:
    a = arm()
    add(a, 1e-3, 0.5)
    add(a, 3.2e-3, 1.0)
    assert rate(a) == -3.5


def test_trials_in_flight_are_not_repeated() -> None:
    a = arm()
    add(a, 1e-3, None)
    assert rate(a) == -2.5
    add(a, 3.2e-3, None)
    assert rate(a) == -2.0


def test_after_divergence_it_goes_far_down() -> None:
    a = arm()
    add(a, 1e-3, 9.0, diverged=True)
    assert rate(a) == -4.0


def test_a_resolved_bracket_has_no_next_rate() -> None:
    a = arm()
    for x, y in ((-3.2, 0.6), (-3.0, 0.5), (-2.8, 0.6)):
        add(a, 10**x, y)
    assert a.rate_move(STEPS, SEED, WIDE_STEP) is None


def test_a_best_rate_at_the_edge_is_seen() -> None:
    a = arm()
    add(a, 1e-3, 1.0)
    add(a, 1e-2, 0.5)
    assert a.at_edge(STEPS, SEED)
    add(a, 1e-1, 0.9)
    assert not a.at_edge(STEPS, SEED)


def test_the_range_is_widened_by_a_decade_and_no_more() -> None:
    a = arm()
    for x in (-3.0, -2.0, -1.0, 0.0):
        add(a, 10**x, -x)
    assert a.rate_move(STEPS, SEED, WIDE_STEP) is None, (
        "0.1 is the end of the range, 1.0 that of the widened one"
    )


def test_the_final_length_begins_with_the_promised_rate() -> None:
    a = arm()
    for x, y in ((-3.0, 0.8), (-2.5, 0.5), (-2.0, 0.9)):
        add(a, 10**x, y)
    first = a.deep_move(800, SEED, 0, 9)
    assert first is not None
    assert first["lr"] == pytest.approx(10**-2.5, rel=0.35)


def test_then_it_looks_at_neighbours_and_then_at_other_hyperparameters() -> None:
    a = arm()
    for x, y in ((-3.0, 0.8), (-2.5, 0.5), (-2.0, 0.9)):
        add(a, 10**x, y)
    add(a, 10**-2.5, 0.4, steps=800)
    second = a.deep_move(800, SEED, 0, 10)
    assert second is not None
    assert abs(math.log10(second["lr"]) + 2.5) == pytest.approx(FINE_STEP, abs=0.05)
    add(a, second["lr"], 0.45, steps=800)
    third = a.deep_move(800, SEED, 0, 11)
    assert third is not None
    assert (math.log10(third["lr"]) + 2.5) * (math.log10(second["lr"]) + 2.5) < 0, "the other side"
    add(a, third["lr"], 0.45, steps=800)
    fourth = a.deep_move(800, SEED, 0, 12)
    assert fourth is not None
    assert fourth["weight_decay"] != 0.01
    assert math.log10(fourth["lr"]) == pytest.approx(-2.5, abs=0.01)


def test_the_users_own_optimizer_is_never_tuned() -> None:
    a = Arm("baseline", {}, {})
    assert a.deep_move(800, SEED, 0, 1) == {}
    a.tried[1] = Tried(1, "deepen", 800, SEED, {}, 0.5)
    assert a.deep_move(800, SEED, 0, 2) is None
