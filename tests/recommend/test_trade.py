"""The sentence against tuned AdamW, and the front."""

from __future__ import annotations

import pytest

from autoopt.errors import NoResult
from autoopt.policy import Limits as Allowed
from autoopt.recommend import recommend
from autoopt.records import BASELINE, Recommendation
from autoopt.tuning.limits import Limits
from autoopt.tuning.race import FRESH_SEEDS
from tests.recommend.cases import ADAMW, MUON, SGD, by_hand, evidence, tell
from tests.tuning.simulated import Machine


def trades(rec: Recommendation) -> dict[str, str]:
    return {row.optimizer: row.trade for row in rec.optimizers}


def test_a_decided_difference_is_told_in_percent_and_costs_in_times() -> None:
    rec = by_hand(
        {"adamw": [1.0] * 5, "muon": [0.6] * 5, "sgd": [2.0] * 5, BASELINE: [2.0] * 5},
        {"adamw": 0.01, "muon": 0.02, "sgd": 0.01},
    )
    told = trades(rec)
    # Its step was timed beside AdamW's before the trials, which are not alone on the machine.
    assert told["muon"] == "40 % lower loss than AdamW, 1 x its state, 1.8 x its step"
    assert told["sgd"].startswith("100 % higher loss than AdamW")
    assert told["adamw"] == ""


def test_what_is_not_decided_is_noise() -> None:
    rec = by_hand({"adamw": [1.0], "muon": [0.99], BASELINE: [1.2]})
    assert trades(rec)["muon"].startswith("the same loss as AdamW within noise")


def test_the_front_needs_no_equal_in_all_three() -> None:
    rec = by_hand(
        {"adamw": [1.0] * 3, "muon": [0.6] * 3, "sgd": [2.0] * 3, BASELINE: [2.0] * 3},
        {"adamw": 0.01, "muon": 0.02, "sgd": 0.015},
    )
    front = {row.optimizer for row in rec.optimizers if row.pareto}
    assert front == {"adamw", "muon"}, "sgd is slower than AdamW here, and worse"


def limited(peaks: dict[str, int], allowed: int) -> Recommendation:
    machine = Machine({"adamw": ADAMW, "sgd": SGD, "muon": MUON}, seconds=300.0)
    planner = machine.planner()
    planner.limits = Limits(memory=allowed)
    for name, peak in peaks.items():
        for seed in range(3):
            loss = {"adamw": 1.0, "muon": 0.5, "sgd": 2.0, BASELINE: 1.5}[name]
            tell(planner, name, loss, seed=FRESH_SEEDS + seed, peak_bytes=peak)
    return recommend(evidence(machine, planner, limits=Allowed(memory=allowed)))


def test_the_best_is_not_recommended_where_it_needs_too_much() -> None:
    rec = limited({"muon": 23_000, "adamw": 18_000, BASELINE: 25_000}, 20_000)
    assert rec.recommendation.optimizer == "adamw"
    rows = {row.optimizer: row for row in rec.optimizers}
    assert rows["muon"].reason == "over the limit: 23 kB, 20 kB are allowed"
    assert rows[BASELINE].reason.startswith("over the limit: 25 kB")
    assert not rows["muon"].pareto


def test_nothing_within_the_limit_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(NoResult, match=r"within the limit memory=20000.*nearest is Muon.* 23 kB") as caught:
        limited({"muon": 23_000, "adamw": 30_000, "sgd": 40_000, BASELINE: 25_000}, 20_000)
    assert caught.value.exit_code == 5
