"""Who takes part, and under which clipping and warm-up."""

from __future__ import annotations

from typing import Any

from torch import nn

from autoopt import contest
from autoopt import policy as policies
from autoopt.optim import build, groups, registry
from autoopt.policy_options import Tune
from autoopt.records import BASELINE, Baseline
from autoopt.tuning.planner import Planner
from tests.tuning.simulated import report

SPIKY = [0.5, 0.5, 0.5, 0.5, 0.5, 20.0]


def planner(norms: list[float], **tune: Any) -> Planner:
    told = report(1000, 0.01, baseline="adamw").model_copy(update={"gradient_norms": norms})
    policy = policies.load("balanced").restrict(["adamw", "sgd"])
    policy = policy.model_copy(update={"tune": Tune.model_validate(tune)})
    entry = contest.enter(policy, told, named=True)
    made, _ = contest.prepare(
        entry, told, budget=400.0, begin=0.0, deadline=390.0, workers=2, seed=0, done=[]
    )
    return made


def test_where_gradients_spike_all_but_the_users_own_are_clipped() -> None:
    arms = planner(SPIKY).arms
    assert {name: arm.start.get("clip") for name, arm in arms.items()} == {
        BASELINE: None,
        "adamw": 0.5,
        "sgd": 0.5,
    }


def test_a_clipped_configuration_says_nothing_certain_of_the_users_own() -> None:
    """Unclipped, the user's own AdamW is not believed to do as AdamW at the same rate does here."""

    def apart(p: Planner) -> float:
        own = next(o for o in p.view.options if o.optimizer == BASELINE)
        same = min(
            (o for o in p.view.options if o.optimizer == "adamw"), key=lambda o: abs(o.hyper["lr"] - 1e-3)
        )
        return p.view.difference(own, same).se

    assert apart(planner(SPIKY)) > 3 * apart(planner([]))


def test_lists_are_ladders_of_all_but_the_users_own_and_off_is_as_before() -> None:
    arms = planner([], clip=[1.0], warmup=[0.1]).arms
    assert arms["sgd"].ladders == {"clip": (0.0, 1.0), "warmup": (0.05, 0.1)}
    assert arms[BASELINE].ladders == {}
    off, calm = planner(SPIKY, clip="off"), planner([])
    assert [o.key for o in off.view.options] == [o.key for o in calm.view.options]


def test_a_users_plain_sgd_lends_ours_its_decay_but_not_its_lack_of_momentum() -> None:
    """Nesterov's momentum refuses 0, so that every trial of sgd would fail."""
    plain = {"lr": 0.1, "momentum": 0.0, "dampening": 0.0, "weight_decay": 1e-4}
    own = Baseline(
        source="configure_optimizers", optimizer="SGD", registry_name="sgd", hyper=plain, schedule=None
    )
    told = report(1000, 0.01).model_copy(update={"baseline": own})
    entry = contest.enter(policies.load("balanced").restrict(["sgd"]), told, named=True)
    made, _ = contest.prepare(
        entry, told, budget=400.0, begin=0.0, deadline=390.0, workers=2, seed=0, done=[]
    )
    start = made.arms["sgd"].start
    assert (start["momentum"], start["weight_decay"]) == (0.9, 1e-4)
    build.build(registry.get("sgd"), groups.split(nn.Linear(2, 2)), start)  # torch takes it
    assert made.field.own is None, "nor is it believed to be ours"
