from __future__ import annotations

import math

from tests.tuning.simulated import SURFACES, Machine


def test_adamw_and_sgd_get_a_bracket_of_rates_where_the_budget_is_roomy() -> None:
    machine = Machine(SURFACES, seconds=200.0)
    planner = machine.run()
    assert planner.layout.capacity >= 20
    for name in ("adamw", "sgd"):
        tried = [t.hyper["lr"] for t in planner.arms[name].tried.values()]
        for by in (-0.5, 0.0, 0.5):
            near = [r for r in tried if abs(math.log10(r) - (planner.field.prior.centre[name] + by)) < 0.13]
            assert near, (name, by)


def test_many_workers_try_different_things_and_give_finalists_fresh_seeds_in_full_length() -> None:
    machine = Machine(SURFACES, seconds=40.0, workers=32)  # three full runs
    planner = machine.run()
    keys = [(t.spec.optimizer, tuple(t.spec.hyper.items()), t.spec.steps, t.spec.seed) for t in machine.log]
    assert len(set(keys)) == len(keys)
    fresh = [r for r in machine.log if r.spec.stage == "confirm" and r.spec.seed >= 1000]
    assert len(fresh) >= 6
    assert {r.spec.steps for r in fresh} == {planner.layout.longest} == {1000}
    # Those left over go on racing beside the finals.
    begun = planner.deadline - planner.layout.confirm_seconds
    assert begun < planner.deadline - machine.planner().pace.seconds("adamw", 1000)
