from __future__ import annotations

import math

import pytest

from autoopt.records import BASELINE, Outcome
from benchmarks.choice import replay
from benchmarks.choice.surface import DEFAULT_RATE, Surface
from benchmarks.choice.world import World, in_turns
from tests.benchmarks.choice_tables import EASY, INITIAL, STEPS, TRAP, bowl, rates, row, rows, surface


def test_measured_points_come_back_as_they_are() -> None:
    toy = surface(EASY)
    for one in rows(EASY):
        point = toy.trial(one["optimizer"], one["settings"]["lr"], one["steps"])
        assert toy.loss(point.v) == pytest.approx(min(one["loss"], INITIAL), rel=1e-9)


def test_between_rates_and_lengths_it_is_linear_in_the_logs() -> None:
    toy = surface(EASY)
    low, high = rates("sgd")[2:4]
    a, b = (toy.trial("sgd", rate, STEPS).v for rate in (low, high))
    assert toy.trial("sgd", math.sqrt(low * high), STEPS).v == pytest.approx((a + b) / 2, abs=1e-3)
    short = toy.trial("sgd", low, STEPS // 2).v
    assert toy.trial("sgd", low, round(STEPS / math.sqrt(2))).v == pytest.approx((a + short) / 2, abs=1e-3)


def test_a_rate_nearer_to_one_that_diverged_diverges_and_one_beyond_the_last_only_gets_worse() -> None:
    toy = surface(TRAP)
    grid = rates("adamw")
    alive = [r for r in grid if not toy.trial("adamw", r, STEPS).diverged]
    assert alive
    assert len(alive) < len(grid)
    last, first = alive[-1], grid[len(alive)]
    assert toy.trial("adamw", last**0.4 * first**0.6, STEPS).diverged
    assert not toy.trial("adamw", last**0.6 * first**0.4, STEPS).diverged
    assert toy.trial("adamw", 10 * grid[-1], STEPS).diverged
    assert toy.trial("sgd", grid[0] / 1e3, STEPS).v >= toy.trial("sgd", rates("sgd")[0], STEPS).v


def test_a_run_that_ends_no_better_than_it_began_has_diverged_and_counts_as_the_initial_loss() -> None:
    toy = surface({"adamw": bowl(0.3), "sgd": lambda x, steps: 3 * INITIAL if x > 1 else 0.2})
    point = toy.score("sgd", rates("sgd")[-1])
    assert point.diverged
    assert toy.loss(point.v) == pytest.approx(INITIAL)


def test_choices_are_scored_on_fresh_seeds_and_tuned_on_the_others() -> None:
    rate = rates("muon")[2]
    table = rows(EASY) + [row("muon", rate, STEPS, seed, 0.2) for seed in (1000, 1001, 1002)]
    toy = Surface("toy", table)
    assert toy.loss(toy.trial("muon", rate, STEPS).v) == pytest.approx(0.1, rel=1e-3)
    assert toy.loss(toy.trial("muon", rate, STEPS, fresh=True).v) == pytest.approx(0.2)
    # Nobody else has fresh seeds: they are taken to have been as lucky.
    sgd = rates("sgd")[3]
    apart = toy.score("sgd", sgd).v - toy.trial("sgd", sgd, STEPS).v
    assert apart == pytest.approx(math.log((0.2 + toy.c) / (0.1 + toy.c)), rel=1e-2)


def test_the_noise_is_the_tables_the_same_for_the_same_tuning_and_other_for_another() -> None:
    toy = surface(EASY, noise=(0.1, -0.1))
    assert 0.02 < math.hypot(toy.spread.own, toy.spread.shared) < 0.2
    first, again, other = World(toy, 1), World(toy, 1), World(toy, 2)
    rate = rates("adamw")[3]
    assert first.run("adamw", rate, STEPS, 0) == again.run("adamw", rate, STEPS, 0)
    assert first.run("adamw", rate, STEPS, 0) != other.run("adamw", rate, STEPS, 0)
    assert surface(EASY).spread.own == 0


def test_workers_take_turns_and_nothing_starts_that_would_end_late() -> None:
    ended = []
    jobs = iter([3.0, 1.0, 1.0, 9.0, 1.0])

    def ask(now: float) -> tuple[float, object] | None:
        seconds = next(jobs, None)
        return None if seconds is None else (seconds, lambda: ended.append(now + seconds))

    assert in_turns(2, 5.0, ask) == 4.0  # the worker that drew the long one rests; the other takes the last
    assert ended == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("budget", [0.3, 3.0, 15.0])
def test_the_product_runs_over_a_table_within_its_budget(budget: float) -> None:
    toy = surface(EASY, noise=(0.02, -0.02))
    seconds = budget * toy.full_run
    found, planner = replay.tune(World(toy, 0), seconds)
    done = [r for r in planner.results if r.outcome is not Outcome.CANCELLED]
    assert sum(r.seconds["total"] for r in done) <= 2 * 1.02 * seconds
    assert found is None or found.recommendation.optimizer in {*EASY, BASELINE}
    if budget >= 3:
        raced = {r.spec.optimizer for r in done}
        assert raced >= {"adamw", BASELINE}
        assert len(raced) >= 4  # the favourite and one more, or what the budget reaches


def test_lengths_far_below_an_eighth_are_interpolated_like_all_others() -> None:
    toy = Surface("toy", rows(EASY, parts=(128, 32, 8, 4, 2, 1)))
    rate = rates("muon")[2]
    for part in (128, 32):
        assert toy.loss(toy.trial("muon", rate, STEPS // part).v) == pytest.approx(
            min(0.1 * 1.5 ** math.log2(STEPS / (STEPS // part)), INITIAL), rel=1e-3
        )
    ends = [toy.trial("muon", rate, STEPS // part).v for part in (32, 8)]
    assert toy.trial("muon", rate, STEPS // 16).v == pytest.approx(sum(ends) / 2, rel=1e-9)


@pytest.mark.parametrize("budget", [0.03, 0.1])
def test_budgets_of_a_fraction_of_a_run_are_played_on_long_tables(budget: float) -> None:
    toy = Surface("toy", rows(EASY, (0.02, -0.02), (128, 32, 8, 4, 2, 1)))
    seconds = budget * toy.full_run
    found, planner = replay.tune(World(toy, 0), seconds)
    done = [r for r in planner.results if r.outcome is not Outcome.CANCELLED]
    assert sum(r.seconds["total"] for r in done) <= 2 * 1.02 * seconds
    assert found is None or found.recommendation.optimizer in {*EASY, BASELINE}


def test_a_large_budget_finds_the_best_optimizer_the_same_one_each_time() -> None:
    toy = surface(EASY, noise=(0.02, -0.02))
    first = replay.autoopt(World(toy, 3), 15 * toy.full_run, 2)
    assert first.optimizer == "muon"
    assert toy.score(first.optimizer, first.rate).v - toy.best()[2] < 0.1
    assert replay.autoopt(World(toy, 3), 15 * toy.full_run, 2) == first


def test_the_baseline_is_its_own_rows_where_there_are_any() -> None:
    assert surface(EASY).trial(BASELINE, DEFAULT_RATE, STEPS) == surface(EASY).trial(
        "adamw", DEFAULT_RATE, STEPS
    )
    table = rows(EASY) + [row(BASELINE, DEFAULT_RATE, s, 0, 0.7) for s in (STEPS // 8, STEPS)]
    toy = Surface("toy", table)
    assert toy.loss(toy.trial(BASELINE, DEFAULT_RATE, STEPS).v) == pytest.approx(0.7)
    assert BASELINE not in toy.optimizers
