"""What the budget could not try, and is handed on all the same."""

from __future__ import annotations

from typing import Any

import pytest

from autoopt.recommend import recommend
from autoopt.records import BASELINE
from autoopt.tuning.knowledge import Knowledge, Network
from autoopt.tuning.limits import Limits
from autoopt.tuning.planner import Planner
from tests.recommend.cases import ADAMW, evidence, tell
from tests.tuning.simulated import Machine, Surface

NETWORKS = ("first", "second", "third", "fourth")
GAPS = {"muon": 0.0, "adamw": 0.6}
"""Elsewhere Muon was far ahead, at every rate and length."""
KNOWN = Knowledge(
    {name: Network("cnn", 10, 1000) for name in NETWORKS},
    {
        (network, name): {float(s): ((-4.0, gap), (-3.0, gap), (-2.0, gap)) for s in range(5)}
        for network in NETWORKS
        for name, gap in GAPS.items()
    },
)


def tight(muon: float = 10.0, seconds: float = 3.0) -> tuple[Machine, Planner]:
    """A budget for some trials of AdamW, and for none of a Muon whose steps take so many times as long."""
    machine = Machine({"adamw": ADAMW, "muon": Surface(0.15, -2.0, cost=muon)}, seconds=seconds, known=KNOWN)
    planner = machine.planner()
    if muon > 1:
        assert planner.arms["muon"].dropped.startswith("cut: no trial of it fits the budget")
    tell(planner, "adamw", 0.5)
    return machine, planner


def test_the_favourite_that_no_trial_fits_is_handed_on_and_said_to_be_untried() -> None:
    found = recommend(evidence(*tight(), source="default"))
    assert found.recommendation.optimizer == "muon"
    assert not found.recommendation.tuned
    assert found.expected.loss is None
    assert found.against_yours.sentence.startswith("not tried here: Muon")
    assert "too dear for the budget" in found.against_yours.sentence
    assert found.confidence.label == "low"
    assert "was not tried here" in found.reason
    assert "better than Adamw, the best that was, with" in found.reason
    rows = {row.optimizer: row for row in found.optimizers}
    assert rows["adamw"].status == "undecided"
    assert "the best that was tried" in rows["adamw"].reason
    assert rows["adamw"].expected is not None, "what was measured is shown"
    assert all(row.status != "recommended" for row in found.optimizers)
    assert found.promise == []


@pytest.mark.parametrize(
    "more", [{"source": "configure_optimizers"}, {"source": "default", "objective": "loss_at_time"}]
)
def test_who_has_an_optimizer_or_pays_for_time_gets_what_was_tried(more: dict[str, Any]) -> None:
    assert recommend(evidence(*tight(), **more)).recommendation.optimizer in ("adamw", BASELINE)


def test_under_a_limit_of_memory_nothing_is_handed_on_that_was_not_measured() -> None:
    machine, planner = tight()
    planner.limits = Limits(memory=10_000)
    assert recommend(evidence(machine, planner, source="default")).recommendation.optimizer == "adamw"


def test_one_that_a_limit_would_keep_out_is_not_handed_on() -> None:
    machine, planner = tight()
    planner.limits = Limits(step_time_relative=2.0)
    assert recommend(evidence(machine, planner, source="default")).recommendation.optimizer == "adamw"


def test_one_whose_steps_take_dozens_of_times_as_long_is_not_handed_on() -> None:
    machine, planner = tight(muon=40.0, seconds=12.0)
    assert recommend(evidence(machine, planner, source="default")).recommendation.optimizer == "adamw"


def test_where_a_trial_of_it_fits_it_has_to_be_tried() -> None:
    machine, planner = tight(muon=1.0)
    assert not planner.arms["muon"].dropped
    assert recommend(evidence(machine, planner, source="default")).recommendation.optimizer == "adamw"
