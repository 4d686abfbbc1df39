from __future__ import annotations

from autoopt.records import BASELINE
from autoopt.tuning.earlier import Earlier, earlier
from autoopt.tuning.entry import CUT
from autoopt.tuning.limits import Limits
from autoopt.tuning.score import Score
from tests.tuning.simulated import INITIAL, SURFACES, Machine, Surface


def test_a_small_budget_keeps_adamw_and_says_whom_it_cut() -> None:
    planner = Machine(SURFACES, seconds=10.0).planner()
    assert not planner.arms["adamw"].dropped
    cut = [n for n, a in planner.arms.items() if a.dropped == CUT]
    assert len(cut) == len(SURFACES) - 3
    assert {o.optimizer for o in planner.field.options}.isdisjoint(cut)


def test_a_dear_favourite_enters_when_its_shortest_trial_takes_half_of_the_budget() -> None:
    """Known to be best elsewhere, it is worth the one trial that it can have."""
    surfaces = {"adamw": Surface(0.3, -2.5), "muon": Surface(0.1, -2.0, cost=4.0)}
    shares = dict[bool, list[float]]({True: [], False: []})
    for seconds in range(2, 12):
        planner = Machine(surfaces, seconds=float(seconds)).planner()
        if planner.layout.lengths:
            shortest = planner.pace.seconds("muon", planner.layout.lengths[-1])
            shares[not planner.arms["muon"].dropped].append(shortest / seconds)
    assert max(shares[True]) > 0.45
    assert max(shares[True]) <= 0.6 < min(shares[False])


def test_an_optimizer_of_which_no_trial_fits_is_cut_and_says_why() -> None:
    machine = Machine({"adamw": Surface(0.3, -2.5), "muon": Surface(0.1, -2.0, cost=500.0)}, seconds=60.0)
    planner = machine.run()
    assert (
        planner.arms["muon"].dropped
        == "cut: no trial of it fits the budget, its step takes 500 times AdamW's"
    )
    assert not planner.arms["muon"].tried
    assert planner.arms["adamw"].tried


def test_whoever_is_cut_for_its_cost_is_told_with_the_rounds_that_it_rests_on() -> None:
    surfaces = {"adamw": Surface(0.3, -2.5), "muon": Surface(0.1, -2.0, cost=500.0)}
    machine = Machine(surfaces, seconds=60.0, rounds_timed={"muon": 3})
    assert (
        machine.planner()
        .arms["muon"]
        .dropped.endswith("its step takes 500 times AdamW's (timed in 3 rounds)")
    )
    limited = Machine(
        {"adamw": Surface(0.3, -2.5), "muon": SURFACES["muon"]},
        rounds_timed={"muon": 1},
        limits=Limits(step_time_relative=1.2),
    )
    assert limited.planner().arms["muon"].dropped == (
        "over the limit: 1.8 times AdamW's step, 1.2 are allowed (timed in 1 round)"
    )


def test_an_earlier_run_cuts_nobody_who_would_race_without_it() -> None:
    before = Machine(SURFACES, seconds=100.0)
    before.run()
    told = earlier(before.log, Score(INITIAL), before.steps, same=True)

    def entered(*runs: Earlier) -> set[str]:
        planner = Machine(SURFACES, seconds=15.0, earlier=runs).planner()
        return {name for name, arm in planner.arms.items() if not arm.dropped}

    assert entered() < set(SURFACES) | {BASELINE}
    assert entered() <= entered(told)
