"""Time to AdamW's final loss, on curves written by hand and in a whole recommendation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoopt.recommend import recommend
from autoopt.recommend.target import Curve, steps_to
from autoopt.records import BASELINE, Row
from tests.recommend.cases import ADAMW, MUON, SGD, evidence, tell
from tests.tuning.simulated import Machine


def falling(end: float, steps: int = 100) -> Curve:
    """From 10 down to `end`, at a constant pace."""
    return [(n, 10 + (end - 10) * n / steps) for n in range(1, steps + 1)]


def test_a_curve_that_falls_twice_as_fast_takes_half_the_steps() -> None:
    target = [(n, 5.0) for n in range(1, 101)]
    # A mean over a tenth of the run lags by half of that.
    assert steps_to(falling(0.0), target) == pytest.approx(54.5, abs=0.6)
    assert steps_to(falling(5.0), falling(5.0)) == pytest.approx(100)


def test_what_is_never_reached_is_not_known() -> None:
    assert steps_to(falling(6.0), falling(5.0)) is None
    assert steps_to([], falling(5.0)) is None


def rows(*, muon_curve: Curve, steps: int | None = None) -> dict[str, Row]:
    machine = Machine({"adamw": ADAMW, "sgd": SGD, "muon": MUON}, seconds=300.0)
    planner = machine.planner()
    longest = planner.layout.longest
    for name, curve, step in (("adamw", falling(5.0, longest), 0.01), ("muon", muon_curve, 0.02)):
        more = {"steps": steps} if name == "muon" and steps else {}
        tell(planner, name, curve[-1][1] / 10, curve=list(curve), step_seconds=step, **more)
    tell(planner, BASELINE, 0.9)
    return {row.optimizer: row for row in recommend(evidence(machine, planner)).optimizers}


def longest() -> int:
    return Machine({"adamw": ADAMW, "sgd": SGD, "muon": MUON}, seconds=300.0).planner().layout.longest


def test_the_seconds_are_steps_times_its_own_pace() -> None:
    n = longest()
    found = rows(muon_curve=falling(0.0, n))
    assert found["adamw"].seconds_to_adamw == pytest.approx(0.01 * n, rel=1e-3)
    assert found["muon"].seconds_to_adamw == pytest.approx(0.02 * 0.525 * n, rel=0.02)
    assert f"{n} steps" in found["muon"].seconds_to_adamw_reason


def test_why_it_is_not_known_is_told() -> None:
    n = longest()
    missed = rows(muon_curve=falling(7.0, n))["muon"]
    assert (missed.seconds_to_adamw, missed.seconds_to_adamw_reason) == (None, f"not reached in {n} steps")
    other = rows(muon_curve=falling(0.0, n // 2), steps=n // 2)["muon"]
    assert "no length and seed" in other.seconds_to_adamw_reason


def test_what_was_never_tried_is_told_with_the_true_reason() -> None:
    row = rows(muon_curve=falling(0.0, longest()))["sgd"]
    assert row.seconds_to_adamw_reason == f"not tried: {row.reason}"
    assert row.reason == "the time ran out before its turn"
    machine = Machine({"adamw": ADAMW, "sgd": SGD, "muon": replace(MUON, cost=500.0)}, seconds=60.0)
    planner = machine.planner()
    for name in ("adamw", BASELINE):
        tell(planner, name, 0.5, curve=list(falling(5.0, planner.layout.longest)))
    tell(planner, "sgd", None)
    found = {row.optimizer: row for row in recommend(evidence(machine, planner)).optimizers}
    assert found["muon"].seconds_to_adamw_reason == (
        "not tried: no trial of it fits the budget, its step takes 500 times AdamW's"
    )
    assert found["sgd"].seconds_to_adamw_reason == "no trial of it ended well"
