"""The loss at equal wall-clock is read between an optimizer's own trials, and not told far from them."""

from __future__ import annotations

import pytest

from autoopt.recommend import recommend
from autoopt.records import Row
from tests.recommend.cases import ADAMW, MUON, evidence, tell
from tests.tuning.simulated import Machine


def rows(adamw: dict[int, float], *, muon_step: float, muon_steps: int = 1000) -> dict[str, Row]:
    """AdamW's losses by length, 10 ms a step, beside a better Muon that is recommended."""
    machine = Machine({"adamw": ADAMW, "muon": MUON}, seconds=300.0)
    planner = machine.planner()
    for steps, loss in adamw.items():
        tell(planner, "adamw", loss, steps=steps)
    for steps, loss in ((250, 0.02), (muon_steps, 0.01)):
        tell(planner, "muon", loss, steps=steps, step_seconds=muon_step)
    found = recommend(evidence(machine, planner))
    assert found.recommendation.optimizer == "muon"
    return {row.optimizer: row for row in found.optimizers}


def test_it_lies_between_its_own_trials() -> None:
    told = rows({250: 1.6, 500: 1.1, 1000: 0.8}, muon_step=0.005)["adamw"].loss_at_equal_time
    assert told == pytest.approx(1.13, rel=0.02), (
        "500 steps: half of a doubling on either side, in logarithms"
    )


def test_what_is_recommended_has_its_own_loss() -> None:
    row = rows({250: 1.6, 1000: 0.8}, muon_step=0.03)["muon"]
    assert row.expected is not None
    assert row.loss_at_equal_time == pytest.approx(row.expected.loss)


def test_far_beyond_its_trials_it_is_not_known() -> None:
    """Muon's 20 times as dear steps would give AdamW 20 times as many: a line would end at a loss of zero."""
    assert rows({250: 1.6, 1000: 0.8}, muon_step=0.2)["adamw"].loss_at_equal_time is None
    assert rows({500: 1.1, 1000: 0.8}, muon_step=0.0005)["adamw"].loss_at_equal_time is None


def test_a_line_that_ends_below_zero_tells_nothing() -> None:
    assert rows({250: 1.6, 1000: 0.02}, muon_step=0.0145)["adamw"].loss_at_equal_time is None


def test_an_optimizer_of_shorter_trials_is_compared_at_the_same_seconds() -> None:
    told = rows({125: 1.6, 500: 0.8}, muon_step=0.005)["adamw"]
    assert told.expected is not None
    assert told.expected.steps == 500
    assert told.loss_at_equal_time == pytest.approx(0.8), "1000 steps of half the price"
