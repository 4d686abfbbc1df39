from __future__ import annotations

from collections import Counter

import pytest

from autoopt.records import BASELINE, Hyper, Outcome, TrialResult
from autoopt.tuning.arm import key_of
from autoopt.tuning.planner import Limits, Planner
from autoopt.tuning.race import FRESH_SEEDS
from tests.tuning.simulated import Machine, Surface

SURFACES = {
    "adamw": Surface(0.3, -2.5),
    "sgd": Surface(0.5, -1, edge=-0.3),
    "adan": Surface(0.25, -2, cost=1.3),
    "muon": Surface(0.15, -2, cost=1.8),
    "lion": Surface(0.3, -4),
    "nadam": Surface(0.32, -2.6),
}


def leader(planner: Planner) -> tuple[str, Hyper]:
    """The first finalist."""
    return planner.race.finalists(planner.layout.final_steps)[0]


@pytest.mark.parametrize("seconds", [3.0, 10.0, 40.0, 100.0, 300.0])
def test_trials_end_inside_the_budget(seconds: float) -> None:
    machine = Machine(SURFACES, seconds=seconds)
    machine.run()
    assert machine.now <= seconds * 1.02
    assert machine.log


def test_a_slow_machine_is_noticed_and_still_ends_in_time() -> None:
    machine = Machine(SURFACES, seconds=60.0, speed=2.5)
    machine.run()
    assert machine.now <= 60.0 * 1.1


def test_on_a_machine_slower_than_measured_the_final_length_shrinks_and_is_still_compared() -> None:
    machine = Machine(SURFACES, seconds=60.0, speed=3.0)
    planner = machine.run()
    assert machine.now <= 60.0 * 1.1
    final = planner.layout.final_steps
    assert any(r.spec.stage == "confirm" and r.spec.steps == final for r in machine.log)
    assert {r.spec.optimizer for r in machine.log if r.spec.steps == final} >= {BASELINE}


def test_a_large_budget_finds_the_best_optimizer_and_rate() -> None:
    machine = Machine(SURFACES, seconds=200.0)
    name, hyper = leader(machine.run())
    assert name == "muon"
    assert 0.003 < hyper["lr"] < 0.03


def test_more_budget_is_not_worse() -> None:
    """True loss of the first finalist at the real length, over several machines."""

    def regret(seconds: float) -> float:
        total = 0.0
        for i in range(4):
            surfaces = {n: Surface(s.floor, s.best - 0.2 * i, edge=s.edge) for n, s in SURFACES.items()}
            name, hyper = leader(Machine(surfaces, seconds=seconds).run())
            loss = surfaces[name].loss(hyper["lr"], 1000, 0.0)
            total += loss if loss is not None else 2.3
        return total

    large = regret(200.0)
    assert large <= regret(20.0) * 1.02
    assert large <= regret(4.0) * 1.02


def test_every_optimizer_of_the_screen_gets_the_same_number_of_rates() -> None:
    machine = Machine(SURFACES, seconds=100.0)
    planner = machine.run()
    screen = Counter(r.spec.optimizer for r in machine.log if r.spec.stage == "screen")
    assert set(planner.layout.optimizers) <= set(screen)
    extra = {n: c - 3 for n, c in screen.items() if n != BASELINE}
    assert all(0 <= e <= 1 for e in extra.values()), "one more only where the best is at the edge"


def test_the_users_own_is_in_every_stage() -> None:
    machine = Machine(SURFACES, seconds=200.0)
    machine.run()
    stages = {r.spec.stage for r in machine.log if r.spec.optimizer == BASELINE}
    assert stages == {"screen", "deepen", "confirm"}


def test_finalists_are_confirmed_on_seeds_that_tuning_never_saw() -> None:
    machine = Machine(SURFACES, seconds=200.0)
    machine.run()
    tuning = {r.spec.seed for r in machine.log if r.spec.stage != "confirm"}
    fresh = {r.spec.seed for r in machine.log if r.spec.stage == "confirm"}
    assert tuning == {0}
    assert min(fresh) >= FRESH_SEEDS


def test_no_configuration_is_run_twice_on_a_seed() -> None:
    machine = Machine(SURFACES, seconds=300.0)
    machine.run()
    seen = Counter((key_of(r.spec.optimizer, r.spec.hyper), r.spec.steps, r.spec.seed) for r in machine.log)
    assert max(seen.values()) == 1


def test_ids_are_unique() -> None:
    machine = Machine(SURFACES, seconds=60.0)
    machine.run()
    ids = [r.spec.id for r in machine.log]
    assert len(set(ids)) == len(ids)


def test_a_resume_is_a_replay() -> None:
    whole = Machine(SURFACES, seconds=60.0)
    whole.run()
    half = Machine(SURFACES, seconds=60.0)
    half.run(until=25.0)
    again = Machine(SURFACES, seconds=60.0)
    planner = again.planner(told=half.log)
    before = {(r.spec.optimizer, str(r.spec.hyper), r.spec.steps, r.spec.seed) for r in half.log}
    trial = planner.ask(half.now)
    assert trial is not None
    assert trial.id > max(r.spec.id for r in half.log)
    assert (trial.optimizer, str(trial.hyper), trial.steps, trial.seed) not in before


def test_a_configuration_that_diverges_is_no_finalist() -> None:
    surfaces = {"adamw": Surface(0.3, -2.5), "sgd": Surface(0.1, -1.0, edge=-3.5)}
    machine = Machine(surfaces, seconds=100.0)
    planner = machine.run()
    worst = {key_of(r.spec.optimizer, r.spec.hyper) for r in machine.log if r.outcome is Outcome.DIVERGED}
    assert worst
    assert not worst & {key_of(n, h) for n, h in planner.race.finalists(planner.layout.final_steps)}


def test_an_optimizer_that_fails_twice_is_dropped_and_the_rest_goes_on() -> None:
    machine = Machine(SURFACES, seconds=100.0)
    usual = machine.result

    def result(trial) -> TrialResult:  # type: ignore[no-untyped-def]
        if trial.optimizer == "lion":
            return TrialResult(
                spec=trial, outcome=Outcome.CRASHED, message="killed by SIGSEGV", seconds={"total": 0.1}
            )
        return usual(trial)

    machine.result = result  # type: ignore[method-assign]
    planner = machine.run()
    assert "SIGSEGV" in planner.arms["lion"].dropped
    last = next(r for r in machine.log if r.spec.optimizer == "lion")
    planner.tell(last.model_copy(update={"spec": last.spec.model_copy(update={"id": 10_000}), "message": ""}))
    assert "SIGSEGV" in planner.arms["lion"].dropped  # also after one that was in flight
    assert sum(r.spec.optimizer == "lion" for r in machine.log) == 2
    assert planner.race.finalists(planner.layout.final_steps)


def test_a_limit_of_the_policy_drops_what_exceeds_it() -> None:
    machine = Machine(SURFACES, seconds=60.0)
    planner = machine.planner()
    planner.limits = Limits(step_time_relative=1.5)
    machine.run(planner)
    assert "over the policy's limit" in planner.arms["muon"].dropped
    assert not planner.arms["adan"].dropped


def test_without_a_budget_nothing_is_asked() -> None:
    planner = Machine(SURFACES, seconds=0.5, step_seconds=1.0).planner()
    assert planner.ask(0.0) is None


def test_the_users_own_gets_no_fresh_seed_that_the_leader_does_not_get() -> None:
    for seconds in (20.0, 40.0, 60.0, 80.0, 100.0):
        machine = Machine(SURFACES, seconds=seconds)
        machine.run()
        fresh = {r.spec.seed: set[str]() for r in machine.log if r.spec.stage == "confirm"}
        for r in machine.log:
            if r.spec.stage == "confirm":
                fresh[r.spec.seed].add(r.spec.optimizer)
        assert {BASELINE} not in fresh.values()
