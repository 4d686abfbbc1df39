"""Trials that shared their device for a while: their losses count, their times do not."""

from __future__ import annotations

from autoopt.recommend import recommend
from autoopt.records import Recommendation
from autoopt.tuning.limits import Limits
from autoopt.tuning.planner import Planner
from autoopt.tuning.race import FRESH_SEEDS
from tests.recommend.cases import ADAMW, SGD, evidence, tell
from tests.tuning.simulated import Machine

WHO = "process 7 of ann came onto it"


def started() -> tuple[Machine, Planner]:
    machine = Machine({"adamw": ADAMW, "sgd": SGD}, seconds=300.0)
    return machine, machine.planner()


def noted(found: Recommendation, text: str) -> list[str]:
    return [note for note in found.notes if text in note]


def test_a_disturbed_time_is_left_out_and_its_loss_is_not() -> None:
    machine, planner = started()
    tell(planner, "adamw", 0.4, seed=FRESH_SEEDS, step_seconds=0.01)
    tell(planner, "adamw", 0.2, seed=FRESH_SEEDS + 1, step_seconds=9.0, disturbed=WHO)
    tell(planner, "adamw", 0.3, seed=FRESH_SEEDS + 2, step_seconds=9.0, disturbed=WHO, repeated=WHO)
    found = recommend(evidence(machine, planner))
    assert found.expected.step_seconds == 0.01
    assert found.expected.seeds == 3
    assert noted(found, "1 trial was repeated because somebody else came onto the device: process 7 of ann")
    (note,) = noted(found, "2 trials stayed disturbed")
    assert "had no undisturbed trial" not in note


def test_disturbed_times_are_better_than_none_and_it_is_said() -> None:
    machine, planner = started()
    tell(planner, "adamw", 0.4, seed=FRESH_SEEDS, step_seconds=9.0, disturbed=WHO)
    found = recommend(evidence(machine, planner))
    assert found.expected.step_seconds == 9.0
    assert noted(found, "adamw had no undisturbed trial, so their times are too long")


def test_undisturbed_trials_make_no_note() -> None:
    machine, planner = started()
    tell(planner, "adamw", 0.4, seed=FRESH_SEEDS)
    assert not noted(recommend(evidence(machine, planner)), "disturbed")


def test_nobody_is_dropped_for_a_time_that_was_disturbed() -> None:
    _, planner = started()
    planner.limits = Limits(step_time=1.0)
    tell(planner, "sgd", 0.4, step_seconds=9.0, disturbed=WHO)
    assert not planner.arms["sgd"].dropped
    tell(planner, "sgd", 0.4, step_seconds=9.0, seed=1)
    assert planner.arms["sgd"].dropped
