"""Clipping and warm-up in a race: the real run's own comes first, a change is kept only where it is better."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from autoopt.records import BASELINE, TrialResult, TrialSpec
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
