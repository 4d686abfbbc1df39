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
