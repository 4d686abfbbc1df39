"""Optimizers that ran out of memory: who leaves, and what the user is told when nobody is left."""

from __future__ import annotations

import pytest

from autoopt.errors import NoResult
from autoopt.recommend import recommend
from autoopt.records import Outcome, Shortage
from autoopt.trials.shortage import sentence
from tests.recommend.cases import ADAMW, SGD, evidence, tell
from tests.tuning.simulated import Machine

SHORT = Shortage(device="cuda:0", asked=2**31, free=2**30, total=2**33, batch=64, fits=16, accumulate=4)


def ran_out(shortage: Shortage = SHORT, **more: object) -> dict[str, object]:
    return {"outcome": Outcome.OUT_OF_MEMORY, "message": sentence(shortage), "shortage": shortage, **more}


def test_who_ran_out_leaves_with_the_reason_and_others_go_on() -> None:
    machine = Machine({"adamw": ADAMW, "sgd": SGD}, seconds=300.0)
    planner = machine.planner()
    tell(planner, "adamw", None, **ran_out())
    tell(planner, "sgd", 0.4)
    found = recommend(evidence(machine, planner))
    assert found.recommendation.optimizer == "sgd"
    (row,) = [r for r in found.optimizers if r.optimizer == "adamw"]
    assert row.status == "failed"
    assert row.reason == f"failed: {sentence(SHORT)}"
    assert "asked for 2.0 GiB with 1.0 GiB of 8.0 GiB free; a step fits with batches of 16" in row.reason


def test_who_ran_out_while_somebody_else_held_memory_gets_a_second_trial() -> None:
    planner = Machine({"adamw": ADAMW, "sgd": SGD}, seconds=300.0).planner()
    tell(planner, "adamw", None, **ran_out(disturbed="process 7 of ann came onto it"))
    assert not planner.arms["adamw"].dropped
    tell(planner, "adamw", None, lr=2e-3, **ran_out())
    assert planner.arms["adamw"].dropped


def test_when_all_ran_out_the_error_says_what_fits() -> None:
    machine = Machine({"adamw": ADAMW, "sgd": SGD}, seconds=300.0)
    planner = machine.planner()
    tell(planner, "adamw", None, **ran_out())
    tell(planner, "sgd", None, **ran_out(SHORT.model_copy(update={"fits": 32, "accumulate": 2})))
    assert planner.ask(1.0) is None or planner.ask(1.0).optimizer == "baseline"  # type: ignore[union-attr]
    with pytest.raises(NoResult, match="out of memory on cuda:0") as caught:
        recommend(evidence(machine, planner))
    assert caught.value.hint.startswith(
        "Make the batches 32 samples in train_dataloader() and pass --accumulate 2"
    )
