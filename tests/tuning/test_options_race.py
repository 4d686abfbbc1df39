"""Clipping and batches in a race: the real run's own comes first, a change is kept only where it is better."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from autoopt.records import BASELINE, Outcome, Shortage, TrialResult, TrialSpec
from autoopt.tuning.limits import Limits
from autoopt.tuning.planner import Planner
from tests.tuning.simulated import Machine, Surface


@dataclass
class Clipping(Machine):
    """Clipping at 1 multiplies the loss."""

    by: float = 1.0

    def planner(self, told: list[TrialResult] | None = None) -> Planner:
        planner = super().planner(told)
        for arm in planner.arms.values():
            if arm.name != BASELINE:
                arm.ladders = {"clip": (0.0, 1.0)}
        return planner

    def result(self, trial: TrialSpec) -> TrialResult:
        found = super().result(trial)
        if "clip" not in trial.hyper or found.loss is None:
            return found
        return found.model_copy(update={"loss": self.by * found.loss})


@pytest.mark.parametrize(("by", "kept"), [(0.75, True), (1.25, False)])
def test_a_change_is_tried_and_handed_over_only_if_it_is_better(by: float, kept: bool) -> None:
    machine = Clipping({"adamw": Surface(0.3, -2.5)}, seconds=400.0, by=by)
    planner = machine.run()
    clipped = ["clip" in r.spec.hyper for r in planner.results]
    assert any(clipped)
    assert not any(clipped[:3]), "the real run's own first"
    assert all(r.spec.steps == machine.steps for r in planner.results if "clip" in r.spec.hyper)
    assert not any("clip" in r.spec.hyper for r in planner.results if r.spec.optimizer == BASELINE)
    choice = planner.choice()
    assert choice is not None
    assert ("clip" in choice.hyper) == kept


@dataclass
class Batches(Machine):
    """Twice the batch multiplies the loss, wants sqrt(2) times the rate, and may cost more memory than there is."""

    by: float = 1.0
    short: bool = False

    def planner(self, told: list[TrialResult] | None = None) -> Planner:
        planner = super().planner(told)
        for arm in planner.arms.values():
            if arm.name != BASELINE:
                arm.ladders = {"batch": (1.0, 2.0)}
        return planner

    def result(self, trial: TrialSpec) -> TrialResult:
        if "batch" not in trial.hyper:
            return super().result(trial)
        times = trial.hyper["batch"]
        alike = trial.model_copy(update={"hyper": {**trial.hyper, "lr": trial.hyper["lr"] / times**0.5}})
        found = super().result(alike)
        changes = {"spec": trial, "steps_done": round(trial.steps / times), "step_seconds": 0.018}
        if self.short:
            shortage = Shortage(device="cuda:0")
            changes |= {"outcome": Outcome.OUT_OF_MEMORY, "loss": None, "shortage": shortage}
        elif found.loss is not None:
            changes["loss"] = self.by * found.loss
        return found.model_copy(update=changes)


@pytest.mark.parametrize(("by", "kept"), [(0.75, True), (1.25, False)])
def test_a_larger_batch_is_tried_at_the_real_length_and_kept_only_if_it_is_better(
    by: float, kept: bool
) -> None:
    machine = Batches({"adamw": Surface(0.3, -2.5)}, seconds=400.0, by=by)
    planner = machine.run()
    larger = [r.spec for r in planner.results if "batch" in r.spec.hyper]
    assert larger
    assert not any("batch" in r.spec.hyper for r in planner.results[:3]), "the real run's own first"
    assert {spec.steps for spec in larger} == {machine.steps}, "as many samples"
    choice = planner.choice()
    assert choice is not None
    assert ("batch" in choice.hyper) == kept
    if kept:
        # What is best for the run's own batch is best for the larger one when it is scaled.
        assert math.log10(choice.hyper["lr"]) == pytest.approx(-2.5 + math.log10(2) / 2, abs=0.3)


def test_a_batch_that_does_not_fit_leaves_the_optimizer_in_the_race() -> None:
    machine = Batches({"adamw": Surface(0.3, -2.5)}, seconds=400.0, short=True)
    planner = machine.run()
    failed = [r for r in planner.results if r.outcome is Outcome.OUT_OF_MEMORY]
    assert len(failed) > 1
    assert planner.arms["adamw"].dropped == ""
    choice = planner.choice()
    assert choice is not None
    assert "batch" not in choice.hyper


def test_a_batch_over_the_policys_memory_is_not_handed_over() -> None:
    machine = Batches({"adamw": Surface(0.3, -2.5)}, seconds=400.0, by=0.5)
    planner = machine.planner()
    planner.limits = Limits(memory=300, step_time=0.015)
    found = machine.result(
        TrialSpec(
            id=1, stage="race 1", optimizer="adamw", hyper={"lr": 3e-3, "batch": 2.0}, steps=1000, seed=0
        )
    )
    planner.tell(found)
    assert planner.arms["adamw"].tried[1].alive, "0.018 s for two steps' samples are within 0.015 s for one's"
    planner.tell(found.model_copy(update={"peak_bytes": 400}))
    assert planner.arms["adamw"].tried[1].failed
    assert planner.arms["adamw"].dropped == ""
    assert planner.over("adamw") is None
