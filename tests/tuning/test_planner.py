from __future__ import annotations

from collections import Counter

import pytest

from autoopt.records import BASELINE, Hyper, Outcome, TrialResult
from autoopt.tuning.arm import key_of
from autoopt.tuning.earlier import earlier
from autoopt.tuning.limits import Limits
from autoopt.tuning.planner import Planner
from autoopt.tuning.race import FRESH_SEEDS
from autoopt.tuning.score import Score
from tests.tuning.simulated import INITIAL, SURFACES, Machine, Surface


def leader(planner: Planner) -> tuple[str, Hyper]:
    """What would be recommended."""
    option = planner.choice()
    assert option is not None
    return option.optimizer, option.hyper


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


@pytest.mark.parametrize("seconds", [20.0, 60.0, 100.0])
def test_no_trial_is_started_that_cannot_end_before_the_deadline(seconds: float) -> None:
    planner = Machine(SURFACES, seconds=seconds).planner()
    for elapsed in (0.0, 0.5 * seconds, 0.9 * seconds, 0.97 * seconds, seconds):
        trial = planner.ask(elapsed)
        if trial is not None:
            assert elapsed + planner.pace.seconds(trial.optimizer, trial.steps) <= planner.deadline
    assert planner.ask(seconds) is None


def test_a_large_budget_finds_the_best_optimizer_and_rate() -> None:
    machine = Machine(SURFACES, seconds=200.0)
    name, hyper = leader(machine.run())
    assert name == "muon"
    assert 0.003 < hyper["lr"] < 0.03


def test_more_budget_is_not_worse() -> None:
    """True loss of the first finalist at the real length, over several machines."""

    def regret(seconds: float) -> float:
        total = 0.0
        for i in range(3):
            surfaces = {n: Surface(s.floor, s.best - 0.2 * i, edge=s.edge) for n, s in SURFACES.items()}
            name, hyper = leader(Machine(surfaces, seconds=seconds).run())
            loss = surfaces[name].loss(hyper["lr"], 1000, 0.0)
            total += loss if loss is not None else 2.3
        return total

    large = regret(120.0)
    assert large <= regret(20.0) * 1.02
    assert large <= regret(4.0) * 1.02


def test_the_users_own_is_raced_and_confirmed() -> None:
    machine = Machine(SURFACES, seconds=200.0)
    machine.run()
    own = [r.spec for r in machine.log if r.spec.optimizer == BASELINE]
    assert {"race" in s.stage for s in own} == {True, False}
    assert {s.steps for s in own} == {1000}


def test_finalists_are_confirmed_on_seeds_that_tuning_never_saw() -> None:
    machine = Machine(SURFACES, seconds=200.0)
    machine.run()
    tuning = {r.spec.seed for r in machine.log if r.spec.stage != "confirm"}
    fresh = {r.spec.seed for r in machine.log if r.spec.stage == "confirm"}
    assert 0 in tuning
    assert max(tuning) < FRESH_SEEDS <= min(fresh)


def test_the_first_trial_of_every_configuration_is_on_the_tunings_seed() -> None:
    machine = Machine(SURFACES, seconds=300.0)
    machine.run()
    first: dict[tuple[object, int], int] = {}
    for r in machine.log:
        first.setdefault((key_of(r.spec.optimizer, r.spec.hyper), r.spec.steps), r.spec.seed)
    assert set(first.values()) == {0}


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
    half = Machine(SURFACES, seconds=60.0)
    half.run(until=25.0)
    one, two = (Machine(SURFACES, seconds=60.0).planner(told=half.log) for _ in range(2))
    trial = one.ask(half.now)
    assert trial is not None
    assert two.ask(half.now) == trial, "the same trials lead to the same next one"
    assert one.choice() == two.choice()
    before = {(r.spec.optimizer, str(r.spec.hyper), r.spec.steps, r.spec.seed) for r in half.log}
    assert trial.id > max(r.spec.id for r in half.log)
    assert (trial.optimizer, str(trial.hyper), trial.steps, trial.seed) not in before


def test_the_same_machine_runs_the_same_trials() -> None:
    one, two = Machine(SURFACES, seconds=60.0), Machine(SURFACES, seconds=60.0)
    one.run()
    two.run()
    assert one.log == two.log


def test_a_configuration_that_diverged_is_never_chosen_nor_confirmed_again() -> None:
    surfaces = {"adamw": Surface(0.3, -2.5), "sgd": Surface(0.1, -1.0, edge=-3.2)}
    machine = Machine(surfaces, seconds=100.0)
    planner = machine.run()
    worst = {key_of(r.spec.optimizer, r.spec.hyper) for r in machine.log if r.outcome is Outcome.DIVERGED}
    assert worst
    for name in (None, *surfaces):
        option = planner.choice(name)
        assert option is None or option.key not in worst
    gone: set[object] = set()
    for r in machine.log:
        key = key_of(r.spec.optimizer, r.spec.hyper)
        if r.spec.stage == "confirm":
            assert key not in gone
        if r.outcome is Outcome.DIVERGED:
            gone.add(key)


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
    assert leader(planner)[0] != "lion"


def test_a_limit_of_the_policy_drops_what_exceeds_it() -> None:
    machine = Machine(SURFACES, seconds=200.0)
    planner = machine.planner()
    planner.limits = Limits(step_time_relative=1.5)
    machine.run(planner)
    assert "over the limit" in planner.arms["muon"].dropped
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


def test_an_earlier_run_of_the_same_workload_saves_the_search_and_its_best_is_trained_here() -> None:
    before = Machine(SURFACES, seconds=100.0)
    before.run()
    told = earlier(before.log, Score(INITIAL), before.steps, same=True)
    best = min(told.trials, key=lambda p: (-p.steps, p.y))
    machine = Machine(SURFACES, seconds=15.0, earlier=(told,))
    planner = machine.run()
    first = min((r.spec for r in machine.log if r.spec.optimizer != BASELINE), key=lambda s: s.id)
    assert (first.optimizer, first.hyper["lr"]) == (best.optimizer, best.hyper["lr"])
    name, hyper = leader(planner)
    assert planner.arms[name].longest() is not None, "what is handed over was trained in this run"
    chosen, known = (
        SURFACES[n].loss(h["lr"], machine.steps, 0.0)
        for n, h in ((name, hyper), (best.optimizer, best.hyper))
    )
    assert chosen is not None
    assert known is not None
    assert chosen <= 1.05 * known


def test_earlier_trials_are_no_trials_of_this_run() -> None:
    before = Machine(SURFACES, seconds=30.0)
    before.run()
    planner = Machine(
        SURFACES, seconds=30.0, earlier=(earlier(before.log, Score(INITIAL), before.steps, same=True),)
    ).planner()
    assert planner.choice() is None
    assert all(not arm.tried for arm in planner.arms.values())


def test_an_earlier_run_that_says_nothing_changes_no_trial() -> None:
    plain, silent = (
        Machine(SURFACES, seconds=20.0, earlier=runs)
        for runs in ((), (earlier([], Score(INITIAL), 1000, same=False),))
    )
    plain.run()
    silent.run()
    assert plain.log == silent.log


def test_what_is_handed_over_was_trained_as_long_as_anything() -> None:
    """A configuration that is only believed to be best is trained before finalists get fresh seeds."""
    for i in range(6):
        surfaces = {n: Surface(s.floor, s.best - 0.15 * i, edge=s.edge) for n, s in SURFACES.items()}
        planner = Machine(surfaces, seconds=60.0 + 15.0 * i).run()
        longest = max(r.spec.steps for r in planner.results if r.outcome is Outcome.COMPLETED)
        chosen = planner.choice()
        assert chosen is not None
        assert planner.race.measured(chosen.key, longest), f"machine {i}: {chosen} after {longest} steps"
