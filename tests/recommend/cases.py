"""Evidence from a machine that trains nothing."""

from __future__ import annotations

from typing import Any, Literal

from autoopt import policy
from autoopt.recommend import Evidence, recommend
from autoopt.records import BASELINE, Baseline, Outcome, Recommendation, TrialResult, TrialSpec
from autoopt.tuning.planner import Planner
from autoopt.tuning.race import FRESH_SEEDS
from tests.tuning.simulated import Machine, Surface, report

ADAMW = Surface(0.3, -2.5)
MUON = Surface(0.15, -2.0, cost=1.8)
SGD = Surface(0.5, -1.0, edge=-0.3)
RIVALS = {"adamw": ADAMW, "sgd": SGD, "muon": MUON}
DIGESTS = ["a", "b"]


def evidence(
    machine: Machine,
    planner: Planner | None = None,
    *,
    own: str | None = "adamw",
    source: Literal["configure_optimizers", "default"] = "configure_optimizers",
    complete: bool = True,
    changes: dict[str, Any] | None = None,
    **policy_changes: Any,
) -> Evidence:
    """What a machine has found out; `own` is the registry name of the user's optimizer."""
    if planner is None:
        planner = machine.run()
    candidates = {name: policy.Candidate() for name in machine.surfaces}
    told = report(machine.steps, machine.step_seconds).model_copy(
        update={
            "baseline": Baseline(
                source=source,
                optimizer="AdamW",
                registry_name=own,
                hyper={"lr": machine.baseline_lr},
                schedule=None,
            ),
            **(changes or {}),
        }
    )
    return Evidence(
        name="model",
        report=told,
        policy=policy.load("balanced").model_copy(update={"candidates": candidates, **policy_changes}),
        specs=planner.specs,
        planner=planner,
        ledger={"train": 1.23456, "wall": 2.0},
        provenance={"seed": 0},
        complete=complete,
        notes=["a note of the workload"],
    )


def tell(planner: Planner, name: str, loss: float | None, *, seed: int = 0, **more: Any) -> None:
    """A trial by hand: `loss` None diverged; `steps`, `lr`, `options`, `step_seconds`, `outcome`, `digests`."""
    lr, options = more.pop("lr", 1e-3), more.pop("options", {})
    hyper = {} if name == BASELINE else {"lr": lr, "weight_decay": 0.01, **options}
    steps = more.pop("steps", planner.layout.longest)
    trial = TrialSpec(
        id=len(planner.results) + 1, stage="test", optimizer=name, hyper=hyper, steps=steps, seed=seed
    )
    outcome = more.pop("outcome", Outcome.DIVERGED if loss is None else Outcome.COMPLETED)
    given: dict[str, Any] = {
        "seconds": {"total": 1.0},
        "step_seconds": 0.01,
        "state_bytes": 80,
        "peak_bytes": 200,
        "digests": DIGESTS,
    }
    planner.tell(TrialResult(spec=trial, outcome=outcome, loss=loss, **given | more))


def by_hand(
    losses: dict[str, list[float]], seconds: dict[str, float] | None = None, **options: Any
) -> Recommendation:
    """Fresh seeds at the real length, and nothing else."""
    machine = Machine({"adamw": ADAMW, "sgd": SGD, "muon": MUON}, seconds=300.0)
    planner = machine.planner()
    for name, values in losses.items():
        for seed, loss in enumerate(values):
            step = (seconds or {}).get(name, 0.01)
            tell(planner, name, loss, seed=FRESH_SEEDS + seed, step_seconds=step)
    return recommend(evidence(machine, planner, **options))
